"""Perceptrons: a residual one, and a noise predictor made of it."""

import math
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlgen.nets.layers import Affine, TimeEmbedding, activation, affine


class ResidualBlock(nn.Module):
    """Two layers, each after its activation, around a shortcut."""

    width: int
    activation: str = "mish"

    @nn.compact
    def __call__(self, x: Float[Array, "*B width"]) -> Float[Array, "*B width"]:
        act = activation(self.activation)
        h = nn.Dense(self.width, name="first")(act(x))
        return x + nn.Dense(self.width, name="second")(act(h))


class ResidualMLP(nn.Module):
    """A layer in, residual blocks, a layer out, with nothing after it.

    Attributes:
      widths: hidden widths, all equal and odd in number: a layer in and a pair for every block.
      size_out: size of the result.
      activation: name of the activation.
    """

    widths: tuple[int, ...]
    size_out: int
    activation: str = "mish"

    @nn.compact
    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B size_out"]:
        if len(self.widths) % 2 == 0 or len(set(self.widths)) != 1:
            raise ValueError(f"hidden widths {tuple(self.widths)}: expected an odd number of equal ones")
        width = self.widths[0]
        x = nn.Dense(width, name="enter")(x)
        for number in range(len(self.widths) // 2):
            x = ResidualBlock(width, self.activation, name=f"block_{number}")(x)
        return nn.Dense(self.size_out, name="leave")(x)


class DiffusionMLP(nn.Module):
    """Noise predictor that reads the flattened chunk, the timestep's embedding and the condition.

    Attributes:
      action_size: numbers in an action, A.
      widths: hidden widths, all equal and odd in number.
      time_size: width of the timestep's embedding.
      activation: name of the activation.
    """

    action_size: int = 7
    widths: tuple[int, ...] = (384, 384, 384)
    time_size: int = 16
    activation: str = "mish"

    def __call__(
        self, x: Float[Array, "B H A"], timestep: Int[Array, "*B"], condition: Float[Array, "B O"]
    ) -> Float[Array, "B H A"]:
        """The network's output; one timestep for all, or one for each."""
        return self.prepare(condition, x.shape[1])(x, timestep)

    @nn.compact
    def prepare(
        self, condition: Float[Array, "B O"], length: int
    ) -> Callable[[Float[Array, "B H A"], Int[Array, "*B"]], Float[Array, "B H A"]]:
        """The network on one set of observations and chunks of `length`, as a function of chunk and timestep."""
        act, width = activation(self.activation), self.widths[0]
        size = length * self.action_size
        time = TimeEmbedding(self.time_size, 2 * self.time_size, name="time")()
        (by_chunk, by_time, by_condition), bias = Affine(width, name="enter")(size, self.time_size, condition.shape[-1])
        seen = condition @ by_condition + bias
        blocks = [
            (
                affine(Affine(width, name=f"block_{number}_first"), width),
                affine(Affine(width, name=f"block_{number}_second"), width),
            )
            for number in range(len(self.widths) // 2)
        ]
        leave = affine(Affine(size, name="leave"), width)

        def predict(x: Float[Array, "B H A"], timestep: Int[Array, "*B"]) -> Float[Array, "B H A"]:
            h = x.reshape(x.shape[0], -1) @ by_chunk + (time(timestep) @ by_time + seen)
            for first, second in blocks:
                h = h + second(act(first(act(h))))
            return leave(h).reshape(x.shape)

        return predict


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
