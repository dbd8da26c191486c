"""Picture augmentation on the device, from numbers that the host has drawn: each camera has its own.

Fixed cameras are cropped and turned a little; every camera changes in brightness, contrast and saturation. The
strengths are those of openpi's recipes, where one set of random numbers serves all cameras.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float

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
    pictures: Float[Array, "B h w 3"], numbers: Float[Array, "B 6"], options: Augmentation, *, fixed_camera: bool
) -> Float[Array, "B h w 3"]:
    """Changes pictures in [-1, 1].

    Args:
      pictures: of one camera.
      numbers: uniform in [0, 1].
      options: how much.
      fixed_camera: whether the camera stands still; one at the hand is not cropped or turned.
    """
    if fixed_camera:
        pictures = jax.vmap(lambda picture, u: _moved(picture, u, options))(pictures, numbers)
    light = (pictures + 1) / 2
    strength = jnp.array([options.brightness, options.contrast, options.saturation])
    brightness, contrast, saturation = (1 + strength * (2 * numbers[:, 3:] - 1)).T[:, :, None, None, None]
    light = light * brightness
    mean = jnp.mean(light, axis=(1, 2, 3), keepdims=True)
    light = mean + (light - mean) * contrast
    grey = light @ jnp.array([0.299, 0.587, 0.114])
    light = grey[..., None] + (light - grey[..., None]) * saturation
    return jnp.clip(light, 0, 1) * 2 - 1


def _moved(picture: Float[Array, "h w 3"], u: Float[Array, " 6"], options: Augmentation) -> Float[Array, "h w 3"]:
    """A turned crop at the picture's own size, by one bilinear look-up."""
    h, w, _ = picture.shape
    angle = options.angle * (2 * u[2] - 1)
    y, x = jnp.meshgrid(jnp.arange(h) - (h - 1) / 2, jnp.arange(w) - (w - 1) / 2, indexing="ij")
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    y, x = (cos * y - sin * x) * options.crop, (sin * y + cos * x) * options.crop
    # The middle of the crop may move by half of what it leaves out.
    room = (1 - options.crop) * jnp.array([h, w])
    at = [y + (h - 1) / 2 + room[0] * (u[0] - 0.5), x + (w - 1) / 2 + room[1] * (u[1] - 0.5)]
    return jnp.stack([map_coordinates(picture[..., c], at, order=1, mode="nearest") for c in range(3)], axis=-1)
