"""A convolutional stem: the same grid of tokens as patches of that size give, learnt from fewer pictures."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlgen.vla.config import VisionConfig
from rlgen.vla.linear import Dense


def space_to_depth(x: Float[Array, "B h w C"], block: int) -> Float[Array, "B h/b w/b b*b*C"]:
    """Folds blocks of `block` x `block` pixels into channels."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // block, block, w // block, block, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // block, w // block, block * block * c)


class ConvStem(nn.Module):
    """Cells of pixels, then residual 3 x 3 convolutions, halving the grid until it is the patch grid."""

    config: VisionConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, pictures: Float[Array, "B h w 3"]) -> Float[Array, "B h/p w/p W"]:
        channels, cell = self.config.stem_width, self.config.stem_cell

        def dense(width):
            return Dense([width], self.dtype, kernel_init=nn.initializers.he_normal())

        def norm(x):
            return nn.relu(nn.LayerNorm(dtype=self.dtype)(x))

        x = dense(channels)(space_to_depth(pictures, cell))
        while cell < self.config.patch:
            x = x + nn.Conv(channels, (3, 3), dtype=self.dtype)(norm(x))
            channels, cell = min(2 * channels, self.config.width), 2 * cell
            x = dense(channels)(space_to_depth(norm(x), 2))
        return Dense([self.config.width], self.dtype)(norm(x))
