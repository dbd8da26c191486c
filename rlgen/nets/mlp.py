"""MLPs: a residual one, a denoising network over chunks, and the network of a Gaussian policy."""

import math
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from rlgen.nets.layers import Affine, TimeEmbedding, Timestep, activation, affine


class ResidualBlock(nn.Module):
    """Two layers, each after its activation, around a shortcut."""

    width: int
    activation: str = "mish"

    @nn.compact
    def __call__(self, x: Float[Array, "*B width"]) -> Float[Array, "*B width"]:
        """Returns features of the same width."""
        act = activation(self.activation)
        h = nn.Dense(self.width, name="first")(act(x))
        return x + nn.Dense(self.width, name="second")(act(h))


class ResidualMLP(nn.Module):
    """An MLP of an input layer, residual blocks and an output layer without activation.

    Attributes:
      widths: hidden widths, all equal and odd in number: one of the input layer and two of every block.
      size_out: size of the result.
      activation: name of the activation.
    """

    widths: tuple[int, ...]
    size_out: int
    activation: str = "mish"

    @nn.compact
    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B {self.size_out}"]:
        """Returns one row of outputs for each row of inputs."""
        if len(self.widths) % 2 == 0 or len(set(self.widths)) != 1:
            raise ValueError(f"hidden widths {tuple(self.widths)}: expected an odd number of equal ones")
        width = self.widths[0]
        x = nn.Dense(width, name="enter")(x)
        for index in range(len(self.widths) // 2):
            x = ResidualBlock(width, self.activation, name=f"block_{index}")(x)
        return nn.Dense(self.size_out, name="leave")(x)


class DiffusionMLP(nn.Module):
    """A denoising network that reads the flat chunk, the timestep's embedding and the condition.

    Attributes:
      action_size: A, length of an action.
      widths: hidden widths, all equal and odd in number.
      time_size: width of the timestep's embedding.
      activation: name of the activation.
    """

    action_size: int = 7
    widths: tuple[int, ...] = (384, 384, 384)
    time_size: int = 16
    activation: str = "mish"

    def __call__(
        self, x: Float[Array, "B H A"], timestep: Timestep, condition: Float[Array, "B O"]
    ) -> Float[Array, "B H A"]:
        """Returns the network's output.

        Args:
          x: noisy chunks.
          timestep: one for all chunks, or one for each.
          condition: features of the observation of each chunk.
        """
        return self.prepare(condition, x.shape[1])(x, timestep)

    @nn.compact
    def prepare(
        self, condition: Float[Array, "B O"], length: int
    ) -> Callable[[Float[Array, "B H A"], Timestep], Float[Array, "B H A"]]:
        """Returns the network on given features and chunks of `length`, as a function of chunk and timestep."""
        act, width = activation(self.activation), self.widths[0]
        size = length * self.action_size
        time = TimeEmbedding(self.time_size, 2 * self.time_size, name="time")()
        (by_chunk, by_time, by_condition), bias = Affine(width, name="enter")(size, self.time_size, condition.shape[-1])
        fixed = condition @ by_condition + bias
        blocks = [
            (
                affine(Affine(width, name=f"block_{index}_first"), width),
                affine(Affine(width, name=f"block_{index}_second"), width),
            )
            for index in range(len(self.widths) // 2)
        ]
        leave = affine(Affine(size, name="leave"), width)

        def predict(x: Float[Array, "B H A"], timestep: Timestep) -> Float[Array, "B H A"]:
            h = x.reshape(x.shape[0], -1) @ by_chunk + (time(timestep) @ by_time + fixed)
            for first, second in blocks:
                h = h + second(act(first(act(h))))
            return leave(h).reshape(x.shape)

        return predict


StdKind = Literal["learned", "state", "fixed"]


def clamped_sigma(log_variance: Float[ArrayLike, "*S"], low: float, high: float) -> Float[Array, "*S"]:
    """Returns the standard deviations of log variances, clamped to [`low`, `high`].

    Args:
      log_variance: log variances.
      low: smallest standard deviation, above 0.
      high: largest standard deviation.
    """
    return jnp.exp(0.5 * jnp.clip(log_variance, 2 * math.log(low), 2 * math.log(high)))


def squashed_sigma(output: Float[Array, "*S"], low: float, high: float) -> Float[Array, "*S"]:
    """Returns standard deviations in (`low`, `high`) of a network's output: its tanh is scaled to log variances.

    Args:
      output: any real numbers.
      low: smallest standard deviation, above 0.
      high: largest standard deviation.
    """
    smallest, largest = 2 * math.log(low), 2 * math.log(high)
    return jnp.exp(0.5 * (smallest + 0.5 * (largest - smallest) * (jnp.tanh(output) + 1)))


class GaussianMLP(nn.Module):
    """An MLP whose outputs are the mean of a chunk, by tanh in [-1, 1], and the input of its standard deviation.

    Attributes:
      size_out: H*A, length of a flat chunk.
      widths: hidden widths.
      residual: whether there are residual blocks, which need an even number of widths where `std_kind` is `state` and
        an odd one elsewhere; otherwise plain layers with an activation after each.
      std_kind: with `state` there is a second output for the standard deviation; otherwise there is none.
      activation: name of the activation.
    """

    size_out: int
    widths: tuple[int, ...] = (256, 256, 256)
    residual: bool = True
    std_kind: StdKind = "learned"
    activation: str = "mish"

    @nn.compact
    def __call__(self, x: Float[Array, "*B I"]) -> tuple[Float[Array, "*B M"], Float[Array, "*B M"] | None]:
        """Returns the mean, and the second output where `std_kind` is `state`, else None."""
        if self.std_kind != "state" and self.residual:
            return jnp.tanh(ResidualMLP(self.widths, self.size_out, self.activation, name="mean")(x)), None
        act = activation(self.activation)
        if self.residual:
            x = act(ResidualMLP(self.widths[:-1], self.widths[-1], self.activation, name="base")(x))
        else:
            for index, width in enumerate(self.widths):
                x = act(nn.Dense(width, name=f"base_{index}")(x))
        mean = jnp.tanh(nn.Dense(self.size_out, name="mean")(x))
        # "spread" is the layer's name in checkpoints.
        return mean, nn.Dense(self.size_out, name="spread")(x) if self.std_kind == "state" else None
