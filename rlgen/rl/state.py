"""What PPO goes on from, and its optimisers."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Int, PRNGKeyArray

from rlgen.config import PPOConfig
from rlgen.policies.critic import Critic
from rlgen.policies.normalizer import Normalizer
from rlgen.policies.policy import Params, Policy
from rlgen.rl.scaling import RewardScaler, init_scaler
from rlgen.rl.schedules import constant, cosine


@struct.dataclass
class PPOState:
    """Everything that training goes on from.

    Attributes:
      net: the policy's parameters.
      critic: the critic's parameters.
      actor_optimizer, critic_optimizer: states of AdamW.
      normalizer: fitted by behaviour cloning, never trained.
      scaler: running statistics of the rewards.
      key: the run's randomness; an iteration uses it folded with its own number.
      iteration: iterations done.
      control_steps: control steps simulated for training.
      base: the cloned policy's parameters, where the chain or the loss needs them; else an empty dictionary.
    """

    net: Any
    critic: Any
    actor_optimizer: optax.OptState
    critic_optimizer: optax.OptState
    normalizer: Normalizer
    scaler: RewardScaler
    key: PRNGKeyArray
    iteration: Int[Array, ""]
    control_steps: Int[Array, ""]
    base: Any = struct.field(default_factory=dict)


def init_state(key: PRNGKeyArray, policy: Policy, critic: Critic, params: Params, config: PPOConfig) -> PPOState:
    """Starts from a cloned policy with a fresh critic."""
    key_critic, key_run = jax.random.split(key)
    net = jax.tree.map(jnp.asarray, params["net"])
    values = critic.init(key_critic)
    return PPOState(
        net=net,
        critic=values,
        actor_optimizer=actor_optimizer(config, policy).init(net),
        critic_optimizer=critic_optimizer(config, policy).init(values),
        normalizer=jax.tree.map(jnp.asarray, params["normalizer"]),
        scaler=init_scaler(config.environments),
        key=key_run,
        iteration=jnp.zeros((), jnp.int32),
        control_steps=jnp.zeros((), jnp.int32),
        base=jax.tree.map(jnp.copy, net) if needs_base(policy, config) else {},
    )


def needs_base(policy: Policy, config: PPOConfig) -> bool:
    """Whether the cloned policy is kept beside the trained one."""
    return config.bc_weight > 0 or getattr(policy, "frozen_steps", 0) > 0


def policy_params(state: PPOState) -> Params:
    """The policy's parameters, as the policy takes them."""
    return {"net": state.net, "normalizer": state.normalizer} | ({"base": state.base} if state.base else {})


def actor_optimizer(config: PPOConfig, policy: Policy) -> optax.GradientTransformation:
    """AdamW of the policy, whose schedule begins after the critic's warm-up."""
    return _optimizer(config, policy, config.actor_rate, config.iterations - config.critic_warmup)


def critic_optimizer(config: PPOConfig, policy: Policy) -> optax.GradientTransformation:
    """AdamW of the critic."""
    return _optimizer(config, policy, config.critic_rate, config.iterations)


def minibatch_shape(config: PPOConfig, policy: Policy, chunks: int) -> tuple[int, int, int]:
    """How an epoch over `chunks` chunks is cut.

    Pairs of a chunk and a position of its chain are drawn one by one, or, where encoding is dear, as all positions
    of a chunk at once, so that its pictures are encoded once.

    Returns:
      Minibatches, chunks in each, and positions of each of these.
    """
    together = policy.chain_steps if policy.encodes else 1
    available = chunks * policy.chain_steps // together
    rows = min(max(1, config.batch // together), available)
    return available // rows, rows, together


def _optimizer(config: PPOConfig, policy: Policy, peak: float, iterations: int) -> optax.GradientTransformation:
    """AdamW behind a clip of the global norm; the schedule counts the minibatches of `iterations`."""
    minibatches, _, _ = minibatch_shape(config, policy, config.environments * config.chunks)
    steps = max(1, iterations) * config.epochs * minibatches
    rate = constant(peak) if config.schedule == "constant" else cosine(peak, 0.1 * peak, steps)
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm), optax.adamw(rate, weight_decay=config.weight_decay)
    )
