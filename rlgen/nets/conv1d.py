"""Convolutions over the chunk, written as matrix products.

Chunks are so short that a general convolution wins nothing on a CPU and its gradient loses much; the products here
are one matrix each way. All arrays are `[B, H, C]`; kernels are `[width, C_in, C_out]`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# As torch's default: uniform in +-1/sqrt(fan_in), which is a third of the variance of LeCun's.
kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def convolve(
    x: Float[Array, "B H I"], kernel: Float[Array, "width I O"], stride: int = 1
) -> Float[Array, "B H_out O"]:
    """Cross-correlation with zeros around the chunk, `width // 2` on either side."""
    width, size_in, size_out = kernel.shape
    if width == 1 and stride == 1:
        return x @ kernel[0]
    batch, length, _ = x.shape
    out = (length - 1) // stride + 1
    taps = np.arange(length)[:, None] - stride * np.arange(out) + width // 2
    picks = (taps[..., None] == np.arange(width)).astype(np.float32)
    matrix = jnp.einsum("hjk,kio->hijo", picks, kernel).reshape(length * size_in, out * size_out)
    return (x.reshape(batch, length * size_in) @ matrix).reshape(batch, out, size_out)


def convolve_up(x: Float[Array, "B H I"], kernel: Float[Array, "4 I O"]) -> Float[Array, "B 2*H O"]:
    """Transposed convolution of width 4, stride 2, padding 1: twice as long a chunk.

    Output 2j sees x[j] and x[j-1] through taps 1 and 3, output 2j+1 sees x[j] and x[j+1] through taps 2 and 0.
    """
    batch, length, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
    pairs = jnp.concatenate([padded[:, :-1], padded[:, 1:]], axis=-1)
    even = pairs[:, :-1] @ jnp.concatenate([kernel[3], kernel[1]])
    odd = pairs[:, 1:] @ jnp.concatenate([kernel[2], kernel[0]])
    return jnp.stack([even, odd], axis=2).reshape(batch, 2 * length, kernel.shape[2])


class Conv1d(nn.Module):
    """Convolution over the chunk with `width // 2` zeros on either side."""

    features: int
    width: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "B H I"]) -> Float[Array, "B H_out features"]:
        kernel = self.param("kernel", kernel_init, (self.width, x.shape[-1], self.features))
        return convolve(x, kernel, self.stride) + self.param("bias", nn.initializers.zeros, (self.features,))


class Upsample1d(nn.Module):
    """Transposed convolution that doubles the chunk's length."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H C"]) -> Float[Array, "B 2*H C"]:
        kernel = self.param("kernel", kernel_init, (4, x.shape[-1], x.shape[-1]))
        return convolve_up(x, kernel) + self.param("bias", nn.initializers.zeros, (x.shape[-1],))


class Downsample1d(nn.Module):
    """Convolution of width 3 and stride 2 that halves the chunk's length."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H C"]) -> Float[Array, "B H/2 C"]:
        return Conv1d(x.shape[-1], 3, 2, name="conv")(x)


class GroupNorm1d(nn.Module):
    """Group normalisation over the chunk: each group of channels to mean 0 and variance 1, then scale and bias."""

    groups: int
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "B H C"]) -> Float[Array, "B H C"]:
        batch, length, channels = x.shape
        if channels % self.groups:
            raise ValueError(f"{channels} channels in {self.groups} groups: expected a multiple")
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        member = np.tile(np.repeat(np.arange(self.groups), channels // self.groups), length)
        average = (member[:, None] == np.arange(self.groups)) / np.float32(len(member) // self.groups)
        spread = channels // self.groups
        flat = x.reshape(batch, -1)
        centred = x - jnp.repeat(flat @ average, spread, axis=-1)[:, None]
        variance = jnp.square(centred).reshape(batch, -1) @ average
        factor = jnp.repeat(jax.lax.rsqrt(variance + self.epsilon), spread, axis=-1) * scale
        return centred * factor[:, None] + bias
