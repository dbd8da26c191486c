"""A small vision transformer over overlapping patches, the picture encoder of the paper's ablation.

The stem is two convolutions (Hu et al., 2023; Ren et al., 2024), so that a picture becomes few tokens.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class PatchStem(nn.Module):
    """Convolutions of width 8 and stride 4, then of width 3 and stride 2, without padding."""

    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B T W"]:
        x = nn.Conv(self.width, (8, 8), 4, padding="VALID", dtype=self.dtype, name="first")(x)
        x = nn.Conv(self.width, (3, 3), 2, padding="VALID", dtype=self.dtype, name="second")(nn.relu(x))
        return x.reshape(x.shape[0], -1, self.width)


class SelfAttention(nn.Module):
    """Every token sees every other; queries, keys and values come from one projection."""

    heads: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"]) -> Float[Array, "B T W"]:
        batch, tokens, width = x.shape
        if width % self.heads:
            raise ValueError(f"{width} numbers a token for {self.heads} heads: expected a multiple")
        mixed = nn.Dense(3 * width, dtype=self.dtype, name="project")(x)
        query, key, value = jnp.moveaxis(mixed.reshape(batch, tokens, 3, self.heads, -1), 2, 0)
        scores = jnp.einsum("btnd,bsnd->bnts", query, key) / jnp.sqrt(query.shape[-1])
        weights = jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(self.dtype)
        seen = jnp.einsum("bnts,bsnd->btnd", weights, value).reshape(batch, tokens, width)
        return nn.Dense(width, dtype=self.dtype, name="leave")(seen)


class Vit(nn.Module):
    """Pictures to tokens.

    Attributes:
      width: numbers in a token.
      depth: transformer layers.
      heads: heads of their attention.
      dtype: of activations; parameters are float32.
    """

    width: int = 128
    depth: int = 1
    heads: int = 4
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, pictures: Float[Array, "B h w C"]) -> Float[Array, "B T W"]:
        """Tokens of pictures in [0, 255]."""
        x = PatchStem(self.width, self.dtype, name="stem")(pictures.astype(self.dtype) / 255 - 0.5)
        position = self.param("position", nn.initializers.normal(0.02), (1, x.shape[1], self.width))
        x = x + position.astype(self.dtype)
        for number in range(self.depth):
            norm = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=f"norm_{number}_attention")
            x = x + SelfAttention(self.heads, self.dtype, name=f"attention_{number}")(norm(x))
            h = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=f"norm_{number}_mlp")(x)
            h = nn.Dense(4 * self.width, dtype=self.dtype, name=f"mlp_{number}_widen")(h)
            x = x + nn.Dense(self.width, dtype=self.dtype, name=f"mlp_{number}_narrow")(nn.gelu(h, approximate=False))
        return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(x)
