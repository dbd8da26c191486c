"""Convolutions over a chunk of actions, and two layouts of chunks for networks made of them.

Chunks are a few actions long and a few dozen channels wide. On a CPU a general convolution is as fast as a plain matrix
product at that size, but its gradient with respect to the kernel is not: there the inputs of each output are laid side
by side and multiplied. Arrays are `[B, H, C]`; kernels are `[width, C_in, C_out]`.

`Rows` keeps chunks as `[B, H, C]`. `Flat` keeps them as `[B, H*C]` and turns every convolution into one matrix product,
which is faster for short chunks with few channels. Layers return the type of their chunks; normalization computes in
float32 at least.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float, Int

from rlgen.core.arrays import AnyArray
from rlgen.nets.layers import Modulation, at_least_single


def neighborhoods(x: Float[Array, "B H I"], width: int) -> Float[Array, "B H {width}*I"]:
    """Returns the inputs of each output of a convolution, with `width // 2` zeros on either side of the chunk."""
    batch, length, size = x.shape
    padding = width // 2 * size
    padded = jnp.pad(x.reshape(batch, length * size), ((0, 0), (padding, padding)))
    # Contiguous memory for each output, which is several times faster to copy than one slice for each tap.
    starts = range(0, length * size, size)
    return jnp.stack([padded[:, start : start + width * size] for start in starts], axis=1)


@jax.custom_vjp
def convolve(x: Float[Array, "B H I"], kernel: Float[AnyArray, "width I O"]) -> Float[Array, "B H O"]:
    """Computes the cross-correlation with a kernel of odd width; the chunk is padded with zeros."""
    return _correlate(x, kernel)


def _convolve_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return convolve(x, kernel), (x, kernel)


def _convolve_backward(saved: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, kernel = saved
    width, size_in, size_out = kernel.shape
    grad = jnp.einsum("bho,bhk->ok", cotangent, neighborhoods(x, width)).reshape(size_out, width, size_in)
    return _correlate(cotangent, kernel[::-1].transpose(0, 2, 1)), grad.transpose(1, 2, 0)


convolve.defvjp(_convolve_forward, _convolve_backward)


@custom_vmap
def _correlate(x: Float[Array, "B H I"], kernel: Float[AnyArray, "width I O"]) -> Float[Array, "B H O"]:
    if x.shape[1] < kernel.shape[0]:
        # XLA's fast path on CPUs does not cover chunks that are shorter than the kernel: ten times the time.
        return _by_products(x, kernel)
    padding = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, jnp.asarray(kernel), (1,), [(padding, padding)], dimension_numbers=("NHC", "HIO", "NHC")
    )


@_correlate.def_vmap
def _correlate_many(axis_size: int, batched: list[bool], x: Array, kernel: Array) -> tuple[Array, bool]:
    """Computes many convolutions as products: a grouped convolution, their batched form, is slow on every CPU."""
    if not batched[1]:
        return _correlate(x.reshape(-1, *x.shape[2:]), kernel).reshape(*x.shape[:-1], -1), True
    if not batched[0]:
        x = jnp.broadcast_to(x, (axis_size, *x.shape))
    return jax.vmap(_by_products)(x, kernel), True


def _by_products(x: Float[Array, "B H I"], kernel: Float[AnyArray, "width I O"]) -> Float[Array, "B H O"]:
    return _multiply(neighborhoods(x, kernel.shape[0]), kernel.reshape(-1, kernel.shape[2]))


def convolve_down(x: Float[Array, "B H I"], kernel: Float[AnyArray, "width I O"]) -> Float[Array, "B (H+1)//2 O"]:
    """Computes the cross-correlation of stride 2, which halves the chunk; the chunk is padded with zeros.

    Dropping every second output costs less than the gradient of a strided convolution would.
    """
    return convolve(x, kernel)[:, ::2]


def convolve_up(x: Float[Array, "B H I"], kernel: Float[AnyArray, "4 I O"]) -> Float[Array, "B 2*H O"]:
    """Computes the transposed convolution of width 4, stride 2, padding 1, which doubles the chunk.

    Output 2j is x[j-1] times tap 3 plus x[j] times tap 1; output 2j+1 is x[j] times tap 2 plus x[j+1] times tap 0.
    """
    batch, length, _ = x.shape
    zeros = jnp.zeros_like(kernel[0])
    pairs = jnp.stack(
        [
            jnp.concatenate([kernel[3], zeros], axis=1),
            jnp.concatenate([kernel[1], kernel[2]], axis=1),
            jnp.concatenate([zeros, kernel[0]], axis=1),
        ]
    )
    return convolve(x, pairs).reshape(batch, 2 * length, kernel.shape[2])


def conv_matrix(kernel: Float[AnyArray, "width I O"], length: int, stride: int = 1) -> Float[Array, "{length}*I M"]:
    """Returns the matrix of a whole convolution, from a flat chunk `[H*I]` to a flat result `[H_out*O]`.

    Args:
      kernel: of the convolution.
      length: H, of the chunk.
      stride: of the convolution; `H_out = (H - 1) // stride + 1`.
    """
    outputs = np.arange((length - 1) // stride + 1)
    return _matrix_of_taps(kernel, np.arange(length)[:, None] - stride * outputs + kernel.shape[0] // 2)


def conv_transpose_matrix(kernel: Float[AnyArray, "4 I O"], length: int) -> Float[Array, "{length}*I 2*{length}*O"]:
    """Returns the matrix of `convolve_up`, from a flat chunk `[H*I]` to a flat result `[2*H*O]`."""
    return _matrix_of_taps(kernel, np.arange(2 * length) - 2 * np.arange(length)[:, None] + 1)


def _matrix_of_taps(
    kernel: Float[AnyArray, "width I O"], taps: Int[np.ndarray, "H H_out"]
) -> Float[Array, "H*I H_out*O"]:
    """Puts tap `taps[h, j]` where position h meets output j, and zeros where there is no such tap."""
    width, size_in, size_out = kernel.shape
    picks = taps[..., None] == np.arange(width)
    matrix = jnp.einsum("hjk,kio->hijo", picks.astype(kernel.dtype), kernel)
    return matrix.reshape(taps.shape[0] * size_in, taps.shape[1] * size_out)


def _multiply(x: Float[Array, "B H N"], matrix: Float[AnyArray, "N O"]) -> Float[Array, "B H O"]:
    batch, length, size = x.shape
    return (x.reshape(batch * length, size) @ matrix).reshape(batch, length, -1)


Layer = Callable[[Array], Array]


class ConvWeights(NamedTuple):
    """A convolution's kernel and bias."""

    kernel: Float[AnyArray, "width I O"]
    bias: Float[AnyArray, " O"]


class NormWeights(NamedTuple):
    """A group normalization's scale and bias, its number of groups, and what is added to the variance."""

    scale: Float[AnyArray, " C"]
    bias: Float[AnyArray, " C"]
    groups: int
    epsilon: float


class Layout(ABC):
    """The arrangement of chunks in memory, and layers over chunks that are arranged so; `Rows` or `Flat`."""

    @staticmethod
    @abstractmethod
    def enter(x: Float[Array, "B H A"]) -> Array:
        """Returns chunks `[B, H, A]` in this layout."""

    @staticmethod
    @abstractmethod
    def leave(x: Array, length: int) -> Float[Array, "B {length} A"]:
        """Returns chunks of this layout as `[B, H, A]`, H being `length`."""

    @staticmethod
    @abstractmethod
    def join(x: Array, other: Array) -> Array:
        """Returns the channels of two equally long chunks in one chunk."""

    @staticmethod
    @abstractmethod
    def conv(weights: ConvWeights, length: int, parts: int = 1) -> Layer:
        """Returns a convolution as a function of chunks.

        Args:
          weights: kernel, of odd width, and bias.
          length: H, of the chunks.
          parts: number of chunks with equally many channels that were joined into the input.
        """

    @staticmethod
    @abstractmethod
    def down(weights: ConvWeights, length: int) -> Layer:
        """Returns `convolve_down` with a bias, as a function of chunks of `length`."""

    @staticmethod
    @abstractmethod
    def up(weights: ConvWeights, length: int) -> Layer:
        """Returns `convolve_up` with a bias, as a function of chunks of `length`."""

    @staticmethod
    @abstractmethod
    def norm(weights: NormWeights, length: int) -> Layer:
        """Returns a group normalization as a function of chunks of `length`."""

    @staticmethod
    @abstractmethod
    def modulate(x: Array, modulation: Modulation, length: int) -> Array:
        """Multiplies every position of a chunk by a scale, then adds a shift.

        Args:
          x: chunks.
          modulation: scale and shift, `[B, C]` each.
          length: H, of the chunks.
        """


class Rows(Layout):
    """The layout of chunks as `[B, H, C]`; methods are described in `Layout`."""

    @staticmethod
    def enter(x: Float[Array, "B H A"]) -> Float[Array, "B H A"]:
        """Returns the chunks as they are."""
        return x

    @staticmethod
    def leave(x: Float[Array, "B H A"], length: int) -> Float[Array, "B {length} A"]:
        """Returns the chunks as they are."""
        return x

    @staticmethod
    def join(x: Float[Array, "B H C"], other: Float[Array, "B H D"]) -> Float[Array, "B H C+D"]:
        """Concatenates channels."""
        return jnp.concatenate([x, other], axis=-1)

    @staticmethod
    def conv(weights: ConvWeights, length: int, parts: int = 1) -> Layer:
        """Returns a convolution, or a product where the kernel has width 1; arguments as of `Layout.conv`."""
        if weights.kernel.shape[0] == 1:
            return lambda x: x @ weights.kernel[0] + weights.bias
        return lambda x: convolve(x, weights.kernel) + weights.bias

    @staticmethod
    def down(weights: ConvWeights, length: int) -> Layer:
        """Returns a convolution that halves chunks."""
        return lambda x: convolve_down(x, weights.kernel) + weights.bias

    @staticmethod
    def up(weights: ConvWeights, length: int) -> Layer:
        """Returns a transposed convolution that doubles chunks."""
        return lambda x: convolve_up(x, weights.kernel) + weights.bias

    @staticmethod
    def norm(weights: NormWeights, length: int) -> Layer:
        """Returns a group normalization."""
        average = _group_averages(len(weights.scale), weights.groups, length)

        def apply(x: Float[Array, "B H C"]) -> Float[Array, "B H C"]:
            single = at_least_single(x)
            centered = single - _exact(single.sum(axis=1), average)[:, None]
            variance = _exact(jnp.square(centered).sum(axis=1), average)
            factor = jax.lax.rsqrt(variance + weights.epsilon) * weights.scale
            return (centered * factor[:, None] + weights.bias).astype(x.dtype)

        return apply

    @staticmethod
    def modulate(x: Float[Array, "B H C"], modulation: Modulation, length: int) -> Float[Array, "B H C"]:
        """Scales and shifts; arguments as of `Layout.modulate`."""
        scale, shift = modulation
        return x * scale[:, None] + shift[:, None]


class Flat(Layout):
    """The layout of chunks as `[B, H*C]`, joined chunks one behind the other; methods are described in `Layout`."""

    @staticmethod
    def enter(x: Float[Array, "B H A"]) -> Float[Array, "B H*A"]:
        """Flattens the chunks."""
        return x.reshape(x.shape[0], -1)

    @staticmethod
    def leave(x: Float[Array, "B N"], length: int) -> Float[Array, "B {length} A"]:
        """Returns the chunks as `[B, H, A]`."""
        return x.reshape(x.shape[0], length, -1)

    @staticmethod
    def join(x: Float[Array, "B N"], other: Float[Array, "B M"]) -> Float[Array, "B N+M"]:
        """Concatenates whole chunks, not channels; `conv` has to know how many parts there are."""
        return jnp.concatenate([x, other], axis=-1)

    @staticmethod
    def conv(weights: ConvWeights, length: int, parts: int = 1) -> Layer:
        """Returns a convolution as one matrix product; arguments as of `Layout.conv`."""
        kernels = jnp.split(weights.kernel, parts, axis=1)
        matrix = jnp.concatenate([conv_matrix(kernel, length) for kernel in kernels])
        return _affine(matrix, weights.bias, length)

    @staticmethod
    def down(weights: ConvWeights, length: int) -> Layer:
        """Returns a convolution that halves chunks, as one matrix product."""
        return _affine(conv_matrix(weights.kernel, length, 2), weights.bias, (length + 1) // 2)

    @staticmethod
    def up(weights: ConvWeights, length: int) -> Layer:
        """Returns a transposed convolution that doubles chunks, as one matrix product."""
        return _affine(conv_transpose_matrix(weights.kernel, length), weights.bias, 2 * length)

    @staticmethod
    def norm(weights: NormWeights, length: int) -> Layer:
        """Returns a group normalization whose sums are matrix products."""
        channels = len(weights.scale)
        group = np.arange(channels) // (channels // weights.groups)
        member = np.tile(group[:, None] == np.arange(weights.groups), (length, 1)).astype(np.float32)
        average = member / member.sum(axis=0)
        scale = member.T * _repeat(weights.scale, length)
        bias = _repeat(weights.bias, length)

        def apply(x: Float[Array, "B N"]) -> Float[Array, "B N"]:
            single = at_least_single(x)
            centered = single - _exact(_exact(single, average), member.T)
            variance = _exact(jnp.square(centered), average)
            return (centered * _exact(jax.lax.rsqrt(variance + weights.epsilon), scale) + bias).astype(x.dtype)

        return apply

    @staticmethod
    def modulate(x: Float[Array, "B N"], modulation: Modulation, length: int) -> Float[Array, "B N"]:
        """Scales and shifts; arguments as of `Layout.modulate`."""
        scale, shift = (_repeat(values, length) for values in modulation)
        return x * scale + shift


def _affine(matrix: Float[Array, "N M"], bias: Float[AnyArray, " O"], length: int) -> Layer:
    repeated = _repeat(bias, length)
    return lambda x: x @ matrix + repeated


def _repeat(values: Float[AnyArray, "*B C"], length: int) -> Float[Array, "*B {length}*C"]:
    """Repeats channels for every position, by a product: XLA would fuse a copy and then not vectorize its reader."""
    channels = values.shape[-1]
    return _exact(values, np.tile(np.eye(channels, dtype=values.dtype), (1, length)))


def _group_averages(channels: int, groups: int, length: int) -> Float[np.ndarray, "{channels} {channels}"]:
    """Returns the matrix that makes sums over `length` positions the average of each channel's group, rounded once."""
    size = channels // groups
    return np.kron(np.eye(groups), np.full((size, size), 1 / (size * length))).astype(np.float32)


def _exact(x: Float[AnyArray, "*B N"], matrix: Float[AnyArray, "N M"]) -> Float[Array, "*B M"]:
    """Computes a product at full precision on every device."""
    return jnp.matmul(x, matrix, precision=jax.lax.Precision.HIGHEST)
