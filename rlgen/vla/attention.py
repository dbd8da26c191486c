"""Attention over tokens of any origin: rotary positions, grouped queries, a finite mask."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Finite, so that a row without any valid key stays a number; nothing valid reads such a row.
MASKED = -2.3819763e38


def rotate(x: Float[Array, "B T n d"], positions: Int[Array, "B T"]) -> Float[Array, "B T n d"]:
    """Rotary positions: channel i of the first half turns with channel i of the second, base 10,000."""
    half = x.shape[-1] // 2
    wavelength = 10_000.0 ** (jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[..., None, None].astype(jnp.float32) / wavelength
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def attend(
    q: Float[Array, "B T n d"], k: Float[Array, "B S K d"], v: Float[Array, "B S K d"], mask: Bool[Array, "B T S"]
) -> Float[Array, "B T n d"]:
    """Grouped-query attention; scores and softmax in float32. `q` comes scaled."""
    b, t, n, d = q.shape
    q = q.reshape(b, t, k.shape[2], n // k.shape[2], d)
    scores = jnp.einsum("btkgd,bskd->bkgts", q, k, preferred_element_type=jnp.float32)
    scores = jnp.where(mask[:, None, None], scores, MASKED)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bkgts,bskd->btkgd", weights, v).reshape(b, t, n, d)
