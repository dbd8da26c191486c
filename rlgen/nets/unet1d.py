"""Conditional 1-D U-Net over an action chunk (Chi et al., 2023; Ren et al., 2024)."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlgen.nets.activations import activation
from rlgen.nets.conv1d import Conv1d, Downsample1d, GroupNorm1d, Upsample1d
from rlgen.nets.film import Film
from rlgen.nets.mlp import ResidualMLP
from rlgen.nets.time_embedding import TimeEmbedding


class ConvBlock(nn.Module):
    """Convolution, group normalisation, activation."""

    features: int
    width: int
    groups: int
    epsilon: float
    activation: str

    @nn.compact
    def __call__(self, x: Float[Array, "B H I"]) -> Float[Array, "B H features"]:
        x = Conv1d(self.features, self.width, name="conv")(x)
        x = GroupNorm1d(self.groups, self.epsilon, name="norm")(x)
        return activation(self.activation)(x)


class Unet1d(nn.Module):
    """Noise predictor with a U over the chunk; the timestep and the observation enter by FiLM in every block.

    Only the skip connections that an odd way up meets are used: with n levels there are n - 1 ways up, and the
    finest level's features have no partner.

    Attributes:
      dim: channels of the finest level.
      mults: channels of each level as multiples of `dim`; the chunk halves from one level to the next.
      time_size: width of the timestep's embedding.
      width: width of the convolutions, odd.
      groups: groups of the normalisation.
      epsilon: added to the variance in the normalisation.
      film_scale: whether FiLM scales as well as shifts.
      film_deep: three-layer FiLM encoders; not with `condition_widths`.
      condition_widths: hidden widths and output width of a residual perceptron on the observation, or None.
      activation: name of the activation.
    """

    dim: int = 32
    mults: Sequence[int] = (1, 2)
    time_size: int = 16
    width: int = 5
    groups: int = 8
    epsilon: float = 1e-5
    film_scale: bool = True
    film_deep: bool = False
    condition_widths: Sequence[int] | None = None
    activation: str = "mish"

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H A"], timestep: Int[Array, "*B"], condition: Float[Array, "B O"]
    ) -> Float[Array, "B H A"]:
        self._check(x.shape[1])
        condition = self._condition(timestep, condition)
        channels = [self.dim * multiple for multiple in self.mults]
        size_action, skips = x.shape[2], []
        for level, size in enumerate(channels):
            x = self._pair(x, condition, size, f"down_{level}")
            skips.append(x)
            if level + 1 < len(channels):
                x = Downsample1d(name=f"downsample_{level}")(x)
        x = self._pair(x, condition, channels[-1], "middle")
        for level in reversed(range(1, len(channels))):
            x = jnp.concatenate([x, skips[level]], axis=-1)
            x = self._pair(x, condition, channels[level - 1], f"up_{level}")
            x = Upsample1d(name=f"upsample_{level}")(x)
        x = self._block(self.dim, "last")(x)
        return Conv1d(size_action, 1, name="leave")(x)

    def _check(self, length: int) -> None:
        halvings = 2 ** (len(self.mults) - 1)
        if length % halvings:
            raise ValueError(
                f"a chunk of {length} actions with {len(self.mults)} levels: expected a multiple of {halvings}"
            )

    def _condition(self, timestep, observation):
        time = TimeEmbedding(self.time_size, 4 * self.time_size, name="time")(timestep)
        if self.condition_widths is not None:
            *hidden, size = self.condition_widths
            observation = ResidualMLP(hidden, size, self.activation, name="observation")(observation)
        time = jnp.broadcast_to(time, (observation.shape[0], self.time_size))
        return jnp.concatenate([time, observation], axis=-1)

    def _block(self, features: int, name: str) -> ConvBlock:
        return ConvBlock(features, self.width, self.groups, self.epsilon, self.activation, name=name)

    def _pair(self, x, condition, features: int, name: str):
        """Two residual blocks, each modulated between its convolutions."""
        for number in range(2):
            prefix = f"{name}_{number}"
            h = self._block(features, f"{prefix}_first")(x)
            deep = self.film_deep and self.condition_widths is None
            film = Film(features, self.film_scale, deep, self.activation, name=f"{prefix}_film")
            h = self._block(features, f"{prefix}_second")(film(h, condition))
            if x.shape[-1] != features:
                x = Conv1d(features, 1, name=f"{prefix}_shortcut")(x)
            x = x + h
        return x
