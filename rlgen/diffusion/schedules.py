"""Noise schedules, and denoising chains as data.

A chain is a handful of arrays with one entry per position, noisiest first. Every sampler that this project knows
moves from `x` to the mean `coef_x0 * x0 + coef_x * x + coef_last * last` and adds `sigma` times normal noise, where
`x0` is the network's guess of the clean action, `x0 = x0_from_x * x + x0_from_output * output`, and `last` the guess
at the step before, which only the solvers of `rlgen.diffusion.solvers` read. DDPM, DDIM of any eta, DPM-Solver++
and any kind of network output differ in these numbers only, so that one sampler and one likelihood serve all of them.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, Shaped

from rlgen.core.arrays import AnyArray

Prediction = Literal["eps", "x0", "v"]


@struct.dataclass
class Schedule:
    """A noise schedule of K training steps; index 0 is the least noisy.

    Attributes:
      beta: variance added at a step, in (0, 0.999].
      alpha_bar: fraction of the signal's variance that is left, in (0, 1), falling.
      alpha_bar_prev: the same one step earlier; 1 at index 0.
    """

    beta: Float[AnyArray, " K"]
    alpha_bar: Float[AnyArray, " K"]
    alpha_bar_prev: Float[AnyArray, " K"]

    @property
    def steps(self) -> int:
        """K, the number of steps."""
        return self.beta.shape[0]


@struct.dataclass
class Chain:
    """A denoising chain of K steps, noisiest first. Slicing every array gives a part of the chain.

    Attributes:
      timestep: the training timestep that the network is given, or the time of a flow.
      alpha_bar: fraction of the signal's variance before the step.
      alpha_bar_prev: the same after it; 1 after the last.
      sigma: standard deviation of the transition before any floor.
      x0_from_x, x0_from_output: `x0 = x0_from_x * x + x0_from_output * output`.
      coef_x0, coef_x, coef_last: mean of the next point is `coef_x0 * x0 + coef_x * x + coef_last * last`.
      flow: the prediction is a flow's velocity and not a clean action, and is never clamped.
    """

    timestep: Int[AnyArray, " K"] | Float[AnyArray, " K"]
    alpha_bar: Float[AnyArray, " K"]
    alpha_bar_prev: Float[AnyArray, " K"]
    sigma: Float[AnyArray, " K"]
    x0_from_x: Float[AnyArray, " K"]
    x0_from_output: Float[AnyArray, " K"]
    coef_x0: Float[AnyArray, " K"]
    coef_x: Float[AnyArray, " K"]
    coef_last: Float[AnyArray, " K"]
    flow: bool = struct.field(pytree_node=False, default=False)

    @property
    def steps(self) -> int:
        """K, the number of steps."""
        return self.timestep.shape[0]

    def part(self, start: int, stop: int | None = None) -> "Chain":
        """Returns steps `start` to `stop` as a chain of their own."""
        return jax.tree.map(lambda array: array[start:stop], self)


def cosine_schedule(steps: int, s: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """Returns the squared-cosine schedule of Nichol and Dhariwal (2021).

    Args:
      steps: number of training steps K, 1 or more.
      s: offset that keeps the first steps from being too small.
      max_beta: largest step variance.
    """
    if steps < 1:
        raise ValueError(f"a schedule of {steps} steps: expected 1 or more")
    grid = np.linspace(0, steps + 1, steps + 1)
    signal = np.cos((grid / (steps + 1) + s) / (1 + s) * np.pi / 2) ** 2
    beta = np.clip(1 - signal[1:] / signal[:-1], 0, max_beta).astype(np.float32)
    # Rounded to float32 before the product and once after it, as where published policies were trained.
    alpha_bar = np.cumprod((np.float32(1) - beta).astype(np.float64)).astype(np.float32)
    previous = np.concatenate([np.ones(1, np.float32), alpha_bar[:-1]])
    return Schedule(beta=beta, alpha_bar=alpha_bar, alpha_bar_prev=previous)


def ddim_chain(schedule: Schedule, steps: int, eta: float = 1.0, prediction: Prediction = "eps") -> Chain:
    """Returns the chain of DDIM (Song et al., 2021) with leading spacing: timesteps `(K // n) * (n - 1 - i)`.

    Args:
      schedule: the training schedule of K steps.
      steps: length n of the chain, 1 to K.
      eta: 0 is deterministic, 1 has the variance of ancestral sampling.
      prediction: what the network's output means.
    """
    if not 1 <= steps <= schedule.steps:
        raise ValueError(f"a chain of {steps} steps: expected 1 to {schedule.steps}, the schedule's length")
    stride = schedule.steps // steps
    timestep = stride * np.arange(steps)
    signal = np.asarray(schedule.alpha_bar, np.float64)[timestep]
    cleaner = np.concatenate([[1.0], signal[:-1]])
    sigma = eta * np.sqrt((1 - cleaner) / (1 - signal) * (1 - signal / cleaner))
    # The direction's weight on eps, with eps recomputed from x and x0, is a weight on x and one on x0.
    coef_x = np.sqrt(np.maximum(1 - cleaner - sigma**2, 0)) / np.sqrt(1 - signal)
    coef_x0 = np.sqrt(cleaner) - coef_x * np.sqrt(signal)
    return make_chain(timestep, signal, cleaner, sigma, coef_x0, coef_x, prediction)


def ddpm_chain(schedule: Schedule, prediction: Prediction = "eps") -> Chain:
    """Returns the chain of ancestral sampling (Ho et al., 2020): every training step, from the last to the first."""
    beta, signal, cleaner = (
        np.asarray(array, np.float64) for array in (schedule.beta, schedule.alpha_bar, schedule.alpha_bar_prev)
    )
    variance = beta * (1 - cleaner) / (1 - signal)
    coef_x0 = beta * np.sqrt(cleaner) / (1 - signal)
    coef_x = (1 - cleaner) * np.sqrt(1 - beta) / (1 - signal)
    timestep = np.arange(schedule.steps)
    return make_chain(timestep, signal, cleaner, np.sqrt(np.maximum(variance, 1e-20)), coef_x0, coef_x, prediction)


def make_chain(
    timestep: Shaped[np.ndarray, " K"],
    signal: Float[np.ndarray, " K"],
    cleaner: Float[np.ndarray, " K"],
    sigma: Float[np.ndarray, " K"],
    coef_x0: Float[np.ndarray, " K"],
    coef_x: Float[np.ndarray, " K"],
    prediction: Prediction,
    coef_last: Float[np.ndarray, " K"] | None = None,
) -> Chain:
    """Returns a chain of arrays `[K]`, given cleanest first.

    Args:
      timestep: the training timestep that the network is given; arrays as of `Chain`.
      signal: `alpha_bar`.
      cleaner: `alpha_bar_prev`.
      sigma: standard deviation of the transition.
      coef_x0: weight of the clean chunk in the mean.
      coef_x: weight of the current point in the mean.
      prediction: what the network's output means.
      coef_last: weight of the clean chunk predicted at the step before; zeros by default.
    """

    def noisiest_first(array: np.ndarray) -> Float[np.ndarray, " K"]:
        return array[::-1].astype(np.float32)

    x0_from_x, x0_from_output = _x0_coefficients(signal, prediction)
    return Chain(
        timestep=timestep[::-1].astype(np.int32),
        alpha_bar=noisiest_first(signal),
        alpha_bar_prev=noisiest_first(cleaner),
        sigma=noisiest_first(sigma),
        x0_from_x=noisiest_first(x0_from_x),
        x0_from_output=noisiest_first(x0_from_output),
        coef_x0=noisiest_first(coef_x0),
        coef_x=noisiest_first(coef_x),
        coef_last=noisiest_first(np.zeros_like(signal) if coef_last is None else coef_last),
    )


def _x0_coefficients(signal: np.ndarray, prediction: Prediction) -> tuple[np.ndarray, np.ndarray]:
    if prediction == "eps":
        return 1 / np.sqrt(signal), -np.sqrt(1 / signal - 1)
    if prediction == "x0":
        return np.zeros_like(signal), np.ones_like(signal)
    if prediction == "v":
        return np.sqrt(signal), -np.sqrt(1 - signal)
    raise ValueError(f"prediction {prediction!r}: expected one of 'eps', 'x0', 'v'")


def add_noise(
    schedule: Schedule, x0: Float[AnyArray, "B H A"], noise: Float[AnyArray, "B H A"], timestep: Int[AnyArray, " B"]
) -> Float[Array, "B H A"]:
    """Adds `timestep` + 1 steps of noise to a clean chunk at once: sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) noise.

    Args:
      schedule: the noise schedule.
      x0: clean chunks.
      noise: standard normal.
      timestep: of each chunk, 0 to K - 1.
    """
    signal, std = _weights(schedule, timestep)
    return signal * x0 + std * noise


def regression_target(
    schedule: Schedule,
    x0: Float[AnyArray, "B H A"],
    noise: Float[AnyArray, "B H A"],
    timestep: Int[AnyArray, " B"],
    prediction: Prediction,
) -> Float[AnyArray, "B H A"]:
    """Returns the target of the network's output: the noise, the clean chunk, or the velocity (Salimans and Ho, 2022).

    Args:
      schedule: the noise schedule.
      x0: clean chunks.
      noise: standard normal.
      timestep: of each chunk.
      prediction: what the network's output means.
    """
    if prediction == "eps":
        return noise
    if prediction == "x0":
        return x0
    signal, std = _weights(schedule, timestep)
    return signal * noise - std * x0


def denoising_loss(
    predict: Callable[[Float[Array, "B H A"], Int[AnyArray, " B"]], Float[Array, "B H A"]],
    schedule: Schedule,
    x0: Float[AnyArray, "B H A"],
    noise: Float[AnyArray, "B H A"],
    timestep: Int[AnyArray, " B"],
    prediction: Prediction = "eps",
) -> Float[Array, ""]:
    """Computes the mean squared error of the network's output over all entries.

    Args:
      predict: the network as a function of noisy chunks and timesteps.
      schedule: the noise schedule.
      x0: clean chunks.
      noise: standard normal.
      timestep: of each chunk.
      prediction: what the network's output means.
    """
    output = predict(add_noise(schedule, x0, noise, timestep), timestep)
    return jnp.mean(jnp.square(output - regression_target(schedule, x0, noise, timestep, prediction)))


def _weights(schedule: Schedule, timestep: Int[AnyArray, " B"]) -> tuple[Array, Array]:
    signal = jnp.asarray(schedule.alpha_bar)[timestep][:, None, None]
    return jnp.sqrt(signal), jnp.sqrt(1 - signal)
