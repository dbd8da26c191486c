"""A residual convolutional encoder of pictures with group normalisation (He et al., 2016; Wu and He, 2018)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlgen.nets.conv2d import Conv, max_pool


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    width: int
    stride: int
    groups: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B h w I"]) -> Float[Array, "B h/s w/s O"]:
        h = self._conv(3, self.stride, "first")(x)
        h = nn.relu(self._norm("first_norm")(h))
        h = self._norm("second_norm")(self._conv(3, 1, "second")(h))
        if x.shape[-1] != self.width or self.stride != 1:
            x = self._norm("shortcut_norm")(self._conv(1, self.stride, "shortcut")(x))
        return nn.relu(h + x)

    def _conv(self, size: int, stride: int, name: str) -> Conv:
        return Conv(self.width, size, stride, self.dtype, name=name)

    def _norm(self, name: str) -> nn.GroupNorm:
        return nn.GroupNorm(num_groups=self.groups, epsilon=1e-5, dtype=self.dtype, name=name)


class ResNet(nn.Module):
    """Pictures to a grid of features, a thirty-second of their height and width.

    Attributes:
      widths: channels of each stage; each halves height and width but the first.
      blocks: residual blocks of each stage.
      groups: groups of the normalisation, a divisor of every width.
      dtype: of activations; parameters are float32.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: int = 1
    groups: int = 8
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, pictures: Float[Array, "B h w C"]) -> Float[Array, "B h/32 w/32 W"]:
        """Features of pictures in [0, 255]."""
        if any(width % self.groups for width in self.widths):
            raise ValueError(f"widths {self.widths} in {self.groups} groups: expected multiples")
        x = pictures.astype(self.dtype) / 255 - 0.5
        stem = Conv(self.widths[0], 7, 2, self.dtype, name="stem")
        x = nn.GroupNorm(num_groups=self.groups, epsilon=1e-5, dtype=self.dtype, name="stem_norm")(stem(x))
        x = max_pool(nn.relu(x))
        for stage, width in enumerate(self.widths):
            for number in range(self.blocks):
                stride = 2 if stage and number == 0 else 1
                x = ResidualBlock(width, stride, self.groups, self.dtype, name=f"stage_{stage}_{number}")(x)
        return x
