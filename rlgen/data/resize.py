"""Resizing of images as training and evaluation of VLAs do it, with antialiasing where an image shrinks.

The kernels:
  linear: `jax.image.resize(..., "linear")` and TensorFlow's `bilinear` with `antialias=True`, as in openpi.
  lanczos3: as in the data loaders of Octo and OpenVLA.
  pillow: Pillow's bilinear filter, to the last bit, as in openpi's clients.
The first two agree with the originals up to rounding, but are compiled and run without the interpreter's lock. Rows are
blended first and stored with 16 bits, then columns.
"""

import functools
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from rlgen.core.compiled import compiled

Kernel = Literal["linear", "lanczos3", "pillow"]
Size = int | tuple[int, int]
"""Height and width of an image, pixels; one number for a square."""
_RADIUS = {"linear": 1, "lanczos3": 3}
_SCALE = 64  # between the two passes, a value of 1 is stored as 64
_OFFSET = 128 * _SCALE  # room for the negative values of lanczos3


def resize_image(
    image: UInt8[np.ndarray, "h w 3"],
    size: Size,
    kernel: Kernel = "linear",
    out: UInt8[np.ndarray, "h_out w_out 3"] | None = None,
) -> UInt8[np.ndarray, "h_out w_out 3"]:
    """Returns the image at another size; another aspect ratio is stretched.

    Args:
      image: of any size.
      size: of the result.
      kernel: see the module.
      out: array for the result; by default a new one, or `image` itself if it has this size already.
    """
    (height, width), (rows, columns) = image.shape[:2], height_and_width(size)
    if (height, width) == (rows, columns):
        return image if out is None else _copied(image, out)
    image = np.ascontiguousarray(image)
    if kernel == "pillow":
        resized = _by_pillow(image, rows, columns)
        return _copied(resized, np.empty((rows, columns, 3), np.uint8) if out is None else out)
    lower = np.empty((rows, width * 3), np.uint16)
    _blend_rows(image.reshape(height, -1), *_taps(height, rows, kernel), _SCALE, _OFFSET + 0.5, 65535, lower)
    # Columns are blended as rows of the transposed image: neighbors in memory then have the same weights.
    transposed = cv2.transpose(lower.reshape(rows, width, 3))
    small = np.empty((columns, rows * 3), np.uint8)
    taps = _taps(width, columns, kernel)
    _blend_rows(transposed.reshape(width, -1), *taps, 1 / _SCALE, 0.5 - _OFFSET / _SCALE, 255, small)
    return cv2.transpose(small.reshape(columns, rows, 3), out)


def resize_with_pad(images: UInt8[np.ndarray, "*B h w 3"], size: Size) -> UInt8[np.ndarray, "*B h_out w_out 3"]:
    """Resizes images into the middle of a black rectangle without changing their aspect ratio.

    Pillow's bilinear filter, equal to openpi's `resize_with_pad` to the bit; images of `size` are returned as they are.
    """
    (h, w), (rows, columns) = images.shape[-3:-1], height_and_width(size)
    if (h, w) == (rows, columns):
        return images
    height, width = fitted_size(h, w, size)
    top, left = max(0, (rows - height) // 2), max(0, (columns - width) // 2)
    flat = images.reshape(-1, h, w, 3)
    out = np.zeros((len(flat), rows, columns, 3), np.uint8)
    for image, target in zip(flat, out, strict=True):
        target[top : top + height, left : left + width] = _by_pillow(image, height, width)
    return out.reshape(*images.shape[:-3], rows, columns, 3)


def fitted_size(height: int, width: int, size: Size) -> tuple[int, int]:
    """Returns height and width scaled to fit a rectangle, with the same aspect ratio, at least 1.

    Args:
      height: of an image, pixels.
      width: of the image, pixels.
      size: of the rectangle.
    """
    rows, columns = height_and_width(size)
    ratio = max(width / columns, height / rows)
    return max(1, int(height / ratio)), max(1, int(width / ratio))


def height_and_width(size: Size) -> tuple[int, int]:
    """Returns both sides of a size that may be one number."""
    return size if isinstance(size, tuple) else (size, size)


def _by_pillow(image: UInt8[np.ndarray, "h w 3"], height: int, width: int) -> UInt8[np.ndarray, "height width 3"]:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _copied(image: UInt8[np.ndarray, "h w 3"], out: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    out[:] = image
    return out


@functools.lru_cache(maxsize=32)
def _taps(old: int, new: int, kernel: Kernel) -> tuple[Int[np.ndarray, " new"], Float[np.ndarray, "new taps"]]:
    """Returns for every new pixel the index of the first old one that it depends on, and the weights from there on."""
    scale = old / new
    stretch = max(scale, 1.0)
    radius = _RADIUS[kernel] * stretch
    center = (np.arange(new) + 0.5) * scale - 0.5
    taps = min(old, int(np.ceil(2 * radius)))  # the number of integers inside an open interval of that length
    first = np.clip(np.floor(center - radius) + 1, 0, old - taps).astype(np.int64)
    distance = np.abs(first[:, None] + np.arange(taps) - center[:, None]) / stretch
    weights = np.maximum(0, 1 - distance) if kernel == "linear" else _lanczos3(distance)
    return first, (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _lanczos3(distance: Float[np.ndarray, "new taps"]) -> Float[np.ndarray, "new taps"]:
    return np.where(distance < 3, np.sinc(distance) * np.sinc(distance / 3), 0.0)


@compiled(fastmath=True)
def _blend_rows(source, first, weights, scale, offset, highest, out):
    """Computes each row of `out` as `offset + scale * sum of weights * neighboring rows of source`, in [0, highest]."""
    line = np.empty(source.shape[1], np.float32)
    for row in range(len(first)):
        line[:] = np.float32(offset)
        for tap in range(weights.shape[1]):
            _add(line, np.float32(weights[row, tap] * scale), source[first[row] + tap])
        _clip(line, np.float32(highest), out[row])


@compiled(fastmath=True)
def _add(line, weight, row):
    for index in range(len(line)):
        line[index] += weight * np.float32(row[index])


@compiled(fastmath=True)
def _clip(line, highest, row):
    for index in range(len(line)):
        row[index] = np.int32(min(max(line[index], np.float32(0)), highest))
