"""Resizing of images as training and evaluation of VLAs do it, with antialiasing where an image shrinks.

The kernels:
  linear: `jax.image.resize(..., "linear")` and TensorFlow's `bilinear` with `antialias=True`, as in openpi.
  lanczos3: as in the data loaders of Octo and OpenVLA.
  pillow: Pillow's bilinear filter, to the last bit, as in openpi's clients.
The first two agree with the originals up to rounding. All are compiled and run without the interpreter's lock. Of the
first two rows are blended first and stored with 16 bits, then columns; of Pillow's columns first, stored with 8 bits.
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
_PRECISION = 22  # bits behind the point of Pillow's weights


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
    """Returns what Pillow's `resize` gives: columns first; an axis that keeps its length is left as it is."""
    if image.shape[0] > image.shape[1] or height * image.shape[1] < width * image.shape[0]:
        # Of upright images, and where rows shrink more than columns, Pillow 13 may begin with the rows.
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    image = np.ascontiguousarray(image)
    if image.shape[1] != width:
        image = cv2.transpose(_shrunk_rows(cv2.transpose(image), width))
    return image if image.shape[0] == height else _shrunk_rows(image, height)


def _shrunk_rows(image: UInt8[np.ndarray, "h w 3"], rows: int) -> UInt8[np.ndarray, "rows w 3"]:
    height, width = image.shape[:2]
    out = np.empty((rows, width, 3), np.uint8)
    _blend_bytes(image.reshape(height, -1), *_pillow_taps(height, rows), out.reshape(rows, -1))
    return out


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


@functools.lru_cache(maxsize=32)
def _pillow_taps(old: int, new: int) -> tuple[Int[np.ndarray, " new"], Int[np.ndarray, "new taps"]]:
    """Returns what `_taps` does as Pillow's bilinear filter has it: weights are integers, 1 is `1 << _PRECISION`.

    The source is `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow's Resample.c.
    """
    scale = old / new
    stretch = max(scale, 1.0)
    center = (np.arange(new) + 0.5) * scale
    first = np.maximum(0, (center - stretch + 0.5).astype(np.int64))
    end = np.minimum(old, (center + stretch + 0.5).astype(np.int64))
    taps = int((end - first).max())
    index = first[:, None] + np.arange(taps)
    distance = np.abs((index - center[:, None] + 0.5) * (1 / stretch))
    weights = np.where(index < end[:, None], np.maximum(0, 1 - distance), 0.0)
    total = np.zeros((new, 1))
    for tap in range(taps):  # one after the other, as sums of doubles depend on their order
        total += weights[:, tap : tap + 1]
    fixed = (0.5 + weights / total * (1 << _PRECISION)).astype(np.int32)
    # Behind the last row there is nothing to read: where a filter ends there, it begins earlier, with weights of zero.
    start = np.minimum(first, old - taps)
    shift = first - start
    moved = np.zeros_like(fixed)
    for row in range(new):
        moved[row, shift[row] :] = fixed[row, : taps - shift[row]]
    return start, moved


def _lanczos3(distance: Float[np.ndarray, "new taps"]) -> Float[np.ndarray, "new taps"]:
    return np.where(distance < 3, np.sinc(distance) * np.sinc(distance / 3), 0.0)


# Sums may not be reordered: two processors that fuse multiplication and addition give the same bits.
_FAST = {"contract", "nnan", "ninf", "nsz"}


@compiled(fastmath=_FAST)
def _blend_rows(source, first, weights, scale, offset, highest, out):
    """Computes each row of `out` as `offset + scale * sum of weights * neighboring rows of source`, in [0, highest]."""
    taps, width = weights.shape[1], source.shape[1]
    line, known = np.empty(width, np.float32), 0
    floats = np.empty((taps, width), np.float32)  # of the rows that are looked at; row i is at i % taps
    for row in range(len(first)):
        start = first[row]
        while known < start + taps:
            _convert(source[known], floats[known % taps])
            known += 1
        line[:] = np.float32(offset)
        tap = 0
        while tap + 3 <= taps:  # in threes, so that the line is loaded and stored less often
            _add_three(line, weights[row, tap : tap + 3], scale, floats, start + tap)
            tap += 3
        while tap < taps:
            _add(line, np.float32(weights[row, tap] * scale), floats[(start + tap) % taps])
            tap += 1
        _clip(line, np.float32(highest), out[row])


@compiled()
def _convert(row, line):
    for index in range(len(line)):
        line[index] = np.float32(row[index])


@compiled(fastmath=_FAST)
def _add(line, weight, row):
    for index in range(len(line)):
        line[index] += weight * row[index]


@compiled(fastmath=_FAST)
def _add_three(line, weights, scale, floats, start):
    taps = len(floats)
    a, b, c = np.float32(weights[0] * scale), np.float32(weights[1] * scale), np.float32(weights[2] * scale)
    first, second, third = floats[start % taps], floats[(start + 1) % taps], floats[(start + 2) % taps]
    for index in range(len(line)):
        line[index] = ((line[index] + a * first[index]) + b * second[index]) + c * third[index]


@compiled(fastmath=_FAST)
def _clip(line, highest, row):
    for index in range(len(line)):
        row[index] = np.int32(min(max(line[index], np.float32(0)), highest))


@compiled()
def _blend_bytes(source, first, weights, out):
    """Computes each row of `out` as the sum of integer weights * neighboring rows of `source`, rounded."""
    line = np.empty(source.shape[1], np.int32)
    for row in range(len(first)):
        line[:] = np.int32(1 << (_PRECISION - 1))
        for tap in range(weights.shape[1]):
            _add_bytes(line, weights[row, tap], source[first[row] + tap])
        _store_bytes(line, out[row])


@compiled()
def _add_bytes(line, weight, row):
    for index in range(len(line)):
        line[index] = np.int32(line[index] + np.int32(weight * np.int32(row[index])))


@compiled()
def _store_bytes(line, row):
    for index in range(len(line)):
        row[index] = min(max(line[index] >> _PRECISION, 0), 255)


def limit_opencv_threads() -> None:
    """Keeps OpenCV from starting threads for each small image: the loader's own use the cores."""
    cv2.setNumThreads(1)
