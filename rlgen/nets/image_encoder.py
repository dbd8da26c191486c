"""The image encoder of a policy: a backbone for all cameras, a head for each, and the augmentation of its input.

`resnet` is a residual network with group normalization, followed by a spatial softmax that reads positions of features.
`vit` is the small vision transformer of DPPO (Ren et al., 2024), whose tokens are combined with learned weights. Names
of modules are names in checkpoints.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from rlgen.configs.schema import ImageEncoderConfig
from rlgen.core.arrays import AnyArray
from rlgen.nets.conv2d import Conv, max_pool


class ImageEncoder(nn.Module):
    """Features of the images of V cameras, followed by the robot's own state.

    Attributes:
      config: backbone and sizes.
      dtype: of activations; parameters and the result are float32.
    """

    config: ImageEncoderConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Shaped[AnyArray, "B V h w 3"], robot_state: Float[Array, "B P"]) -> Float[Array, "B C"]:
        """Returns features of each camera, then the robot's state; images are in [0, 255]."""
        batch, cameras = images.shape[:2]
        grid = self._backbone()(jnp.asarray(images).reshape(batch * cameras, *images.shape[2:]))
        grid = grid.reshape(batch, cameras, *grid.shape[1:])
        features = [self._head(camera, grid[:, camera], robot_state) for camera in range(cameras)]
        return jnp.concatenate([*features, robot_state], axis=-1).astype(jnp.float32)

    def _backbone(self) -> nn.Module:
        config = self.config
        if config.backbone == "vit":
            return Vit(config.token_size, config.depth, config.heads, self.dtype, name="backbone")
        return ResNet(config.widths, config.blocks, dtype=self.dtype, name="backbone")

    def _head(self, camera: int, grid: Array, robot_state: Float[Array, "B P"]) -> Float[Array, "B F"]:
        name = f"camera_{camera}"
        if self.config.backbone == "vit":
            return SpatialEmbedding(self.config.embedding_size, self.dtype, name=name)(grid, robot_state)
        return SpatialSoftmax(self.config.keypoints, self.dtype, name=name)(grid)


class ConvBlock(nn.Module):
    """A residual block: two 3 x 3 convolutions around a shortcut."""

    width: int
    stride: int
    groups: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B h w I"]) -> Float[Array, "B h_out w_out O"]:
        """Returns features, ceil(h / stride) by ceil(w / stride)."""
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
    """A residual network with group normalization (He et al., 2016; Wu and He, 2018).

    Its grid of features has a thirty-second of the height and width of the images.

    Attributes:
      widths: channels of each stage; each halves height and width but the first.
      blocks: residual blocks of each stage.
      groups: groups of the normalization, a divisor of every width.
      dtype: of activations; parameters are float32.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: int = 1
    groups: int = 8
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Shaped[Array, "B h w C"]) -> Float[Array, "B h_out w_out W"]:
        """Returns a grid of features of images in [0, 255]."""
        if any(width % self.groups for width in self.widths):
            raise ValueError(f"widths {self.widths} in {self.groups} groups: expected multiples")
        x = images.astype(self.dtype) / 255 - 0.5
        stem = Conv(self.widths[0], 7, 2, self.dtype, name="stem")
        x = nn.GroupNorm(num_groups=self.groups, epsilon=1e-5, dtype=self.dtype, name="stem_norm")(stem(x))
        x = max_pool(nn.relu(x))
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                stride = 2 if stage and block == 0 else 1
                x = ConvBlock(width, stride, self.groups, self.dtype, name=f"stage_{stage}_{block}")(x)
        return x


class PatchStem(nn.Module):
    """The patches of a vision transformer: convolutions of size 8, stride 4, then size 3, stride 2, without padding."""

    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B T W"]:
        """Returns one token for each of T patches."""
        x = nn.Conv(self.width, (8, 8), 4, padding="VALID", dtype=self.dtype, name="first")(x)
        x = nn.Conv(self.width, (3, 3), 2, padding="VALID", dtype=self.dtype, name="second")(nn.relu(x))
        return x.reshape(x.shape[0], -1, self.width)


class SelfAttention(nn.Module):
    """Self-attention whose queries, keys and values come from one projection."""

    heads: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"]) -> Float[Array, "B T W"]:
        """Returns a mixture of tokens for each token."""
        batch, tokens, width = x.shape
        if width % self.heads:
            raise ValueError(f"token size {width} for {self.heads} heads: expected a multiple")
        mixed = nn.Dense(3 * width, dtype=self.dtype, name="project")(x)
        query, key, value = jnp.moveaxis(mixed.reshape(batch, tokens, 3, self.heads, -1), 2, 0)
        scores = jnp.einsum("btnd,bsnd->bnts", query, key) / jnp.sqrt(query.shape[-1])
        weights = jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(self.dtype)
        mixed = jnp.einsum("bnts,bsnd->btnd", weights, value).reshape(batch, tokens, width)
        return nn.Dense(width, dtype=self.dtype, name="leave")(mixed)


class Vit(nn.Module):
    """A vision transformer over overlapping patches.

    Attributes:
      width: size of a token.
      depth: transformer layers.
      heads: heads of their attention.
      dtype: of activations; parameters are float32.
    """

    width: int = 128
    depth: int = 1
    heads: int = 4
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Shaped[Array, "B h w C"]) -> Float[Array, "B T W"]:
        """Returns tokens of images in [0, 255]."""
        x = PatchStem(self.width, self.dtype, name="stem")(images.astype(self.dtype) / 255 - 0.5)
        position = self.param("position", nn.initializers.normal(0.02), (1, x.shape[1], self.width))
        x = x + position.astype(self.dtype)
        for layer in range(self.depth):
            norm = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=f"norm_{layer}_attention")
            x = x + SelfAttention(self.heads, self.dtype, name=f"attention_{layer}")(norm(x))
            h = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=f"norm_{layer}_mlp")(x)
            h = nn.Dense(4 * self.width, dtype=self.dtype, name=f"mlp_{layer}_widen")(h)
            x = x + nn.Dense(self.width, dtype=self.dtype, name=f"mlp_{layer}_narrow")(nn.gelu(h, approximate=False))
        return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(x)


class SpatialEmbedding(nn.Module):
    """A weighted sum over channels, each projected together with the robot's state.

    Attributes:
      size: length of the result.
    """

    size: int = 128
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: Float[Array, "B T C"], state: Float[Array, "B P"]) -> Float[Array, "B {self.size}"]:
        """Returns a row of features for each row of tokens and the robot's state."""
        channels = jnp.swapaxes(tokens, 1, 2)
        beside = jnp.broadcast_to(state[:, None].astype(tokens.dtype), (*channels.shape[:2], state.shape[-1]))
        h = nn.Dense(self.size, dtype=self.dtype, name="project")(jnp.concatenate([channels, beside], axis=-1))
        h = nn.relu(nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(h))
        weight = self.param("weight", nn.initializers.normal(0.02), (channels.shape[1], self.size))
        return (weight.astype(self.dtype) * h).sum(axis=1)


class SpatialSoftmax(nn.Module):
    """Positions of learned features in the image: means under a spatial softmax (Levine et al., 2016).

    Attributes:
      points: number of features; the result has row and column of each, in [-1, 1].
    """

    points: int = 32
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, grid: Float[Array, "B h w C"]) -> Float[Array, "B 2*{self.points}"]:
        """Returns row and column of each feature, in [-1, 1]."""
        scores = nn.Dense(self.points, dtype=self.dtype, name="project")(grid)
        height, width = scores.shape[1:3]
        flat = scores.reshape(-1, height * width, self.points).astype(jnp.float32)
        weights = jax.nn.softmax(flat, axis=1)
        rows, columns = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
        positions = np.stack([rows.ravel(), columns.ravel()], axis=-1).astype(np.float32)
        return jnp.einsum("bsp,sc->bpc", weights, positions).reshape(len(flat), 2 * self.points)


def shift_images(images: Shaped[Array, "B h w C"], offset: Int[Array, "B 2"], pad: int) -> Shaped[Array, "B h w C"]:
    """Shifts images by whole pixels, repeating the edge; bytes stay bytes.

    Args:
      images: of any type.
      offset: of rows, then columns, each 0 to 2 `pad`; `pad` leaves an image where it is.
      pad: largest shift, pixels.
    """
    height, width = images.shape[1:3]
    # A gather of rows and columns instead of a padded copy and a slice of it: clamped indices repeat the edge.
    rows = jnp.clip(offset[:, :1] + jnp.arange(height) - pad, 0, height - 1)
    columns = jnp.clip(offset[:, 1:] + jnp.arange(width) - pad, 0, width - 1)
    return jax.vmap(lambda image, row, column: image[row][:, column])(images, rows, columns)


def random_shift(key: PRNGKeyArray, images: Shaped[Array, "*B h w C"], pad: int = 4) -> Shaped[Array, "*B h w C"]:
    """Shifts every image by its own random number of pixels (Yarats et al., 2021).

    Args:
      key: randomness.
      images: of any type and number.
      pad: largest shift in each direction, pixels.
    """
    if pad == 0:
        return images
    flat = images.reshape(-1, *images.shape[-3:])
    offset = jax.random.randint(key, (len(flat), 2), 0, 2 * pad + 1)
    return shift_images(flat, offset, pad).reshape(images.shape)
