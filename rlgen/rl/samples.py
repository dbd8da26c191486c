"""The samples of a PPO iteration, made from its rollout: scaled rewards, advantages, chains of the cloned policy."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rlgen.configs.schema import PPOConfig
from rlgen.core.arrays import AnyArray
from rlgen.policies.base import Params, Policy, PolicyObservation
from rlgen.rl import losses
from rlgen.rl.numerics import check_finite
from rlgen.rl.rollout import Rollout
from rlgen.rl.train_state import PPOState, policy_params, scale_rewards
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
      place: row of each chunk in observation, chain, log_prob and teacher; None where it is the chunk's own index.
    """

    observation: PolicyObservation
    chain: Float[Array, "M K+1 H A"]
    log_prob: Float[Array, "M K H A"]
    advantage: Float[Array, " M"]
    returns: Float[Array, " M"]
    value: Float[Array, " M"]
    teacher: Float[Array, "M K+1 H A"] | None = None
    place: Int[Array, " M"] | None = None


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
    first = np.ones(steps.reward.shape, bool)
    first[1:] = (steps.terminated | steps.truncated)[:-1]
    gamma = config.gamma if config.reward_gamma is None else config.reward_gamma
    # Every process has these numbers of all environments, and computes what one process would.
    scaler, reward = scale_rewards(one_copy(mesh, state.scaler), jnp.asarray(steps.reward, jnp.float32), first, gamma)
    ends = (steps.terminated, steps.truncated)
    advantage, returns = losses.gae(reward, steps.value, steps.next_value, *ends, config.gamma, config.gae_lambda)
    check_finite(scaled_reward=reward, advantage=advantage, returns=returns)

    large = jax.tree.map(_typed, (steps.observation, steps.chain, steps.log_prob))
    numbers = [_flat(_typed(array)) for array in (advantage, returns, steps.value)]
    if mesh is None:
        samples = Samples(*jax.tree.map(jnp.asarray, [*jax.tree.map(_flat, large), *numbers]))
    else:
        by_environment = jax.tree.map(lambda array: _flat(array.swapaxes(0, 1)), large)
        *numbers, place = replicate(mesh, [*numbers, _places(mesh, rollout)])
        samples = Samples(*shard_batch(mesh, by_environment), *numbers, place=place)
    if config.bc_weight > 0:
        key = jax.random.fold_in(jax.random.fold_in(state.key, 2), state.iteration)
        samples = replace(samples, teacher=_sample_teacher(policy, state, key, samples, mesh=mesh))
    return replace(state, scaler=replicate(mesh, scaler)), samples


def _typed(array: AnyArray) -> np.ndarray:
    """Returns images as bytes, and anything else in single precision."""
    values = np.asarray(array)
    return values if values.dtype == np.uint8 else values.astype(np.float32)


def _flat(array: np.ndarray) -> np.ndarray:
    """Returns the first two axes as one."""
    return array.reshape(-1, *array.shape[2:])


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
