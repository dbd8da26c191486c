"""Images on their way to the model: value ranges, openpi's resize on a device, and its augmentation."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, UInt8

from rlgen.data.resize import Size, fitted_size, height_and_width

UNIFORMS = 6
"""Uniform random values an image: crop down and right, angle, brightness, contrast, saturation."""


@dataclass(frozen=True)
class Augmentation:
    """The strength of each augmentation.

    Attributes:
      crop: side of the crop as a fraction of the image's.
      angle: largest rotation, radians.
      brightness: largest relative change; likewise the next two.
      contrast: about the image's mean.
      saturation: about the pixel's gray.
    """

    crop: float = 0.95
    angle: float = 0.0873
    brightness: float = 0.3
    contrast: float = 0.4
    saturation: float = 0.5


def augment(
    images: Float[Array, "B h w 3"], uniform: Float[Array, "B 6"], options: Augmentation, *, fixed_camera: bool
) -> Float[Array, "B h w 3"]:
    """Crops, rotates and recolors images in [-1, 1].

    Args:
      images: of one camera.
      uniform: random values in [0, 1], in the order of `UNIFORMS`; 0.5 changes nothing but the crop.
      options: strengths.
      fixed_camera: whether the camera stands still; images of one at the gripper are neither cropped nor rotated.
    """
    if fixed_camera:
        images = jax.vmap(lambda image, u: _crop_and_rotate(image, u, options))(images, uniform)
    light = (images + 1) / 2
    strength = jnp.array([options.brightness, options.contrast, options.saturation])
    brightness, contrast, saturation = (1 + strength * (2 * uniform[:, 3:] - 1)).T[:, :, None, None, None]
    light = light * brightness
    mean = jnp.mean(light, axis=(1, 2, 3), keepdims=True)
    light = mean + (light - mean) * contrast
    gray = light @ jnp.array([0.299, 0.587, 0.114])
    light = gray[..., None] + (light - gray[..., None]) * saturation
    return jnp.clip(light, 0, 1) * 2 - 1


def _crop_and_rotate(
    image: Float[Array, "h w 3"], u: Float[Array, " 6"], options: Augmentation
) -> Float[Array, "h w 3"]:
    """Returns a rotated crop at the image's own size, by one bilinear interpolation."""
    h, w, _ = image.shape
    angle = options.angle * (2 * u[2] - 1)
    y, x = jnp.meshgrid(jnp.arange(h) - (h - 1) / 2, jnp.arange(w) - (w - 1) / 2, indexing="ij")
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    y, x = (cos * y - sin * x) * options.crop, (sin * y + cos * x) * options.crop
    # The center of the crop may move by half of the margin.
    margin = (1 - options.crop) * jnp.array([h, w])
    at = [y + (h - 1) / 2 + margin[0] * (u[0] - 0.5), x + (w - 1) / 2 + margin[1] * (u[1] - 0.5)]
    return jnp.stack([map_coordinates(image[..., c], at, order=1, mode="nearest") for c in range(3)], axis=-1)


def to_uint8(images: np.ndarray) -> UInt8[np.ndarray, "*B h w 3"]:
    """Returns floats in [0, 1] as bytes, truncated as openpi does; bytes are returned as they are."""
    return (255 * images).astype(np.uint8) if np.issubdtype(images.dtype, np.floating) else images


def to_floats(images: UInt8[Array, "*B h w 3"]) -> Float[Array, "*B h w 3"]:
    """Returns bytes as floats in [-1, 1], as the model reads them."""
    return jnp.asarray(images, jnp.float32) / 255 * 2 - 1


def resize_on_device(images: Array, size: Size) -> Array:
    """Resizes in JAX what `rlgen.data.resize.resize_with_pad` resizes on the host, as openpi does inside the model.

    Args:
      images: `[B, h, w, 3]`, uint8, or floats in [-1, 1].
      size: of the result, height and width or a square's side, pixels.

    Returns:
      `[B, h_out, w_out, 3]` of the same type, padded with 0 or -1.
    """
    (h, w), (rows, columns) = images.shape[1:3], height_and_width(size)
    if (h, w) == (rows, columns):
        return images
    height, width = fitted_size(h, w, size)
    small = jax.image.resize(jnp.asarray(images, jnp.float32), (len(images), height, width, 3), "linear")
    if images.dtype == jnp.uint8:
        small, black = jnp.clip(jnp.round(small), 0, 255).astype(jnp.uint8), 0
    else:
        small, black = jnp.clip(small, -1, 1), -1.0
    (top, extra_h), (left, extra_w) = divmod(rows - height, 2), divmod(columns - width, 2)
    padding = ((0, 0), (top, top + extra_h), (left, left + extra_w), (0, 0))
    return jnp.pad(small, padding, constant_values=black)
