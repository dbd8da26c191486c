"""Flow matching with one direction of time: t = 1 is noise, t = 0 is data."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Actions = Float[Array, "B H A"]


def time_features(t: Float[Array, " B"], size: int) -> Float[Array, "B size"]:
    """Sines, then cosines of `t` at periods from 0.004 to 4, evenly spaced in their logarithm."""
    period = 4e-3 * (4.0 / 4e-3) ** jnp.linspace(0.0, 1.0, size // 2)
    # The order of these products is part of the definition: 250 turns per unit leave few float32 digits.
    angle = t[:, None] * (1.0 / period * 2 * jnp.pi)[None]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def training_time(uniform: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Flow times for training from uniform numbers: Beta(1.5, 1), which favours noise, moved into [0.001, 1]."""
    # The distribution function of Beta(1.5, 1) is t ** 1.5; its inverse draws from it.
    return uniform ** (1 / 1.5) * 0.999 + 0.001


def noisy_actions(actions: Actions, noise: Actions, t: Float[Array, " B"]) -> Actions:
    """The point at time `t` on the line from `actions` (t = 0) to `noise` (t = 1)."""
    t = t[:, None, None]
    return t * noise + (1 - t) * actions


def flow_target(actions: Actions, noise: Actions) -> Actions:
    """The velocity dx/dt along that line."""
    return noise - actions


def euler(velocity: Callable[[Actions, Float[Array, ""]], Actions], noise: Actions, steps: int | Array) -> Actions:
    """Walks from noise at t = 1 to actions at t = 0 in equal steps.

    Args:
      velocity: dx/dt at `(x, t)`.
      noise: where to start.
      steps: number of steps, 1 or more; one compiled program serves any.
    """
    dt = jnp.float32(-1.0) / steps

    def step(_, carry):
        x, t = carry
        return x + dt * velocity(x, t), t + dt

    # Time adds up in float32 as in pi0's loop, which stops after the same number of steps.
    x, _ = jax.lax.fori_loop(0, steps, step, (noise, jnp.float32(1.0)))
    return x
