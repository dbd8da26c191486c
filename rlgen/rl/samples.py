"""The samples of a PPO iteration, made from its rollout: scaled rewards, advantages, chains of the cloned policy."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rlgen.configs.schema import PPOConfig
from rlgen.core.arrays import AnyArray
from rlgen.policies.base import Params, Policy, PolicyObservation
from rlgen.rl import losses
from rlgen.rl.numerics import check_finite
from rlgen.rl.rollout import Rollout, Transition
from rlgen.rl.train_state import PPOState, RewardScaler, policy_params, scale_rewards
from rlgen.training.processes import exchange
from rlgen.training.sharding import map_rows, one_copy, replicate, row_indices, shard_batch


@struct.dataclass
class Samples:
    """M chunks for the update, T of each of N environments.

    On a mesh everything that has more than a number for each chunk is cut by environments: row `place[i]` of it belongs
    to chunk i. Chunks have the same order on any number of devices.

    Attributes:
      observation: of each chunk.
      chain: points of its denoising chain.
      log_prob: log density of each transition when it was sampled.
      advantage: not yet normalized.
      returns: target of the critic, in scaled reward.
      value: the critic's value when it was executed.
      teacher: chains of the cloned policy, where there is a loss towards it.
      kept: chunks that count; those of episodes that failed do not. None for all.
      place: row of each chunk in observation, chain, log_prob, teacher and last; None where it is its own index.
      last: the two actions before each chunk, zeros at the start of an episode, where there is a loss for steadiness.
    """

    observation: PolicyObservation
    chain: Float[Array, "M K+1 H A"]
    log_prob: Float[Array, "M K H A"]
    advantage: Float[Array, " M"]
    returns: Float[Array, " M"]
    value: Float[Array, " M"]
    teacher: Float[Array, "M K+1 H A"] | None = None
    kept: Bool[Array, " M"] | None = None
    place: Int[Array, " M"] | None = None
    last: Float[Array, "M 2 A"] | None = None


def prepare(
    policy: Policy, config: PPOConfig, state: PPOState, rollout: Rollout, mesh: Mesh | None = None
) -> tuple[PPOState, Samples]:
    """Scales rewards and estimates advantages.

    Args:
      policy: the policy.
      config: of the training.
      state: of the training.
      rollout: T chunks of N environments.
      mesh: devices over which the samples are cut.

    Returns:
      The state with updated statistics of rewards, and M = T N samples.

    Raises:
      NonFiniteError: one of them is not finite.
    """
    steps = rollout.transitions
    # Every process has these numbers of all environments, and computes what one process would.
    scaler, *scaled = estimate(config, one_copy(mesh, state.scaler), steps)
    check_finite(**dict(zip(ESTIMATES, scaled, strict=True)))

    large = jax.tree.map(_typed, (steps.observation, steps.chain, steps.log_prob))
    ended = (steps.terminated | steps.truncated)[:, rollout.environments]
    last = _last_actions(policy, config, state, steps.chain, ended)
    numbers = [_flat(_typed(array)) for array in (*scaled[1:], steps.value)]
    # Only where it is needed: without it the update is another program.
    kept = _flat(np.asarray(_kept(steps))) if rollout.has_failures else None
    if mesh is None:
        samples = Samples(
            *jax.tree.map(jnp.asarray, [*jax.tree.map(_flat, large), *numbers]), kept=kept, last=_flat(last)
        )
    else:
        by_environment = jax.tree.map(lambda array: _flat(array.swapaxes(0, 1)), (*large, last))
        *numbers, kept, place = replicate(mesh, [*numbers, kept, _places(mesh, rollout)])
        *large, last = shard_batch(mesh, by_environment)
        samples = Samples(*large, *numbers, kept=kept, place=place, last=last)
    samples = _with_teacher(policy, config, state, samples, mesh)
    return replace(state, scaler=replicate(mesh, scaler)), samples


ESTIMATES = ("scaled_reward", "advantage", "returns")


def prepare_on_device(
    policy: Policy, config: PPOConfig, state: PPOState, steps: Transition
) -> tuple[PPOState, Samples, tuple[Bool[Array, ""], ...]]:
    """Does what `prepare` does within a compiled function.

    Args:
      policy: the policy.
      config: of the training.
      state: of the training.
      steps: T chunks of N environments.

    Returns:
      As `prepare` does, and for each of `ESTIMATES` whether it is finite.
    """
    scaler, *scaled = estimate(config, state.scaler, steps)
    large = (steps.observation, steps.chain, steps.log_prob, *scaled[1:], steps.value)
    last = _last_actions(policy, config, state, steps.chain, steps.terminated | steps.truncated)
    samples = Samples(*jax.tree.map(_flat, large), kept=_flat(_kept(steps)), last=_flat(last))
    samples = _with_teacher(policy, config, state, samples, None)
    return replace(state, scaler=scaler), samples, tuple(jnp.isfinite(array).all() for array in scaled)


def estimate(
    config: PPOConfig, scaler: RewardScaler, steps: Transition
) -> tuple[RewardScaler, Float[Array, "T N"], Float[Array, "T N"], Float[Array, "T N"]]:
    """Scales rewards and estimates advantages; those of failed episodes, whose rewards are 0, included.

    Args:
      config: of the training.
      scaler: statistics of the rewards before.
      steps: T chunks of N environments.

    Returns:
      The statistics after, and `ESTIMATES`.
    """
    ended = jnp.asarray(steps.terminated) | jnp.asarray(steps.truncated)
    first = jnp.concatenate([jnp.ones_like(ended[:1]), ended[:-1]])
    gamma = config.gamma if config.reward_gamma is None else config.reward_gamma
    scaler, reward = scale_rewards(scaler, jnp.asarray(steps.reward, jnp.float32), first, gamma)
    ends = (steps.terminated, steps.truncated)
    return scaler, reward, *losses.gae(reward, steps.value, steps.next_value, *ends, config.gamma, config.gae_lambda)


def _kept(steps: Transition) -> Bool[Array, "T N"]:
    """Returns which chunks belong to episodes that have not failed."""
    return ~losses.left_out(steps.failed, steps.terminated | steps.truncated)


def _with_teacher(policy: Policy, config: PPOConfig, state: PPOState, samples: Samples, mesh: Mesh | None) -> Samples:
    """Returns samples with chains of the cloned policy, where there is a loss towards it."""
    if config.bc_weight == 0:
        return samples
    key = jax.random.fold_in(jax.random.fold_in(state.key, 2), state.iteration)
    return replace(samples, teacher=_sample_teacher(policy, state, key, samples, mesh=mesh))


def _last_actions(
    policy: Policy,
    config: PPOConfig,
    state: PPOState,
    chain: Float[AnyArray, "T N points H A"],
    ended: Bool[AnyArray, "T N"],
) -> Float[Array, "T N 2 A"] | None:
    """Returns the last two actions before each chunk, where there is a loss for steadiness."""
    if config.steadiness_weight == 0:
        return None
    actions = policy.to_action(policy_params(state), jnp.asarray(chain[:, :, -1]))[:, :, : config.action_steps]
    before = jnp.where(jnp.asarray(ended)[:-1, :, None, None], 0.0, actions[:-1, :, -2:])
    return jnp.concatenate([jnp.zeros_like(actions[:1, :, -2:]), before])


def _typed(array: AnyArray) -> np.ndarray:
    """Returns images as bytes, and anything else in single precision."""
    values = np.asarray(array)
    return values if values.dtype == np.uint8 else values.astype(np.float32)


def _flat(array: Any) -> Any:
    """Returns the first two axes as one; None where there is no array."""
    return None if array is None else array.reshape(-1, *array.shape[2:])


def _places(mesh: Mesh, rollout: Rollout) -> Int[np.ndarray, " M"]:
    """Returns where on a mesh, cut by environments, the row of each chunk is."""
    chunks, environments = rollout.transitions.reward.shape
    place = np.empty(environments, np.int32)
    place[exchange(rollout.environments)] = exchange(row_indices(mesh, environments))
    return (place * chunks + np.arange(chunks, dtype=np.int32)[:, None]).ravel()


@partial(jax.jit, static_argnames=("policy", "mesh"))
def _sample_teacher(
    policy: Policy, state: PPOState, key: PRNGKeyArray, samples: Samples, mesh: Mesh | None
) -> Float[Array, "M points H A"]:
    """Samples a chain of the cloned policy for each observation."""
    keys = jax.random.split(key, samples.advantage.shape[0])
    if samples.place is not None:
        keys = keys.at[samples.place].set(keys)

    def chains(params: Params, rows: tuple[PolicyObservation, Array]) -> Array:
        def one(inputs: tuple[PolicyObservation, PRNGKeyArray]) -> Array:
            row, key = inputs
            return policy.sample(params, key, jax.tree.map(lambda array: array[None], row)).chain[0]

        return jax.lax.map(one, rows, batch_size=min(len(rows[1]), 256))

    params = {**policy_params(state), "net": state.base}
    return map_rows(mesh, chains)(params, (samples.observation, keys))
