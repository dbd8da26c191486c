"""Textures of a model, reduced to small sizes, in one flat array."""

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

LEVELS = 7
LARGEST = 256


@dataclass(frozen=True)
class Textures:
    """All textures of a model at `LEVELS` sizes, each half the one before.

    Attributes:
      texels: red, green, blue, linear in light, 255 for 1.
      levels: first texel, width and height of each level of each texture.
    """

    texels: UInt8[np.ndarray, "N 3"]
    levels: Int[np.ndarray, "textures levels 3"]

    def image(self, texture: int, level: int = 0) -> Float[np.ndarray, "h w 3"]:
        """Returns one level as an image in 0..1; row 0 is at texture coordinate v = 0."""
        start, width, height = self.levels[texture, level]
        return self.texels[start : start + width * height].reshape(height, width, 3) / 255

    def mean(self, texture: int) -> Float[np.ndarray, "3"]:
        """Returns the mean color in 0..1."""
        return self.image(texture).mean(axis=(0, 1))


def read_textures(model: mujoco.MjModel) -> Textures:
    """Reads and reduces all textures of a model; a cube's first face stands for all six."""
    texels, levels, start = [], np.zeros((model.ntex, LEVELS, 3), np.int64), 0
    for texture in range(model.ntex):
        image = _pixels(model, texture)
        width, height = (min(LARGEST, n) for n in image.size)
        for level in range(LEVELS):
            size = max(1, width >> level), max(1, height >> level)
            image = image.resize(size, Image.Resampling.BOX)
            small = np.asarray(image)
            small = to_linear(small) if is_srgb(model, texture) else small
            levels[texture, level] = start, *size
            texels.append(small.reshape(-1, 3))
            start += len(texels[-1])
    return Textures(np.concatenate([*texels, np.zeros((1, 3), np.uint8)]), levels)


def _pixels(model: mujoco.MjModel, texture: int) -> Image.Image:
    """Returns a texture as an RGB image, at most a little larger than the first level."""
    width, height = int(model.tex_width[texture]), int(model.tex_height[texture])
    channels = int(model.tex_nchannel[texture])
    start = int(model.tex_adr[texture])
    data = model.tex_data[start : start + width * height * channels].reshape(height, width, channels)
    if model.tex_type[texture] != mujoco.mjtTexture.mjTEXTURE_2D:
        data = data[:width]
    # Skipping rows of a 2048 x 2048 image down to 512 x 512 loses nothing at 256 x 256.
    stride = max(1, min(data.shape[:2]) // (2 * LARGEST))
    data = data[::stride, ::stride]
    data = np.repeat(data[:, :, :1], 3, axis=2) if channels < 3 else data[:, :, :3]
    return Image.fromarray(np.ascontiguousarray(data))


def is_srgb(model: mujoco.MjModel, texture: int) -> bool:
    """Returns True if MuJoCo (from 3.3.3 on) takes the texture for sRGB and decodes it."""
    return hasattr(model, "tex_colorspace") and (
        model.tex_colorspace[texture] == mujoco.mjtColorSpace.mjCOLORSPACE_SRGB
    )


def to_linear(color: UInt8[np.ndarray, "*B"]) -> UInt8[np.ndarray, "*B"]:
    """Converts sRGB to linear light."""
    values = np.arange(256) / 255
    values = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return np.round(255 * values).astype(np.uint8)[color]
