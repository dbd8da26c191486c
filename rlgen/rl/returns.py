"""Advantages over action chunks. A chunk is one step here: its reward is the sum over its actions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def gae(
    reward: Float[Array, "T N"],
    value: Float[Array, "T N"],
    next_value: Float[Array, "T N"],
    terminated: Bool[Array, "T N"],
    truncated: Bool[Array, "T N"],
    gamma: float,
    lam: float,
) -> tuple[Float[Array, "T N"], Float[Array, "T N"]]:
    """Generalised advantage estimation (Schulman et al., 2016).

    An episode that terminated is worth nothing more. One that was cut off is worth what the critic says of the
    observation it was cut off at, not of the one that the next episode begins with. The trace stops at both.

    Args:
      reward: reward of each chunk.
      value: critic at the observation before each chunk.
      next_value: critic at the observation that the chunk led to; where an episode ended, its final observation.
      terminated: the episode ended in the chunk, by success or failure; `next_value` is not read there.
      truncated: the episode was cut off after the chunk. `terminated` wins where both are set.
      gamma: discount a chunk.
      lam: decay of the trace.

    Returns:
      Advantages, and returns (advantages plus values).
    """
    reward, value, next_value = jnp.asarray(reward), jnp.asarray(value), jnp.asarray(next_value)
    terminated, truncated = jnp.asarray(terminated, bool), jnp.asarray(truncated, bool)
    delta = reward + gamma * jnp.where(terminated, 0, next_value) - value
    keep = gamma * lam * ~(terminated | truncated)

    def step(trace, inputs):
        delta, keep = inputs
        trace = delta + keep * trace
        return trace, trace

    _, advantage = jax.lax.scan(step, jnp.zeros_like(delta[0]), (delta, keep), reverse=True)
    return advantage, advantage + value
