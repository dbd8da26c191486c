"""Dense layers as one product of two matrices.

The gradient of a weight then is one, too. Where the tokens keep their batch axis, it sums over two axes, and a
CPU takes two to three times as long for it.
"""

from collections.abc import Sequence
from math import prod

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

Initializer = nn.initializers.Initializer


def project(x: Float[Array, "..."], kernel: Float[Array, "..."]) -> Float[Array, "..."]:
    """`[..., W]` times `[W, *out]` gives `[..., *out]`."""
    inputs = kernel.shape[0]
    y = x.reshape(-1, inputs) @ kernel.reshape(inputs, -1).astype(x.dtype)
    return y.reshape(*x.shape[:-1], *kernel.shape[1:])


class Dense(nn.Module):
    """A layer with `kernel` and `bias` in the shapes of Flax's own.

    Attributes:
      features: output axes, `[width]` or `[heads, head size]`.
      dtype: activations.
      axes: how many of the last input axes are summed over.
      kernel_init: of the kernel as a matrix.
      bias_init: of the bias.
    """

    features: Sequence[int]
    dtype: jnp.dtype = jnp.float32
    axes: int = 1
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        inputs, features = x.shape[x.ndim - self.axes :], tuple(self.features)
        matrix = (prod(inputs), prod(features))

        def init(key, shape, dtype=jnp.float32):
            return self.kernel_init(key, matrix, dtype).reshape(shape)

        kernel = self.param("kernel", init, (*inputs, *features))
        bias = self.param("bias", self.bias_init, features)
        x = x.astype(self.dtype).reshape(*x.shape[: x.ndim - self.axes], -1)
        return project(x, kernel.reshape(matrix[0], *features)) + bias.astype(self.dtype)
