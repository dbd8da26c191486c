"""Textures of the arenas, generated from numbers."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from rlgen.libero.placeholders.arena import FLOOR_TEXTURES, WALL_TEXTURES

PIXELS = 64


def texture_files() -> dict[str, bytes]:
    """Returns the textures as PNG bytes, by their names in the asset tree."""
    floors = {name: _png(floor_pixels(color)) for name, color in FLOOR_TEXTURES.items()}
    walls = {name: _png(np.broadcast_to(np.array(color, np.uint8), (8, 8, 3))) for name, color in WALL_TEXTURES.items()}
    return floors | walls


def floor_pixels(color: tuple[int, int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Generates four rows of planks, each shifted against the next and of another shade, with light joints."""
    image = np.empty((PIXELS, PIXELS, 3), np.uint8)
    joint_color = np.minimum(np.array(color) + 34, 255)
    height = PIXELS // 4
    for course, (joint, shade) in enumerate(zip((60, 15, 31, 47), (2, -7, 4, -3), strict=True)):
        rows = slice(course * height, (course + 1) * height)
        image[rows] = np.array(color) + shade
        image[course * height] = joint_color
        image[rows, joint] = joint_color
    return image


def _png(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    # Stored, not deflated: compressed bytes differ between builds of zlib, and the tree is identified by its contents.
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", compress_level=0)
    return buffer.getvalue()
