"""Rewards in units of the running spread of the discounted return."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float


@struct.dataclass
class RewardScaler:
    """What the scaler has seen.

    Attributes:
      running: discounted sum of rewards of each environment's present episode.
      mean, variance, count: of all discounted sums so far.
    """

    running: Float[Array, " N"]
    mean: Float[Array, ""]
    variance: Float[Array, ""]
    count: Float[Array, ""]


def init_scaler(environments: int) -> RewardScaler:
    """A scaler that has seen nothing: variance 1 with next to no weight."""
    return RewardScaler(
        running=jnp.zeros(environments), mean=jnp.zeros(()), variance=jnp.ones(()), count=jnp.full((), 1e-4)
    )


def scale_rewards(
    scaler: RewardScaler,
    reward: Float[Array, "T N"],
    first: Bool[Array, "T N"],
    gamma: float = 0.99,
    clip: float = 10.0,
    epsilon: float = 1e-8,
) -> tuple[RewardScaler, Float[Array, "T N"]]:
    """Takes in a rollout, then divides its rewards by the deviation seen so far.

    Args:
      scaler: what was seen before.
      reward: reward of each chunk.
      first: the chunk is the first of its episode.
      gamma: discount of the scaler's own return, which need not be the critic's.
      clip: scaled rewards are clamped to this magnitude.
      epsilon: added to the variance.
    """

    def step(running, inputs):
        reward, first = inputs
        running = reward + gamma * (1 - first) * running
        return running, running

    running, sums = jax.lax.scan(step, scaler.running, (reward, first.astype(reward.dtype)))
    mean, variance, count = _merge(scaler, sums)
    scaled = jnp.clip(reward / jnp.sqrt(variance + epsilon), -clip, clip)
    return RewardScaler(running=running, mean=mean, variance=variance, count=count), scaled


def _merge(scaler: RewardScaler, sums: Float[Array, "T N"]):
    """Moments of what was seen before and of `sums` together (Chan et al.), the variance over count - 1."""
    count = scaler.count + sums.size
    delta = sums.mean() - scaler.mean
    mean = scaler.mean + delta * sums.size / count
    between = delta**2 * scaler.count * sums.size / count
    squares = scaler.variance * scaler.count + sums.var() * sums.size + between
    return mean, squares / (count - 1), count
