"""How likely a transition of the chain is."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlgen.diffusion.samplers import floored_sigma, transition_mean
from rlgen.diffusion.schedules import Chain

LOG_PROB_RANGE = (-5.0, 2.0)


def normal_log_prob(x: Float[Array, "*S"], mean: Float[Array, "*S"], sigma: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Log density of independent normals, one for each entry."""
    return -0.5 * jnp.square((x - mean) / sigma) - jnp.log(sigma) - 0.5 * math.log(2 * math.pi)


def transition_log_prob(
    chain: Chain,
    index: Int[Array, "*B"],
    x_prev: Float[Array, "*B H A"],
    x_next: Float[Array, "*B H A"],
    output: Float[Array, "*B H A"],
    sigma_min: float,
    clip_x0: float | None = 1.0,
) -> Float[Array, "*B H A"]:
    """Log density of `x_next` given `x_prev`, for each number of the chunk, not clamped.

    Args:
      chain: the chain.
      index: position of `x_prev`, 0 the noisiest.
      x_prev, x_next: the noisier and the cleaner point.
      output: the network's output at `x_prev`.
      sigma_min: floor of the standard deviation in the likelihood, above 0; it need not be the sampler's.
      clip_x0: as in the sampler.
    """
    mean = transition_mean(chain, index, x_prev, output, clip_x0)
    sigma = floored_sigma(chain, sigma_min)[index]
    return normal_log_prob(x_next, mean, sigma.reshape(sigma.shape + (1,) * (x_next.ndim - sigma.ndim)))


def clamp_log_prob(log_prob: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Log densities clamped to [-5, 2], so that no single number rules a ratio."""
    return jnp.clip(log_prob, *LOG_PROB_RANGE)
