"""Convolutions and pooling of pictures whose gradients are quick on CPUs too. Pictures are `[B, h, w, C]`.

Forward XLA's own convolution is the quickest there is. Its gradients within a loop are not, on CPUs: ten times as long
as the matrix products they amount to. Elsewhere they are left to the library.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Kernel = Float[Array, "k k I O"]


class Conv(nn.Module):
    """A convolution without bias, zeros around the picture.

    Attributes:
      features: channels of the result.
      size: of the kernel, odd.
      stride: of both axes.
      dtype: of the computation; the kernel is float32.
    """

    features: int
    size: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B h w I"]) -> Float[Array, "B h/s w/s O"]:
        """Convolves."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        return convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: Float[Array, "B h w I"], kernel: Kernel, stride: int) -> Float[Array, "B h/s w/s O"]:
    """Cross-correlation with a kernel of odd size, zeros around the picture."""
    return _correlate(x, kernel, stride)


def _forward(x, kernel, stride):
    return convolve(x, kernel, stride), (x, kernel)


def _backward(stride, saved, slope):
    return jax.lax.platform_dependent(
        *saved, slope, cpu=partial(_by_products, stride=stride), default=partial(_by_library, stride=stride)
    )


convolve.defvjp(_forward, _backward)


def _correlate(x: Array, kernel: Array, stride: int) -> Array:
    around = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(around, around)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _by_library(x: Array, kernel: Array, slope: Array, *, stride: int) -> tuple[Array, Array]:
    return jax.vjp(lambda x, kernel: _correlate(x, kernel, stride), x, kernel)[1](slope)


def _by_products(x: Array, kernel: Array, slope: Array, *, stride: int) -> tuple[Array, Array]:
    """Gradients by picture and kernel."""
    return _by_image(x, kernel, slope, stride), _by_kernel(x, kernel, slope, stride)


def _by_kernel(x: Array, kernel: Array, slope: Array, stride: int) -> Array:
    """A matrix product for each row of the kernel: of what its outputs see with the outputs' gradients."""
    size, _, channels, features = kernel.shape
    batch, height, width, _ = slope.shape
    around = size // 2
    padded = jnp.pad(x, ((0, 0), (around, around), (around, around), (0, 0)))
    lines = padded.reshape(batch, padded.shape[1], -1)
    # A run of memory for each output, which is several times faster to copy than one for each tap.
    starts = range(0, width * stride * channels, stride * channels)
    seen = jnp.stack([lines[:, :, start : start + size * channels] for start in starts], axis=2)
    rows = [seen[:, row : row + stride * (height - 1) + 1 : stride] for row in range(size)]
    # Written the other way round the product takes three times as long.
    products = jnp.stack([jnp.einsum("bhwo,bhwk->ok", slope, row) for row in rows])
    return products.reshape(size, features, size, channels).transpose(0, 2, 3, 1)


def _by_image(x: Array, kernel: Array, slope: Array, stride: int) -> Array:
    """The gradient, spread out to the picture's size, correlated with the turned kernel."""
    height, width = x.shape[1:3]
    spread = slope
    if stride > 1:
        spread = jnp.zeros((slope.shape[0], height, width, slope.shape[3]), slope.dtype)
        spread = spread.at[:, ::stride, ::stride].set(slope)
    return _correlate(spread, kernel[::-1, ::-1].transpose(0, 1, 3, 2), 1)


def max_pool(x: Float[Array, "B h w C"]) -> Float[Array, "B h/2 w/2 C"]:
    """The largest of 3 x 3, every second row and column, as pictures go on with nothing around them.

    The largest of slices and not of windows: the gradient of the latter takes several times as long on CPUs.
    """
    return _largest_of_three(_largest_of_three(x, 1), 2)


def _largest_of_three(x: Array, axis: int) -> Array:
    around = [(0, 0)] * x.ndim
    around[axis] = (1, 1)
    padded = jnp.pad(x, around, constant_values=-jnp.inf)
    last = x.shape[axis] - 1
    first, middle, third = (
        jax.lax.slice_in_dim(padded, start, start + last + 1, stride=2, axis=axis) for start in range(3)
    )
    return jnp.maximum(jnp.maximum(first, middle), third)
