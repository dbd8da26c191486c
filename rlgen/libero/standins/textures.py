"""The few pictures that the arena needs, drawn from numbers."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from rlgen.libero.standins.arena import FLOOR_TEXTURE, WALL_TEXTURE

# Mean colours of the benchmark's own floor and walls.
FLOOR_COLOUR = (195, 186, 177)
WALL_COLOUR = (223, 219, 212)
JOINT_COLOUR = (224, 220, 214)
PIXELS = 64


def texture_files() -> dict[str, bytes]:
    """Every texture as PNG bytes, by its name in the asset tree."""
    wall = np.broadcast_to(np.array(WALL_COLOUR, np.uint8), (8, 8, 3))
    return {FLOOR_TEXTURE: _png(floor_pixels()), WALL_TEXTURE: _png(wall)}


def floor_pixels() -> UInt8[np.ndarray, "h w 3"]:
    """Four courses of planks, each shifted against the next and a shade apart, with light joints."""
    picture = np.empty((PIXELS, PIXELS, 3), np.uint8)
    height = PIXELS // 4
    for course, (joint, shade) in enumerate(zip((60, 15, 31, 47), (2, -7, 4, -3), strict=True)):
        rows = slice(course * height, (course + 1) * height)
        picture[rows] = np.array(FLOOR_COLOUR) + shade
        picture[course * height] = JOINT_COLOUR
        picture[rows, joint] = JOINT_COLOUR
    return picture


def _png(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    # Stored, not deflated: compressed bytes differ between zlib builds, and the tree is known by its content.
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", compress_level=0)
    return buffer.getvalue()
