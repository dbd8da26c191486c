"""Convolutions over a chunk.

Chunks are a few actions long and a few dozen channels wide. On a CPU a general convolution is as fast as a plain matrix
product at that size, but its gradient by the kernel is not: there, what each output sees is laid side by side and
multiplied. Arrays are `[B, H, C]`; kernels are `[width, C_in, C_out]`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float


def neighbourhoods(x: Float[Array, "B H I"], width: int) -> Float[Array, "B H width*I"]:
    """What each output of a convolution sees, with `width // 2` zeros on either side of the chunk."""
    batch, length, size = x.shape
    around = width // 2 * size
    padded = jnp.pad(x.reshape(batch, length * size), ((0, 0), (around, around)))
    # A run of memory for each output, which is several times faster to copy than one for each tap.
    starts = range(0, length * size, size)
    return jnp.stack([padded[:, start : start + width * size] for start in starts], axis=1)


@jax.custom_vjp
def convolve(x: Float[Array, "B H I"], kernel: Float[Array, "width I O"]) -> Float[Array, "B H O"]:
    """Cross-correlation of odd width with zeros around the chunk."""
    return _correlate(x, kernel)


def _convolve_forward(x, kernel):
    return convolve(x, kernel), (x, kernel)


def _convolve_backward(saved, slope):
    x, kernel = saved
    width, size_in, size_out = kernel.shape
    by_kernel = jnp.einsum("bho,bhk->ok", slope, neighbourhoods(x, width)).reshape(size_out, width, size_in)
    return _correlate(slope, kernel[::-1].transpose(0, 2, 1)), by_kernel.transpose(1, 2, 0)


convolve.defvjp(_convolve_forward, _convolve_backward)


@custom_vmap
def _correlate(x: Float[Array, "B H I"], kernel: Float[Array, "width I O"]) -> Float[Array, "B H O"]:
    if x.shape[1] < kernel.shape[0]:
        # XLA's quick way on CPUs is not for chunks that are shorter than the kernel: ten times the time.
        return _by_products(x, kernel)
    around = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(x, kernel, (1,), [(around, around)], dimension_numbers=("NHC", "HIO", "NHC"))


@_correlate.def_vmap
def _correlate_many(axis_size: int, batched: list[bool], x: Array, kernel: Array) -> tuple[Array, bool]:
    """Many kernels at once would be a grouped convolution, which no CPU library is quick at: products instead."""
    if not batched[1]:
        return _correlate(x.reshape(-1, *x.shape[2:]), kernel).reshape(*x.shape[:-1], -1), True
    if not batched[0]:
        x = jnp.broadcast_to(x, (axis_size, *x.shape))
    return jax.vmap(_by_products)(x, kernel), True


def _by_products(x: Float[Array, "B H I"], kernel: Float[Array, "width I O"]) -> Float[Array, "B H O"]:
    return _multiply(neighbourhoods(x, kernel.shape[0]), kernel.reshape(-1, kernel.shape[2]))


def convolve_down(x: Float[Array, "B H I"], kernel: Float[Array, "width I O"]) -> Float[Array, "B H/2 O"]:
    """Cross-correlation of stride 2 with zeros around the chunk: half as long a chunk.

    Every second output of the whole is cheaper than what the gradient of a strided one would take.
    """
    return convolve(x, kernel)[:, ::2]


def convolve_up(x: Float[Array, "B H I"], kernel: Float[Array, "4 I O"]) -> Float[Array, "B 2*H O"]:
    """Transposed convolution of width 4, stride 2, padding 1: twice as long a chunk.

    Output 2j sees x[j-1] and x[j] through taps 3 and 1, output 2j+1 sees x[j] and x[j+1] through taps 2 and 0.
    """
    batch, length, _ = x.shape
    none = jnp.zeros_like(kernel[0])
    pairs = jnp.stack(
        [
            jnp.concatenate([kernel[3], none], axis=1),
            jnp.concatenate([kernel[1], kernel[2]], axis=1),
            jnp.concatenate([none, kernel[0]], axis=1),
        ]
    )
    return convolve(x, pairs).reshape(batch, 2 * length, kernel.shape[2])


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
