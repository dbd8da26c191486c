"""Pictures on their way to the model."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image


def upright(pictures: UInt8[np.ndarray, "*B h w 3"]) -> UInt8[np.ndarray, "*B h w 3"]:
    """The benchmark's pictures turned by 180 degrees, as every dataset has them; its own inverse."""
    return pictures[..., ::-1, ::-1, :]


def fitted(height: int, width: int, side: int) -> tuple[int, int]:
    """The size that fits a square of `side` without changing the aspect ratio."""
    ratio = max(width / side, height / side)
    return int(height / ratio), int(width / ratio)


def resize_with_pad(pictures: UInt8[np.ndarray, "*B h w 3"], side: int) -> UInt8[np.ndarray, "*B side side 3"]:
    """Pillow's bilinear resize into the middle of a black square, bit for bit openpi's; nothing where it fits."""
    h, w = pictures.shape[-3:-1]
    if h == w == side:
        return pictures
    height, width = fitted(h, w, side)
    top, left = max(0, (side - height) // 2), max(0, (side - width) // 2)
    flat = pictures.reshape(-1, h, w, 3)
    out = np.zeros((len(flat), side, side, 3), np.uint8)
    for picture, target in zip(flat, out, strict=True):
        small = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
        target[top : top + height, left : left + width] = np.asarray(small)
    return out.reshape(*pictures.shape[:-3], side, side, 3)


def resize_on_device(pictures: Array, side: int) -> Array:
    """The same in JAX: uint8 `[B, h, w, 3]` with black around, or floats in [-1, 1] with -1 around."""
    h, w = pictures.shape[1:3]
    if h == w == side:
        return pictures
    height, width = fitted(h, w, side)
    small = jax.image.resize(jnp.asarray(pictures, jnp.float32), (len(pictures), height, width, 3), "linear")
    if pictures.dtype == jnp.uint8:
        small, empty = jnp.clip(jnp.round(small), 0, 255).astype(jnp.uint8), 0
    else:
        small, empty = jnp.clip(small, -1, 1), -1.0
    (top, extra_h), (left, extra_w) = divmod(side - height, 2), divmod(side - width, 2)
    around = ((0, 0), (top, top + extra_h), (left, left + extra_w), (0, 0))
    return jnp.pad(small, around, constant_values=empty)


def to_uint8(picture: np.ndarray) -> UInt8[np.ndarray, "*B h w 3"]:
    """Floats in [0, 1] as bytes, cut and not rounded; bytes stay."""
    return (255 * picture).astype(np.uint8) if np.issubdtype(picture.dtype, np.floating) else picture


def to_floats(picture: UInt8[Array, "*B h w 3"]) -> Float[Array, "*B h w 3"]:
    """Bytes as the model reads them, in [-1, 1]."""
    return jnp.asarray(picture, jnp.float32) / 255 * 2 - 1
