"""Perceptrons: a residual one, and a noise predictor made of it."""

from collections.abc import Callable

import flax.linen as nn
from jaxtyping import Array, Float, Int

from rlgen.nets.activations import activation
from rlgen.nets.affine import Affine, affine
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
