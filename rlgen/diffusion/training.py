"""The loss that teaches a network to denoise."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlgen.diffusion.schedules import Prediction, Schedule


def add_noise(
    schedule: Schedule, x0: Float[Array, "B H A"], noise: Float[Array, "B H A"], timestep: Int[Array, " B"]
) -> Float[Array, "B H A"]:
    """The clean chunk after `timestep` + 1 steps of noise, in one go."""
    signal, spread = _weights(schedule, timestep)
    return signal * x0 + spread * noise


def regression_target(
    schedule: Schedule,
    x0: Float[Array, "B H A"],
    noise: Float[Array, "B H A"],
    timestep: Int[Array, " B"],
    prediction: Prediction,
) -> Float[Array, "B H A"]:
    """What the network's output should be: the noise, the clean chunk, or the velocity of Salimans and Ho."""
    if prediction == "eps":
        return noise
    if prediction == "x0":
        return x0
    signal, spread = _weights(schedule, timestep)
    return signal * noise - spread * x0


def denoising_loss(
    predict: Callable[[Float[Array, "B H A"], Int[Array, " B"]], Float[Array, "B H A"]],
    schedule: Schedule,
    x0: Float[Array, "B H A"],
    noise: Float[Array, "B H A"],
    timestep: Int[Array, " B"],
    prediction: Prediction = "eps",
) -> Float[Array, ""]:
    """Mean squared error of the network over all entries."""
    output = predict(add_noise(schedule, x0, noise, timestep), timestep)
    return jnp.mean(jnp.square(output - regression_target(schedule, x0, noise, timestep, prediction)))


def _weights(schedule: Schedule, timestep: Int[Array, " B"]) -> tuple[Array, Array]:
    signal = jnp.asarray(schedule.alpha_bar)[timestep][:, None, None]
    return jnp.sqrt(signal), jnp.sqrt(1 - signal)
