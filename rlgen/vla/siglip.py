"""The picture encoder: a SigLIP-style vision transformer. Parameter names are those of pi0's checkpoints."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlgen.vla.config import VisionConfig
from rlgen.vla.stem import ConvStem, space_to_depth


class PatchEmbedding(nn.Module):
    """Cuts patches and projects each: a convolution whose stride is its size.

    Written as a matrix product on the convolution's own kernel, whose gradient is far faster on a CPU.
    """

    patch: int
    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, pictures: Float[Array, "B h w 3"]) -> Float[Array, "B h/p w/p W"]:
        shape = (self.patch, self.patch, pictures.shape[-1], self.width)
        kernel = self.param("kernel", nn.initializers.lecun_normal(in_axis=(0, 1, 2)), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        cells = space_to_depth(pictures, self.patch).astype(self.dtype)
        return cells @ kernel.reshape(-1, self.width).astype(self.dtype) + bias.astype(self.dtype)


class MlpBlock(nn.Module):
    """Two dense layers with a tanh-GELU between."""

    hidden: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"]) -> Float[Array, "B T W"]:
        init = {"kernel_init": nn.initializers.xavier_uniform(), "bias_init": nn.initializers.normal(1e-6)}
        y = nn.Dense(self.hidden, dtype=self.dtype, **init)(x)
        return nn.Dense(x.shape[-1], dtype=self.dtype, **init)(nn.gelu(y, approximate=True))


class EncoderBlock(nn.Module):
    """A pre-norm transformer block; returns a pair because it is scanned over."""

    config: VisionConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"], _: None) -> tuple[Float[Array, "B T W"], None]:
        y = nn.LayerNorm(dtype=self.dtype)(x)
        attention = nn.MultiHeadDotProductAttention(
            self.config.heads, kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype
        )
        x = x + attention(y, y)
        y = nn.LayerNorm(dtype=self.dtype)(x)
        return x + MlpBlock(self.config.mlp, self.dtype)(y), None


class Encoder(nn.Module):
    """All blocks, with parameters stacked along a leading depth axis, and the last norm."""

    config: VisionConfig
    dtype: jnp.dtype
    unroll: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"]) -> Float[Array, "B T W"]:
        if self.config.depth:
            blocks = nn.scan(
                EncoderBlock,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=self.config.depth,
                unroll=self.config.depth if self.unroll else 1,
            )
            x, _ = blocks(self.config, self.dtype, name="encoderblock")(x, None)
        return nn.LayerNorm(dtype=self.dtype, name="encoder_norm")(x)


class SigLip(nn.Module):
    """Pictures to tokens of the language expert's width.

    Attributes:
      config: sizes.
      tokens: tokens of one picture.
      out_width: the language expert's width.
      dtype: activations.
      unroll: unroll the loop over blocks.
    """

    config: VisionConfig
    tokens: int
    out_width: int
    dtype: jnp.dtype
    unroll: bool = False

    def setup(self) -> None:
        c = self.config
        if c.stem == "linear":
            self.embedding = PatchEmbedding(c.patch, c.width, self.dtype)
        else:
            self.stem = ConvStem(c, self.dtype)
        position = nn.initializers.normal(1 / c.width**0.5)
        self.pos_embedding = self.param("pos_embedding", position, (1, self.tokens, c.width), jnp.float32)
        self.Transformer = Encoder(c, self.dtype, self.unroll)
        self.head = nn.Dense(self.out_width, dtype=self.dtype)

    def embed(self, pictures: Float[Array, "B h w 3"]) -> Float[Array, "B T W"]:
        """Patch tokens with their positions; `pictures` in [-1, 1]."""
        grid = self.embedding(pictures) if self.config.stem == "linear" else self.stem(pictures)
        return grid.reshape(grid.shape[0], -1, grid.shape[-1]) + self.pos_embedding.astype(self.dtype)

    def encode(self, pictures: Float[Array, "B h w 3"]) -> Float[Array, "B T W"]:
        """Tokens after the last norm, before the projection."""
        return self.Transformer(self.embed(pictures))

    def __call__(self, pictures: Float[Array, "B h w 3"]) -> Float[Array, "B T out"]:
        """Tokens for the language expert; `pictures` in [-1, 1]."""
        return self.head(self.encode(pictures))
