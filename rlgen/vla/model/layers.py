"""Layers that the image encoder and the experts share: dense layers, norms, rotary positions, attention.

A dense layer is one product of two matrices, and so is the gradient of its weight. Where the tokens keep their batch
axis, that gradient sums over two axes, and a CPU takes two to three times as long for it.
"""

from collections.abc import Sequence
from math import prod

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlgen.vla.model.config import Remat

Initializer = nn.initializers.Initializer


def project(x: Float[Array, "..."], kernel: Float[Array, "..."]) -> Float[Array, "..."]:
    """Multiplies `[..., W]` with `[W, *out]` to `[..., *out]`."""
    inputs = kernel.shape[0]
    y = x.reshape(-1, inputs) @ kernel.reshape(inputs, -1).astype(x.dtype)
    return y.reshape(*x.shape[:-1], *kernel.shape[1:])


class Dense(nn.Module):
    """A dense layer with `kernel` and `bias` in the shapes of Flax's own.

    Attributes:
      features: output axes, `[width]` or `[heads, head size]`.
      dtype: type of activations.
      axes: number of last input axes that are summed over.
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
        """Returns the product with the kernel, plus the bias, in `dtype`."""
        inputs, features = x.shape[x.ndim - self.axes :], tuple(self.features)
        matrix = (prod(inputs), prod(features))

        def init(key, shape, dtype=jnp.float32):
            return self.kernel_init(key, matrix, dtype).reshape(shape)

        kernel = self.param("kernel", init, (*inputs, *features))
        bias = self.param("bias", self.bias_init, features)
        x = x.astype(self.dtype).reshape(*x.shape[: x.ndim - self.axes], -1)
        return project(x, kernel.reshape(matrix[0], *features)) + bias.astype(self.dtype)


def recomputed(block: type[nn.Module], remat: Remat) -> type[nn.Module]:
    """Returns a block that keeps what `VlaConfig.remat` says for its gradient.

    Args:
      block: class of modules.
      remat: False for everything, True for its input alone, `products` for products with weights as well. These have
        no batch axis, unlike attention's, whose scores would need most of the memory and are little work.
    """
    if remat is False:
        return block
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if remat == "products" else None
    return nn.remat(block, prevent_cse=False, policy=policy)


Tokens = Float[Array, "B T W"]
Condition = Float[Array, "B W"]


class RmsNorm(nn.Module):
    """Root-mean-square norm in float32: y = x / rms(x) (1 + scale) + shift.

    With a condition, a dense layer of it gives scale, shift and gate in this order, and the gate is returned
    for the residual that follows. Without, the scale is a parameter, the shift is 0 and there is no gate.
    """

    @nn.compact
    def __call__(self, x: Tokens, condition: Condition | None = None) -> tuple[Tokens, Float[Array, "B 1 W"] | None]:
        """Returns the normalized tokens, and the gate where there is a condition."""
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + 1e-6)
        if condition is None:
            scale = self.param("scale", nn.initializers.zeros, (x.shape[-1],))
            return (y * (1 + scale)).astype(x.dtype), None
        zeros = nn.initializers.zeros
        modulation = Dense([3 * x.shape[-1]], x.dtype, kernel_init=zeros, name="Dense_0")(condition)
        scale, shift, gate = jnp.split(modulation[:, None], 3, axis=-1)
        return (y * (1 + scale) + shift).astype(x.dtype), gate


def gated_sum(x: Tokens, y: Tokens, gate: Array | None) -> Tokens:
    """Returns the residual sum, `x + y`, or `x + gate * y` behind a conditioned norm.

    Args:
      x: before the layer.
      y: output of the layer.
      gate: `[B, 1, W]`, or None.
    """
    return x + y if gate is None else x + y * gate


# Finite, so that a row without any valid key is not NaN; no valid token reads such a row.
MASKED = -2.3819763e38


def rotate(x: Float[Array, "B T n d"], positions: Int[Array, "B T"]) -> Float[Array, "B T n d"]:
    """Applies rotary positions (https://arxiv.org/abs/2104.09864) with base 10,000.

    Channel i of the first half of a head is rotated with channel i of the second half.
    """
    pairs = x.shape[-1] // 2
    wavelength = 10_000.0 ** (jnp.arange(pairs, dtype=jnp.float32) / pairs)
    angle = positions[..., None, None].astype(jnp.float32) / wavelength
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def attend(
    q: Float[Array, "B T n d"], k: Float[Array, "B S K d"], v: Float[Array, "B S K d"], mask: Bool[Array, "B T S"]
) -> Float[Array, "B T n d"]:
    """Computes grouped-query attention, with scores and softmax in float32.

    Args:
      q: queries of T tokens, scaled already.
      k: keys of S tokens; each of K heads serves n / K query heads.
      v: values, likewise.
      mask: whether a query attends to a key.
    """
    b, t, n, d = q.shape
    q = q.reshape(b, t, k.shape[2], n // k.shape[2], d)
    scores = jnp.einsum("btkgd,bskd->bkgts", q, k, preferred_element_type=jnp.float32)
    scores = jnp.where(mask[:, None, None], scores, MASKED)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bkgts,bskd->btkgd", weights, v).reshape(b, t, n, d)
