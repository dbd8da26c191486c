"""Behavior cloning of a policy: many optimizer steps a call, and a state that resumes to the same bits."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rlgen.configs.schema import BCConfig
from rlgen.core.arrays import AnyArray
from rlgen.core.errors import UserError
from rlgen.core.types import ImageObservation
from rlgen.policies.base import Params, Policy, PolicyObservation
from rlgen.policies.normalizer import Normalizer, fit_normalizer
from rlgen.rl.train_state import cosine
from rlgen.training.sharding import cut_rows, cut_state


@struct.dataclass
class BCData:
    """Chunks of demonstrations: M observations, and what was commanded from there on.

    Attributes:
      observation: raw observations, vectors or image observations.
      chunk: actions in [-1, 1].
    """

    observation: PolicyObservation
    chunk: Float[AnyArray, "M H A"]


@struct.dataclass
class BCState:
    """Everything that training resumes from.

    Attributes:
      net: parameters that are trained.
      ema: their moving average, which is what acts.
      optimizer: state of AdamW.
      normalizer: fitted once, before the first step.
      key: the run's randomness; a step uses it folded with its own index.
      step: optimizer steps done.
    """

    net: Any
    ema: Any
    optimizer: optax.OptState
    normalizer: Normalizer
    key: PRNGKeyArray
    step: Int[Array, ""]


def chunk_data(
    observations: Sequence[Float[np.ndarray, "_ O"]], actions: Sequence[Float[np.ndarray, "_ A"]], horizon: int
) -> BCData:
    """Cuts a chunk from every step of every episode; past an episode's end its last action is repeated.

    Args:
      observations: for each episode, the observation before each action, `[T, O]`.
      actions: for each episode, the commanded actions, `[T, A]`.
      horizon: actions in a chunk, H.

    Raises:
      UserError: no episodes, or lengths that differ.
    """
    if not actions:
        raise UserError("0 demonstrations: expected one or more; collect demonstrations first")
    chunks = []
    for before, commanded in zip(observations, actions, strict=True):
        if len(before) != len(commanded):
            raise UserError(f"an episode of {len(before)} observations and {len(commanded)} actions: expected as many")
        index = np.minimum(np.arange(len(commanded))[:, None] + np.arange(horizon), len(commanded) - 1)
        chunks.append(np.asarray(commanded, np.float32)[index])
    return BCData(
        observation=np.concatenate([np.asarray(before, np.float32) for before in observations]),
        chunk=np.concatenate(chunks),
    )


def init_state(key: PRNGKeyArray, policy: Policy, config: BCConfig, data: BCData) -> BCState:
    """Returns fresh parameters, and a normalizer fitted on `data`.

    Args:
      key: the run's randomness.
      policy: the policy.
      config: of the training.
      data: of the demonstrations.
    """
    key_net, key_run = jax.random.split(key)
    vector = data.observation.vector if isinstance(data.observation, ImageObservation) else data.observation
    # The first action of every chunk is every action of the data once.
    normalizer = fit_normalizer(vector, data.chunk[:, 0], action_floor=config.action_floor)
    params = policy.init(key_net, normalizer)
    return BCState(
        net=params["net"],
        ema=params["net"],
        optimizer=_optimizer(config).init(params["net"]),
        normalizer=params["normalizer"],
        key=key_run,
        step=jnp.zeros((), jnp.int32),
    )


def policy_params(state: BCState) -> Params:
    """Returns the averaged parameters, as the policy takes them."""
    return {"net": state.ema, "normalizer": state.normalizer}


@partial(jax.jit, static_argnames=("policy", "config", "count", "mesh"))
def train_steps(
    policy: Policy, config: BCConfig, state: BCState, data: BCData, count: int, mesh: Mesh | None = None
) -> tuple[BCState, dict[str, Float[Array, ""]]]:
    """Trains `count` optimizer steps in one call.

    Args:
      policy: the policy.
      config: of the training.
      state: of the training.
      data: of the demonstrations; whole on every device of a mesh.
      count: optimizer steps.
      mesh: devices over which each batch is divided.

    Returns:
      The state, and `loss` and `grad_norm` as means over the steps.
    """
    optimizer = _optimizer(config)

    def step(state: BCState, _: None) -> tuple[BCState, dict[str, Array]]:
        key_batch, key_loss = jax.random.split(jax.random.fold_in(state.key, state.step))
        rows = cut_rows(mesh, jax.random.randint(key_batch, (config.batch,), 0, data.chunk.shape[0]))
        pairs = jax.tree.map(lambda array: jnp.asarray(array)[rows], (data.observation, data.chunk))
        observation, chunk = cut_rows(mesh, pairs)
        if policy.has_images:
            observation = cut_rows(mesh, policy.augment(jax.random.fold_in(key_loss, 1), observation))

        def loss_of(net: Any) -> Float[Array, ""]:
            return policy.bc_loss({"net": net, "normalizer": state.normalizer}, key_loss, observation, chunk)

        loss, grads = jax.value_and_grad(loss_of)(state.net)
        updates, opt_state = optimizer.update(grads, state.optimizer, state.net)
        net = optax.apply_updates(state.net, updates)
        # A young average forgets its random start faster: (1 + n) / (10 + n) until the decay is reached.
        decay = jnp.minimum(config.ema_decay, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update(net, state.ema, 1 - decay)
        metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
        state = replace(state, net=net, ema=ema, optimizer=opt_state, step=state.step + 1)
        return cut_state(mesh, state), metrics

    state, metrics = jax.lax.scan(step, state, length=count)
    return state, jax.tree.map(jnp.mean, metrics)


def _optimizer(config: BCConfig) -> optax.GradientTransformation:
    rate = cosine(config.learning_rate, config.learning_rate_end, config.optimizer_steps, config.warmup)
    adamw = optax.adamw(rate, weight_decay=config.weight_decay)
    if config.max_grad_norm is None:
        return adamw
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), adamw)
