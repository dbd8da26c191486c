"""Sampling along a denoising chain, and the likelihood of its transitions."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from rlgen.core.arrays import AnyArray
from rlgen.diffusion.schedules import Chain

# The network at a point and a training timestep, one for all chunks; or at the time of a flow.
Predict = Callable[[Float[Array, "B H A"], Shaped[Array, ""]], Float[Array, "B H A"]]
# One for all chunks, or one for each.
StepIndex = Int[ArrayLike, "*#B"]


@struct.dataclass
class Noise:
    """The randomness of one sample: the initial point and the noise that each transition adds, before scaling.

    Attributes:
      initial: standard normal, the noisiest point.
      steps: standard normal, one for each step.
    """

    initial: Float[Array, "B H A"]
    steps: Float[Array, "K B H A"]

    def part(self, start: int, stop: int | None = None) -> "Noise":
        """Returns the randomness of steps `start` to `stop`."""
        return replace(self, steps=self.steps[start:stop])


@struct.dataclass
class DenoisingPath:
    """Every point along a chain, noisiest first, the last being the chunk, and the means they were drawn around."""

    points: Float[Array, "K+1 B H A"]
    means: Float[Array, "K B H A"]

    @property
    def chunk(self) -> Float[Array, "B H A"]:
        """The last point."""
        return self.points[-1]


def sample_noise(key: PRNGKeyArray, steps: int, shape: tuple[int, ...]) -> Noise:
    """Draws standard normal noise for a chain of `steps` steps over arrays of `shape`.

    Args:
      key: randomness.
      steps: of the chain.
      shape: of a batch of chunks, `(B, H, A)`.
    """
    noise = jax.random.normal(key, (steps + 1, *shape))
    return Noise(initial=noise[0], steps=noise[1:])


def predict_x0(
    chain: Chain, index: StepIndex, x: Float[AnyArray, "*B H A"], output: Float[Array, "*B H A"]
) -> Float[Array, "*B H A"]:
    """Returns the clean chunk that the network's `output` at `x` stands for, before any clamp.

    Args:
      chain: the chain.
      index: step of the chain, 0 the noisiest; one for all, or one for each leading entry of `x`.
      x: the current point.
      output: the network's output there.
    """
    return _at(chain.x0_from_x, index, x) * x + _at(chain.x0_from_output, index, x) * output


def transition_mean(
    chain: Chain,
    index: StepIndex,
    x: Float[AnyArray, "*B H A"],
    output: Float[Array, "*B H A"],
    clip_x0: float | None = 1.0,
) -> Float[Array, "*B H A"]:
    """Returns the mean of the next point given the network's `output` at `x`, for chains that are not multistep.

    Args:
      chain: the chain.
      index: step of the chain, 0 the noisiest; one for all, or one for each leading entry of `x`.
      x: the present point.
      output: the network's output there.
      clip_x0: the predicted clean chunk is clamped to this magnitude; gradients pass where it is not.
    """
    x0 = _clamped_x0(chain, index, x, output, clip_x0)
    return _at(chain.coef_x0, index, x) * x0 + _at(chain.coef_x, index, x) * x


def _clamped_x0(chain: Chain, index: StepIndex, x: AnyArray, output: Array, clip_x0: float | None) -> Array:
    x0 = predict_x0(chain, index, x, output)
    return x0 if clip_x0 is None or chain.flow else jnp.clip(x0, -clip_x0, clip_x0)


def floored_sigma(chain: Chain, floor: float) -> Float[Array, " K"]:
    """Returns standard deviations of at least `floor` at every step, the last one included."""
    return jnp.maximum(jnp.asarray(chain.sigma), floor)


def denoise(
    predict: Predict,
    chain: Chain,
    noise: Noise,
    sigma: Float[Array, " K"] | None = None,
    *,
    clip_x0: float | None = 1.0,
    clip_noise: float | None = 3.0,
    clip_final: float | None = None,
) -> DenoisingPath:
    """Denoises along the whole chain: x_{k+1} = mean(x_k, network(x_k, t_k)) + sigma_k * noise_k.

    Args:
      predict: the network at a point and a training timestep (a scalar).
      chain: the chain.
      noise: the randomness; `steps` is not read where `sigma` is None.
      sigma: standard deviation at each step; None adds no noise at all.
      clip_x0: see `transition_mean`.
      clip_noise: step noise is clamped to this many standard deviations; the initial noise is not.
      clip_final: the last point is clamped to this magnitude.
    """
    chex.assert_rank(noise.initial, 3)
    if sigma is not None:
        chex.assert_shape(sigma, (chain.steps,))
        chex.assert_shape(noise.steps, (chain.steps, *noise.initial.shape))
    step_noise = noise.steps
    if sigma is None:
        sigma, step_noise = jnp.zeros(chain.steps), jnp.zeros((chain.steps, *([1] * noise.initial.ndim)))
    elif clip_noise is not None:
        step_noise = jnp.clip(step_noise, -clip_noise, clip_noise)

    def step(carry: tuple[Array, Any], inputs: tuple[Array, ...]):
        x, last = carry
        index, timestep, scale, added = inputs
        x0 = _clamped_x0(chain, index, x, predict(x, timestep), clip_x0)
        mean = _at(chain.coef_x0, index, x) * x0 + _at(chain.coef_x, index, x) * x
        if is_multistep:
            mean, last = mean + _at(chain.coef_last, index, x) * last, x0
        following = mean + scale * added
        return (following, last), (following, mean)

    # Known while tracing, so that a chain of single steps carries nothing along.
    is_multistep = bool(np.any(chain.coef_last))
    inputs = (jnp.arange(chain.steps), jnp.asarray(chain.timestep), jnp.asarray(sigma), step_noise)
    start = (noise.initial, jnp.zeros_like(noise.initial) if is_multistep else None)
    _, (points, means) = jax.lax.scan(step, start, inputs)
    if clip_final is not None:
        points = points.at[-1].set(jnp.clip(points[-1], -clip_final, clip_final))
    return DenoisingPath(points=jnp.concatenate([noise.initial[None], points]), means=means)


def _at(values: Float[AnyArray, " K"], index: StepIndex, x: Float[AnyArray, "*B H A"]) -> Array:
    """Returns the chain's values at `index`, shaped to multiply `x`."""
    picked = jnp.asarray(values)[index]
    return picked.reshape(picked.shape + (1,) * (x.ndim - picked.ndim)) if picked.ndim else picked


LOG_PROB_RANGE = (-5.0, 2.0)


def normal_log_prob(
    x: Float[AnyArray, "*#S"], mean: Float[ArrayLike, "*#S"], sigma: Float[ArrayLike, "*#S"]
) -> Float[Array, "*S"]:
    """Returns the log density of independent normals, one for each entry.

    Args:
      x: values.
      mean: of each.
      sigma: standard deviation of each, above 0; shapes broadcast.
    """
    return -0.5 * jnp.square((x - mean) / sigma) - jnp.log(sigma) - 0.5 * math.log(2 * math.pi)


def transition_log_prob(
    chain: Chain,
    index: StepIndex,
    x_prev: Float[AnyArray, "*B H A"],
    x_next: Float[AnyArray, "*B H A"],
    output: Float[Array, "*B H A"],
    sigma_min: float,
    clip_x0: float | None = 1.0,
) -> Float[Array, "*B H A"]:
    """Returns the log density of `x_next` given `x_prev`, for each entry of the chunk, not clamped.

    Args:
      chain: the chain.
      index: step that leaves `x_prev`, 0 the noisiest.
      x_prev: the noisier point.
      x_next: the cleaner point.
      output: the network's output at `x_prev`.
      sigma_min: floor of the standard deviation in the likelihood, above 0; it may differ from the sampler's.
      clip_x0: as in the sampler.
    """
    chex.assert_equal_shape([x_prev, x_next, output])
    mean = transition_mean(chain, index, x_prev, output, clip_x0)
    sigma = floored_sigma(chain, sigma_min)[index]
    return normal_log_prob(x_next, mean, sigma.reshape(sigma.shape + (1,) * (x_next.ndim - sigma.ndim)))


def clamp_log_prob(log_prob: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Clamps log densities to [-5, 2], so that no single entry rules a ratio."""
    return jnp.clip(log_prob, *LOG_PROB_RANGE)
