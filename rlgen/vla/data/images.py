"""Pictures on their way to the model."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, UInt8
from PIL import Image


def upright(images: UInt8[np.ndarray, "*B h w 3"]) -> UInt8[np.ndarray, "*B h w 3"]:
    """The benchmark's pictures turned by 180 degrees, as every dataset has them; its own inverse."""
    return images[..., ::-1, ::-1, :]


def fitted(height: int, width: int, side: int) -> tuple[int, int]:
    """The size that fits a square of `side` without changing the aspect ratio."""
    ratio = max(width / side, height / side)
    return int(height / ratio), int(width / ratio)


def resize_with_pad(images: UInt8[np.ndarray, "*B h w 3"], side: int) -> UInt8[np.ndarray, "*B side side 3"]:
    """Pillow's bilinear resize into the middle of a black square, bit for bit openpi's; nothing where it fits."""
    h, w = images.shape[-3:-1]
    if h == w == side:
        return images
    height, width = fitted(h, w, side)
    top, left = max(0, (side - height) // 2), max(0, (side - width) // 2)
    flat = images.reshape(-1, h, w, 3)
    out = np.zeros((len(flat), side, side, 3), np.uint8)
    for image, target in zip(flat, out, strict=True):
        small = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        target[top : top + height, left : left + width] = np.asarray(small)
    return out.reshape(*images.shape[:-3], side, side, 3)


def resize_on_device(images: Array, side: int) -> Array:
    """The same in JAX: uint8 `[B, h, w, 3]` with black around, or floats in [-1, 1] with -1 around."""
    h, w = images.shape[1:3]
    if h == w == side:
        return images
    height, width = fitted(h, w, side)
    small = jax.image.resize(jnp.asarray(images, jnp.float32), (len(images), height, width, 3), "linear")
    if images.dtype == jnp.uint8:
        small, empty = jnp.clip(jnp.round(small), 0, 255).astype(jnp.uint8), 0
    else:
        small, empty = jnp.clip(small, -1, 1), -1.0
    (top, extra_h), (left, extra_w) = divmod(side - height, 2), divmod(side - width, 2)
    around = ((0, 0), (top, top + extra_h), (left, left + extra_w), (0, 0))
    return jnp.pad(small, around, constant_values=empty)


def to_uint8(image: np.ndarray) -> UInt8[np.ndarray, "*B h w 3"]:
    """Floats in [0, 1] as bytes, cut and not rounded; bytes stay."""
    return (255 * image).astype(np.uint8) if np.issubdtype(image.dtype, np.floating) else image


def to_floats(image: UInt8[Array, "*B h w 3"]) -> Float[Array, "*B h w 3"]:
    """Bytes as the model reads them, in [-1, 1]."""
    return jnp.asarray(image, jnp.float32) / 255 * 2 - 1


NUMBERS = 6
"""Uniform numbers a picture: crop down and right, angle, brightness, contrast, saturation."""


@dataclass(frozen=True)
class Augmentation:
    """How much pictures are changed.

    Attributes:
      crop: side of the crop as a share of the picture's.
      angle: largest turn, radians.
      brightness: largest relative change; likewise the next two.
      contrast: about the picture's mean.
      saturation: about the pixel's grey.
    """

    crop: float = 0.95
    angle: float = 0.0873
    brightness: float = 0.3
    contrast: float = 0.4
    saturation: float = 0.5


def augment(
    images: Float[Array, "B h w 3"], numbers: Float[Array, "B 6"], options: Augmentation, *, fixed_camera: bool
) -> Float[Array, "B h w 3"]:
    """Changes pictures in [-1, 1].

    Args:
      pictures: of one camera.
      numbers: uniform in [0, 1].
      options: how much.
      fixed_camera: whether the camera stands still; one at the hand is not cropped or turned.
    """
    if fixed_camera:
        images = jax.vmap(lambda image, u: _moved(image, u, options))(images, numbers)
    light = (images + 1) / 2
    strength = jnp.array([options.brightness, options.contrast, options.saturation])
    brightness, contrast, saturation = (1 + strength * (2 * numbers[:, 3:] - 1)).T[:, :, None, None, None]
    light = light * brightness
    mean = jnp.mean(light, axis=(1, 2, 3), keepdims=True)
    light = mean + (light - mean) * contrast
    grey = light @ jnp.array([0.299, 0.587, 0.114])
    light = grey[..., None] + (light - grey[..., None]) * saturation
    return jnp.clip(light, 0, 1) * 2 - 1


def _moved(image: Float[Array, "h w 3"], u: Float[Array, " 6"], options: Augmentation) -> Float[Array, "h w 3"]:
    """A turned crop at the picture's own size, by one bilinear look-up."""
    h, w, _ = image.shape
    angle = options.angle * (2 * u[2] - 1)
    y, x = jnp.meshgrid(jnp.arange(h) - (h - 1) / 2, jnp.arange(w) - (w - 1) / 2, indexing="ij")
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    y, x = (cos * y - sin * x) * options.crop, (sin * y + cos * x) * options.crop
    # The middle of the crop may move by half of what it leaves out.
    room = (1 - options.crop) * jnp.array([h, w])
    at = [y + (h - 1) / 2 + room[0] * (u[0] - 0.5), x + (w - 1) / 2 + room[1] * (u[1] - 0.5)]
    return jnp.stack([map_coordinates(image[..., c], at, order=1, mode="nearest") for c in range(3)], axis=-1)
