"""Convolutions over a chunk as matrix products.

Chunks are a few actions long and a few dozen channels wide. A general convolution, above all its gradient, is slow at
that size on a CPU; what each output sees is therefore laid side by side and multiplied by one matrix. Arrays are
`[B, H, C]`; kernels are `[width, C_in, C_out]`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def neighbourhoods(x: Float[Array, "B H I"], width: int, stride: int = 1) -> Float[Array, "B H_out width*I"]:
    """What each output of a convolution sees, with `width // 2` zeros on either side of the chunk."""
    length = x.shape[1]
    padded = jnp.pad(x, ((0, 0), (width // 2, width // 2), (0, 0)))
    stop = stride * ((length - 1) // stride) + 1
    return jnp.concatenate([padded[:, tap : tap + stop : stride] for tap in range(width)], axis=-1)


@jax.custom_vjp
def convolve(x: Float[Array, "B H I"], kernel: Float[Array, "width I O"]) -> Float[Array, "B H O"]:
    """Cross-correlation of odd width with zeros around the chunk."""
    return _multiply(neighbourhoods(x, kernel.shape[0]), kernel.reshape(-1, kernel.shape[2]))


def _convolve_forward(x, kernel):
    return convolve(x, kernel), (x, kernel)


def _convolve_backward(saved, slope):
    """Both gradients are products with the neighbourhoods of the slope, which are laid out once."""
    x, kernel = saved
    width, size_in, size_out = kernel.shape
    around = neighbourhoods(slope, width)
    turned = kernel[::-1].transpose(0, 2, 1).reshape(width * size_out, size_in)
    by_kernel = jnp.einsum("bhi,bhk->ik", x, around).reshape(size_in, width, size_out)
    return _multiply(around, turned), by_kernel.transpose(1, 0, 2)[::-1]


convolve.defvjp(_convolve_forward, _convolve_backward)


def convolve_down(x: Float[Array, "B H I"], kernel: Float[Array, "width I O"]) -> Float[Array, "B H/2 O"]:
    """Cross-correlation of stride 2 with zeros around the chunk: half as long a chunk."""
    return _multiply(neighbourhoods(x, kernel.shape[0], 2), kernel.reshape(-1, kernel.shape[2]))


def convolve_up(x: Float[Array, "B H I"], kernel: Float[Array, "4 I O"]) -> Float[Array, "B 2*H O"]:
    """Transposed convolution of width 4, stride 2, padding 1: twice as long a chunk.

    Output 2j sees x[j-1] and x[j] through taps 3 and 1, output 2j+1 sees x[j] and x[j+1] through taps 2 and 0.
    """
    batch, length, _ = x.shape
    none = jnp.zeros_like(kernel[0])
    matrix = jnp.block([[kernel[3], none], [kernel[1], kernel[2]], [none, kernel[0]]])
    return _multiply(neighbourhoods(x, 3), matrix).reshape(batch, 2 * length, kernel.shape[2])


def write_out(kernel: Float[Array, "width I O"], length: int, stride: int = 1) -> Float[Array, "H*I H_out*O"]:
    """A whole convolution over a chunk of `length` as one matrix, from all its numbers to all of the result's."""
    outputs = np.arange((length - 1) // stride + 1)
    return _spread(kernel, np.arange(length)[:, None] - stride * outputs + kernel.shape[0] // 2)


def write_out_up(kernel: Float[Array, "4 I O"], length: int) -> Float[Array, "H*I 2*H*O"]:
    """The same for `convolve_up`."""
    return _spread(kernel, np.arange(2 * length) - 2 * np.arange(length)[:, None] + 1)


def _spread(kernel: Float[Array, "width I O"], taps: np.ndarray) -> Float[Array, "H*I H_out*O"]:
    """Puts tap `taps[h, j]` where position h meets output j, and zeros where there is no such tap."""
    width, size_in, size_out = kernel.shape
    picks = (taps[..., None] == np.arange(width)).astype(np.float32)
    matrix = jnp.einsum("hjk,kio->hijo", picks, kernel)
    return matrix.reshape(taps.shape[0] * size_in, taps.shape[1] * size_out)


def _multiply(x: Float[Array, "B H N"], matrix: Float[Array, "N O"]) -> Float[Array, "B H O"]:
    batch, length, size = x.shape
    return (x.reshape(batch * length, size) @ matrix).reshape(batch, length, -1)
