"""Convolutions and pooling of images `[B, h, w, C]` whose gradients are fast on CPUs as well.

In the forward direction nothing is faster than XLA's own convolution. On CPUs its gradients within a loop take ten
times as long as the matrix products that they amount to; there, products are used. Other devices use the library's.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlgen.core.arrays import AnyArray

Kernel = Float[AnyArray, "k k I O"]


class Conv(nn.Module):
    """A convolution without bias, zeros around the image.

    Attributes:
      features: channels of the result.
      size: height and width of the kernel, odd.
      stride: of both axes.
      dtype: of the computation; the kernel is float32.
    """

    features: int
    size: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B h w I"]) -> Float[Array, "B h_out w_out O"]:
        """Returns the convolution of images, ceil(h / stride) by ceil(w / stride)."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        return convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: Float[Array, "B h w I"], kernel: Kernel, stride: int) -> Float[Array, "B h_out w_out O"]:
    """Computes the cross-correlation of images with a kernel of odd size.

    Args:
      x: images, padded with `k // 2` zeros on every side.
      kernel: of odd size k.
      stride: s, of both axes; the result is ceil(h / s) by ceil(w / s).
    """
    return _correlate(x, kernel, stride)


def _forward(x: Array, kernel: AnyArray, stride: int) -> tuple[Array, tuple[Array, AnyArray]]:
    return convolve(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    return jax.lax.platform_dependent(
        *saved, cotangent, cpu=partial(_by_products, stride=stride), default=partial(_by_library, stride=stride)
    )


convolve.defvjp(_forward, _backward)


def _correlate(x: Array, kernel: AnyArray, stride: int) -> Array:
    padding = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, jnp.asarray(kernel), (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _by_library(x: Array, kernel: Array, cotangent: Array, *, stride: int) -> tuple[Array, Array]:
    return jax.vjp(lambda x, kernel: _correlate(x, kernel, stride), x, kernel)[1](cotangent)


def _by_products(x: Array, kernel: Array, cotangent: Array, *, stride: int) -> tuple[Array, Array]:
    """Returns the gradients with respect to images and kernel."""
    return _by_image(x, kernel, cotangent, stride), _by_kernel(x, kernel, cotangent, stride)


def _by_kernel(x: Array, kernel: Array, cotangent: Array, stride: int) -> Array:
    """Returns the kernel's gradient: for each of its rows, the product of its outputs' inputs and their cotangents."""
    size, _, channels, features = kernel.shape
    batch, height, width, _ = cotangent.shape
    padding = size // 2
    padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    lines = padded.reshape(batch, padded.shape[1], -1)
    # Contiguous memory for each output, which is several times faster to copy than one slice for each tap.
    starts = range(0, width * stride * channels, stride * channels)
    patches = jnp.stack([lines[:, :, start : start + size * channels] for start in starts], axis=2)
    rows = [patches[:, row : row + stride * (height - 1) + 1 : stride] for row in range(size)]
    # With the operands swapped the product takes three times as long.
    products = jnp.stack([jnp.einsum("bhwo,bhwk->ok", cotangent, row) for row in rows])
    return products.reshape(size, features, size, channels).transpose(0, 2, 3, 1)


def _by_image(x: Array, kernel: Array, cotangent: Array, stride: int) -> Array:
    """Returns the images' gradient: the cotangent, dilated to the images' size, correlated with the flipped kernel."""
    height, width = x.shape[1:3]
    dilated = cotangent
    if stride > 1:
        dilated = jnp.zeros((cotangent.shape[0], height, width, cotangent.shape[3]), cotangent.dtype)
        dilated = dilated.at[:, ::stride, ::stride].set(cotangent)
    return _correlate(dilated, kernel[::-1, ::-1].transpose(0, 1, 3, 2), 1)


def max_pool(x: Float[Array, "B h w C"]) -> Float[Array, "B (h+1)//2 (w+1)//2 C"]:
    """Computes max pooling of size 3 and stride 2, padded with minus infinity.

    It takes the maximum of slices, not of windows, whose gradient takes several times as long on CPUs.
    """
    return _largest_of_three(_largest_of_three(x, 1), 2)


def _largest_of_three(x: Array, axis: int) -> Array:
    padding = [(0, 0)] * x.ndim
    padding[axis] = (1, 1)
    padded = jnp.pad(x, padding, constant_values=-jnp.inf)
    last = x.shape[axis] - 1
    first, middle, third = (
        jax.lax.slice_in_dim(padded, start, start + last + 1, stride=2, axis=axis) for start in range(3)
    )
    return jnp.maximum(jnp.maximum(first, middle), third)
