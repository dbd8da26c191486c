"""Perceptrons: a residual one, and a noise predictor made of it."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlgen.nets.activations import activation
from rlgen.nets.time_embedding import TimeEmbedding


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

    widths: Sequence[int]
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
      widths: hidden widths of the residual perceptron.
      time_size: width of the timestep's embedding.
      activation: name of the activation.
    """

    widths: Sequence[int] = (384, 384, 384)
    time_size: int = 16
    activation: str = "mish"

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H A"], timestep: Int[Array, "*B"], condition: Float[Array, "B O"]
    ) -> Float[Array, "B H A"]:
        time = TimeEmbedding(self.time_size, 2 * self.time_size, name="time")(timestep)
        time = jnp.broadcast_to(time, (x.shape[0], self.time_size))
        inputs = jnp.concatenate([x.reshape(x.shape[0], -1), time, condition], axis=-1)
        size = x.shape[1] * x.shape[2]
        return ResidualMLP(self.widths, size, self.activation, name="trunk")(inputs).reshape(x.shape)
