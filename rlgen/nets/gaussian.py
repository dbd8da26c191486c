"""Perceptrons that say where a Gaussian is, and how wide."""

import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlgen.nets.activations import activation
from rlgen.nets.mlp import ResidualMLP

Spread = Literal["learned", "state", "fixed"]


def clamped_sigma(log_variance: Float[Array, "*S"], low: float, high: float) -> Float[Array, "*S"]:
    """Standard deviations of log variances, clamped to [`low`, `high`]."""
    return jnp.exp(0.5 * jnp.clip(log_variance, 2 * math.log(low), 2 * math.log(high)))


def squashed_sigma(output: Float[Array, "*S"], low: float, high: float) -> Float[Array, "*S"]:
    """Standard deviations from a network's output: tanh maps it to log variances of [`low`, `high`]."""
    smallest, largest = 2 * math.log(low), 2 * math.log(high)
    return jnp.exp(0.5 * (smallest + 0.5 * (largest - smallest) * (jnp.tanh(output) + 1)))


class GaussianMLP(nn.Module):
    """Mean of a chunk, by tanh in [-1, 1], and what its spread is made of.

    Attributes:
      size_out: numbers in a chunk.
      widths: hidden widths.
      residual: residual blocks, around which an even number of widths is needed where `spread` is `state` and an odd
        one elsewhere; otherwise plain layers with an activation after each.
      spread: with `state` a second output for the spread; otherwise none.
      activation: name of the activation.
    """

    size_out: int
    widths: tuple[int, ...] = (256, 256, 256)
    residual: bool = True
    spread: Spread = "learned"
    activation: str = "mish"

    @nn.compact
    def __call__(self, x: Float[Array, "*B I"]) -> tuple[Float[Array, "*B M"], Float[Array, "*B M"] | None]:
        """Mean, and the output for the spread where `spread` is `state`."""
        if self.spread != "state" and self.residual:
            return jnp.tanh(ResidualMLP(self.widths, self.size_out, self.activation, name="mean")(x)), None
        act = activation(self.activation)
        if self.residual:
            x = act(ResidualMLP(self.widths[:-1], self.widths[-1], self.activation, name="base")(x))
        else:
            for number, width in enumerate(self.widths):
                x = act(nn.Dense(width, name=f"base_{number}")(x))
        mean = jnp.tanh(nn.Dense(self.size_out, name="mean")(x))
        return mean, nn.Dense(self.size_out, name="spread")(x) if self.spread == "state" else None
