"""Layers over chunks, in two layouts that compute the same.

A layer is made from its parameters and returns a function. What depends on parameters alone is computed when it is
made, so that a chain of denoising steps pays for it once.

`Rows` keeps chunks as `[B, H, C]`. `Flat` keeps them as `[B, H*C]` and writes every convolution out as one matrix over
the whole chunk: it multiplies zeros, but for short and narrow chunks one large product beats several small ones, and
elementwise work that runs over one long axis vectorises.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlgen.nets.conv1d import convolve, convolve_down, convolve_up, write_out, write_out_up

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
