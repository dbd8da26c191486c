"""Convolutions over a chunk.

Chunks are a few actions long and a few dozen channels wide. On a CPU a general convolution is as fast as a plain matrix
product at that size, but its gradient by the kernel is not: there, what each output sees is laid side by side and
multiplied. Arrays are `[B, H, C]`; kernels are `[width, C_in, C_out]`.
"""

from collections.abc import Callable
from typing import NamedTuple

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


Layer = Callable[[Array], Array]
Modulation = tuple[Float[Array, "B C"], Float[Array, "B C"]]


class ConvWeights(NamedTuple):
    """A convolution's kernel and bias."""

    kernel: Float[Array, "width I O"]
    bias: Float[Array, " O"]


class NormWeights(NamedTuple):
    """A group normalisation's scale and bias, and what it needs to know."""

    scale: Float[Array, " C"]
    bias: Float[Array, " C"]
    groups: int
    epsilon: float


class Rows:
    """Chunks as `[B, H, C]`."""

    @staticmethod
    def enter(x: Float[Array, "B H A"]) -> Float[Array, "B H A"]:
        return x

    @staticmethod
    def leave(x: Float[Array, "B H A"], length: int) -> Float[Array, "B H A"]:
        return x

    @staticmethod
    def join(x: Float[Array, "B H C"], other: Float[Array, "B H D"]) -> Float[Array, "B H C+D"]:
        return jnp.concatenate([x, other], axis=-1)

    @staticmethod
    def conv(weights: ConvWeights, length: int, parts: int = 1) -> Layer:
        if weights.kernel.shape[0] == 1:
            return lambda x: x @ weights.kernel[0] + weights.bias
        return lambda x: convolve(x, weights.kernel) + weights.bias

    @staticmethod
    def down(weights: ConvWeights, length: int) -> Layer:
        return lambda x: convolve_down(x, weights.kernel) + weights.bias

    @staticmethod
    def up(weights: ConvWeights, length: int) -> Layer:
        return lambda x: convolve_up(x, weights.kernel) + weights.bias

    @staticmethod
    def norm(weights: NormWeights, length: int) -> Layer:
        share = _same_group(len(weights.scale), weights.groups) / np.float32(length)

        def apply(x):
            centred = x - _exact(x.sum(axis=1), share)[:, None]
            variance = _exact(jnp.square(centred).sum(axis=1), share)
            factor = jax.lax.rsqrt(variance + weights.epsilon) * weights.scale
            return centred * factor[:, None] + weights.bias

        return apply

    @staticmethod
    def modulate(x: Float[Array, "B H C"], film: Modulation, length: int) -> Float[Array, "B H C"]:
        scale, shift = film
        return x * scale[:, None] + shift[:, None]


class Flat:
    """Chunks as `[B, H*C]`; joined chunks lie behind one another."""

    @staticmethod
    def enter(x: Float[Array, "B H A"]) -> Float[Array, "B H*A"]:
        return x.reshape(x.shape[0], -1)

    @staticmethod
    def leave(x: Float[Array, "B H*A"], length: int) -> Float[Array, "B H A"]:
        return x.reshape(x.shape[0], length, -1)

    @staticmethod
    def join(x: Float[Array, "B N"], other: Float[Array, "B M"]) -> Float[Array, "B N+M"]:
        return jnp.concatenate([x, other], axis=-1)

    @staticmethod
    def conv(weights: ConvWeights, length: int, parts: int = 1) -> Layer:
        kernels = jnp.split(weights.kernel, parts, axis=1)
        matrix = jnp.concatenate([write_out(kernel, length) for kernel in kernels])
        return _affine(matrix, weights.bias, length)

    @staticmethod
    def down(weights: ConvWeights, length: int) -> Layer:
        return _affine(write_out(weights.kernel, length, 2), weights.bias, (length + 1) // 2)

    @staticmethod
    def up(weights: ConvWeights, length: int) -> Layer:
        return _affine(write_out_up(weights.kernel, length), weights.bias, 2 * length)

    @staticmethod
    def norm(weights: NormWeights, length: int) -> Layer:
        channels = len(weights.scale)
        member = np.arange(channels) // (channels // weights.groups)
        belongs = np.tile(member[:, None] == np.arange(weights.groups), (length, 1)).astype(np.float32)
        share = belongs / belongs.sum(axis=0)
        spread = belongs.T * _repeat(weights.scale, length)
        bias = _repeat(weights.bias, length)

        def apply(x):
            centred = x - _exact(_exact(x, share), belongs.T)
            variance = _exact(jnp.square(centred), share)
            return centred * _exact(jax.lax.rsqrt(variance + weights.epsilon), spread) + bias

        return apply

    @staticmethod
    def modulate(x: Float[Array, "B H*C"], film: Modulation, length: int) -> Float[Array, "B H*C"]:
        scale, shift = (_repeat(values, length) for values in film)
        return x * scale + shift


def _affine(matrix: Float[Array, "N M"], bias: Float[Array, " O"], length: int) -> Layer:
    bias = _repeat(bias, length)
    return lambda x: x @ matrix + bias


def _repeat(values: Float[Array, "*B C"], length: int) -> Float[Array, "*B H*C"]:
    """The channels once for every position, as a product: XLA would fuse a copy and then not vectorise its reader."""
    channels = values.shape[-1]
    return _exact(values, np.tile(np.eye(channels, dtype=np.float32), (1, length)))


def _same_group(channels: int, groups: int) -> Float[np.ndarray, "C C"]:
    """Averages over each group of channels and gives each channel its group's average."""
    size = channels // groups
    return np.kron(np.eye(groups), np.full((size, size), 1 / size)).astype(np.float32)


def _exact(x: Array, matrix: Array) -> Array:
    """Sums as products, at full precision on every device."""
    return jnp.matmul(x, matrix, precision=jax.lax.Precision.HIGHEST)
