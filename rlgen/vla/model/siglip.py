"""The image encoder: SigLIP's ViT by the parameter names of its checkpoints, and a convolutional stem for it."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlgen.vla.model.config import Remat, VisionConfig
from rlgen.vla.model.layers import Dense, project, recomputed


def space_to_depth(x: Float[Array, "B h w C"], block: int) -> Float[Array, "B h/b w/b b*b*C"]:
    """Folds blocks of `block` x `block` pixels into channels."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // block, block, w // block, block, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // block, w // block, block * block * c)


class ConvStem(nn.Module):
    """A convolutional stem: cells of pixels, then residual 3 x 3 convolutions that halve the grid down to the patches'.

    Its tokens lie on the same grid as patches of that size, and it learns from fewer images.
    """

    config: VisionConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images: Float[Array, "B h w 3"]) -> Float[Array, "B h/p w/p W"]:
        """Returns a grid of patch tokens of images in [-1, 1]."""
        channels, cell = self.config.stem_width, self.config.stem_cell

        def dense(width):
            return Dense([width], self.dtype, kernel_init=nn.initializers.he_normal())

        def norm(x):
            return nn.relu(nn.LayerNorm(dtype=self.dtype)(x))

        x = dense(channels)(space_to_depth(images, cell))
        while cell < self.config.patch:
            x = x + nn.Conv(channels, (3, 3), dtype=self.dtype)(norm(x))
            channels, cell = min(2 * channels, self.config.width), 2 * cell
            x = dense(channels)(space_to_depth(norm(x), 2))
        return Dense([self.config.width], self.dtype)(norm(x))


class PatchEmbedding(nn.Module):
    """A linear projection of patches, with the kernel of the equal convolution whose stride is its size."""

    patch: int
    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images: Float[Array, "B h w 3"]) -> Float[Array, "B h/p w/p W"]:
        """Returns a grid of patch tokens of images in [-1, 1]."""
        shape = (self.patch, self.patch, images.shape[-1], self.width)
        kernel = self.param("kernel", nn.initializers.lecun_normal(in_axis=(0, 1, 2)), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        cells = space_to_depth(images, self.patch).astype(self.dtype)
        return project(cells, kernel.reshape(-1, self.width)) + bias.astype(self.dtype)


class MlpBlock(nn.Module):
    """Two dense layers with a tanh-GELU between."""

    hidden: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"]) -> Float[Array, "B T W"]:
        """Returns new tokens, without the residual."""

        def dense(width, name):
            init, bias = nn.initializers.xavier_uniform(), nn.initializers.normal(1e-6)
            return Dense([width], self.dtype, kernel_init=init, bias_init=bias, name=name)

        y = nn.gelu(dense(self.hidden, "Dense_0")(x), approximate=True)
        return dense(x.shape[-1], "Dense_1")(y)


class MultiHeadDotProductAttention(nn.Module):
    """Self-attention in which every token attends to every other."""

    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"]) -> Float[Array, "B T W"]:
        """Returns new tokens, without the residual."""
        width, size = x.shape[-1], x.shape[-1] // self.heads

        def dense(features, name, axes=1):
            return Dense(features, self.dtype, axes, nn.initializers.xavier_uniform(), name=name)

        q, k, v = (dense((self.heads, size), name)(x) for name in ("query", "key", "value"))
        scores = jnp.einsum("btnd,bsnd->bnts", q * size**-0.5, k)
        mixed = jnp.einsum("bnts,bsnd->btnd", nn.softmax(scores, axis=-1), v)
        return dense((width,), "out", axes=2)(mixed)


class EncoderBlock(nn.Module):
    """A pre-norm transformer block; returns a pair because it is scanned over."""

    config: VisionConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"], _: None) -> tuple[Float[Array, "B T W"], None]:
        """Returns new tokens, and None for the scan."""
        attention = MultiHeadDotProductAttention(self.config.heads, self.dtype, name="MultiHeadDotProductAttention_0")
        x = x + attention(nn.LayerNorm(dtype=self.dtype, name="LayerNorm_0")(x))
        y = nn.LayerNorm(dtype=self.dtype, name="LayerNorm_1")(x)
        return x + MlpBlock(self.config.mlp, self.dtype, name="MlpBlock_0")(y), None


class Encoder(nn.Module):
    """All blocks, with parameters stacked along a leading depth axis, and the last norm."""

    config: VisionConfig
    dtype: jnp.dtype
    unroll: bool
    remat: Remat

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"]) -> Float[Array, "B T W"]:
        """Returns the tokens behind the last norm."""
        if self.config.depth:
            blocks = nn.scan(
                recomputed(EncoderBlock, self.remat),
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=self.config.depth,
                unroll=self.config.depth if self.unroll else 1,
            )
            x, _ = blocks(self.config, self.dtype, name="encoderblock")(x, None)
        return nn.LayerNorm(dtype=self.dtype, name="encoder_norm")(x)


class SigLip(nn.Module):
    """The encoder of images to tokens of the language expert's width.

    Attributes:
      config: sizes.
      tokens: tokens of one image.
      out_width: the language expert's width.
      dtype: type of activations.
      unroll: unroll the loop over blocks.
      remat: what is computed again in the backward pass.
    """

    config: VisionConfig
    tokens: int
    out_width: int
    dtype: jnp.dtype
    unroll: bool = False
    remat: Remat = False

    def setup(self) -> None:
        """Makes the stem, the position embedding, the blocks and the head."""
        c = self.config
        if c.stem == "linear":
            self.embedding = PatchEmbedding(c.patch, c.width, self.dtype)
        else:
            self.stem = ConvStem(c, self.dtype)
        position = nn.initializers.normal(1 / c.width**0.5)
        self.pos_embedding = self.param("pos_embedding", position, (1, self.tokens, c.width), jnp.float32)
        self.Transformer = Encoder(c, self.dtype, self.unroll, self.remat)
        self.head = Dense([self.out_width], self.dtype)

    def embed(self, images: Float[Array, "B h w 3"]) -> Float[Array, "B T W"]:
        """Returns patch tokens with their positions; `images` in [-1, 1]."""
        grid = self.embedding(images) if self.config.stem == "linear" else self.stem(images)
        return grid.reshape(grid.shape[0], -1, grid.shape[-1]) + self.pos_embedding.astype(self.dtype)

    def encode(self, images: Float[Array, "B h w 3"]) -> Float[Array, "B T W"]:
        """Returns tokens after the last norm, before the projection."""
        return self.Transformer(self.embed(images))

    def __call__(self, images: Float[Array, "B h w 3"]) -> Float[Array, "B T out"]:
        """Returns tokens for the language expert; `images` in [-1, 1]."""
        return self.head(self.encode(images))
