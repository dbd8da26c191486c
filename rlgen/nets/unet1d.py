"""Conditional 1-D U-Net over an action chunk (Chi et al., 2023; Ren et al., 2024)."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlgen.nets.conv1d import ConvWeights, Flat, Layer, Layout, NormWeights, Rows
from rlgen.nets.layers import Film, Modulation, TimeEmbedding, Timestep, activation
from rlgen.nets.mlp import ResidualMLP

# Chunks of at most this many values at every level are kept flat; beyond it the zeros cost more than they save.
LARGEST_FLAT = 256

# Torch's default: uniform in +-1/sqrt(fan_in).
kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

Block = Callable[[Array, Modulation], Array]


class ConvParams(nn.Module):
    """The parameters of a convolution."""

    size_in: int
    size_out: int
    width: int

    @nn.compact
    def __call__(self) -> ConvWeights:
        """Returns kernel and bias."""
        kernel = self.param("kernel", kernel_init, (self.width, self.size_in, self.size_out))
        return ConvWeights(kernel, self.param("bias", nn.initializers.zeros, (self.size_out,)))


class NormParams(nn.Module):
    """The parameters of a group normalization."""

    channels: int
    groups: int
    epsilon: float

    @nn.compact
    def __call__(self) -> NormWeights:
        """Returns scale, bias and settings."""
        if self.channels % self.groups:
            raise ValueError(f"{self.channels} channels in {self.groups} groups: expected a multiple")
        scale = self.param("scale", nn.initializers.ones, (self.channels,))
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        return NormWeights(scale, bias, self.groups, self.epsilon)


class Unet1d(nn.Module):
    """A denoising U-Net over the chunk; the timestep and the observation enter every block by FiLM.

    With n levels there are n - 1 upsampling stages; features of the finest level on the way down are not used again.

    Attributes:
      action_size: A, length of an action.
      dim: channels of the finest level.
      mults: channels of each level as multiples of `dim`; the chunk halves from one level to the next.
      time_size: width of the timestep's embedding.
      width: width of the convolutions, odd.
      groups: groups of the normalization; None for no normalization, and none of its parameters.
      epsilon: added to the variance in the normalization.
      film_scale: whether FiLM scales as well as shifts.
      film_deep: three-layer FiLM encoders; not with `condition_widths`.
      condition_widths: hidden widths and output width of a residual MLP on the observation, or None for no MLP.
      activation: name of the activation.
      flat: whether chunks are flat in memory (`conv1d.Flat`); None decides by their size.
    """

    action_size: int = 7
    dim: int = 32
    mults: tuple[int, ...] = (1, 2)
    time_size: int = 16
    width: int = 5
    groups: int | None = 8
    epsilon: float = 1e-5
    film_scale: bool = True
    film_deep: bool = False
    condition_widths: tuple[int, ...] | None = None
    activation: str = "mish"
    flat: bool | None = None

    def __call__(
        self, x: Float[Array, "B H A"], timestep: Timestep, condition: Float[Array, "B O"]
    ) -> Float[Array, "B H A"]:
        """Returns the network's output.

        Args:
          x: noisy chunks; H is a multiple of 2 ** (levels - 1).
          timestep: one for all chunks, or one for each.
          condition: features of the observation of each chunk.
        """
        return self.prepare(condition, x.shape[1])(x, timestep)

    @nn.compact
    def prepare(
        self, condition: Float[Array, "B O"], length: int
    ) -> Callable[[Float[Array, "B H A"], Timestep], Float[Array, "B H A"]]:
        """Returns the network on given features and chunks of `length`, as a function of chunk and timestep.

        Whatever depends on neither is computed here, once for all steps of a chain.
        """
        channels, lengths = self._sizes(length)
        largest = max(size * count for size, count in zip(channels, lengths, strict=True))
        layout: type[Layout] = Flat if (self.flat if self.flat is not None else largest <= LARGEST_FLAT) else Rows
        blocks = self._blocks(layout, channels, lengths)
        down = [
            layout.down(ConvParams(size, size, 3, name=f"downsample_{level}")(), lengths[level])
            for level, size in enumerate(channels[:-1])
        ]
        up = [
            layout.up(
                ConvParams(channels[level - 1], channels[level - 1], 4, name=f"upsample_{level}")(), lengths[level]
            )
            for level in range(1, len(channels))
        ]
        last = self._block(layout, self.dim, self.dim, length, 1, "last")
        leave = layout.conv(ConvParams(self.dim, self.action_size, 1, name="leave")(), length)
        time = TimeEmbedding(self.time_size, 4 * self.time_size, name="time")()
        film = self._film(condition, channels)

        def predict(x: Float[Array, "B H A"], timestep: Timestep) -> Float[Array, "B H A"]:
            modulations, remaining = iter(film(time(timestep))), iter(blocks)
            skips = []

            def two_blocks(x: Array) -> Array:
                for _ in range(2):
                    x = next(remaining)(x, next(modulations))
                return x

            x = layout.enter(x)
            for level in range(len(channels)):
                x = two_blocks(x)
                skips.append(x)
                if level < len(down):
                    x = down[level](x)
            x = two_blocks(x)
            for level in reversed(range(1, len(channels))):
                x = up[level - 1](two_blocks(layout.join(x, skips[level])))
            return layout.leave(leave(last(x)), length)

        return predict

    def _sizes(self, length: int) -> tuple[list[int], list[int]]:
        """Returns channels and chunk length of every level."""
        halvings = 2 ** (len(self.mults) - 1)
        if length % halvings:
            raise ValueError(
                f"a chunk of {length} actions with {len(self.mults)} levels: expected a multiple of {halvings}"
            )
        return [self.dim * multiple for multiple in self.mults], [length >> level for level in range(len(self.mults))]

    def _blocks(self, layout: type[Layout], channels: list[int], lengths: list[int]) -> list[Block]:
        """Returns residual blocks in the order in which a chunk passes them, two at every stage."""
        stages = []
        for level, size in enumerate(channels):
            size_in = channels[level - 1] if level else self.action_size
            stages.append((f"down_{level}", size_in, size, lengths[level], 1))
        stages.append(("middle", channels[-1], channels[-1], lengths[-1], 1))
        for level in reversed(range(1, len(channels))):
            stages.append((f"up_{level}", 2 * channels[level], channels[level - 1], lengths[level], 2))
        blocks = []
        for name, size_in, size, length, parts in stages:
            blocks.append(self._residual_block(layout, size_in, size, length, parts, f"{name}_0"))
            blocks.append(self._residual_block(layout, size, size, length, 1, f"{name}_1"))
        return blocks

    def _residual_block(
        self, layout: type[Layout], size_in: int, size: int, length: int, parts: int, name: str
    ) -> Block:
        """Returns a block of two convolutions around a shortcut, modulated in between."""
        first = self._block(layout, size_in, size, length, parts, f"{name}_first")
        second = self._block(layout, size, size, length, 1, f"{name}_second")
        if size_in == size:
            shortcut = None
        else:
            shortcut = layout.conv(ConvParams(size_in, size, 1, name=f"{name}_shortcut")(), length, parts)

        def apply(x: Array, modulation: Modulation) -> Array:
            h = second(layout.modulate(first(x), modulation, length))
            return h + (x if shortcut is None else shortcut(x))

        return apply

    def _block(self, layout: type[Layout], size_in: int, size: int, length: int, parts: int, name: str) -> Layer:
        """Returns a convolution, group normalization if there is one, and activation."""
        conv = layout.conv(ConvParams(size_in, size, self.width, name=f"{name}_conv")(), length, parts)
        act = activation(self.activation)
        if self.groups is None:
            return lambda x: act(conv(x))
        norm = layout.norm(NormParams(size, self.groups, self.epsilon, name=f"{name}_norm")(), length)
        return lambda x: act(norm(conv(x)))

    def _film(
        self, observation: Float[Array, "B O"], channels: list[int]
    ) -> Callable[[Float[Array, "*B E"]], list[Modulation]]:
        """Returns the modulation of every block as a function of the timestep's embedding."""
        deep = self.film_deep and self.condition_widths is None
        if self.condition_widths is not None:
            *hidden, size = self.condition_widths
            observation = ResidualMLP(tuple(hidden), size, self.activation, name="observation")(observation)
        below = channels[-1:] + [channels[level - 1] for level in reversed(range(1, len(channels)))]
        each = tuple(size for size in [*channels, *below] for _ in range(2))
        film = Film(each, self.film_scale, deep, self.activation, name="film")
        return film(self.time_size, jnp.asarray(observation))
