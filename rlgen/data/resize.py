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

from rlgen.core.arrays import Scratch
from rlgen.core.compiled import compiled, wide_vectors

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
    scratch: Scratch | None = None,
) -> UInt8[np.ndarray, "h_out w_out 3"]:
    """Returns the image at another size; another aspect ratio is stretched.

    Args:
      image: of any size.
      size: of the result.
      kernel: see the module.
      out: contiguous array for the result; by default a new one, or `image` itself if it has this size already.
      scratch: memory of what is in between; by default it is new.
    """
    (height, width), (rows, columns) = image.shape[:2], height_and_width(size)
    if (height, width) == (rows, columns):
        return image if out is None else _copied(image, out)
    image = np.ascontiguousarray(image)
    if kernel == "pillow":
        resized = _by_pillow(image, rows, columns)
        return _copied(resized, np.empty((rows, columns, 3), np.uint8) if out is None else out)
    scratch = scratch or Scratch()
    lower = scratch.empty((rows, width * 3), np.uint16)
    taps = _taps(height, rows, kernel)
    _blend_rows(image.reshape(height, -1), *taps, _SCALE, _OFFSET + 0.5, 65535, lower)
    # Columns are blended as rows of the transposed image: neighbors in memory then have the same weights. Each color
    # has columns of its own, for numbers are transposed much faster than pixels.
    across = cv2.transpose(lower, scratch.empty((width * 3, rows), np.uint16, "across"))
    small = scratch.empty((columns * 3, rows), np.uint8)
    taps = _taps(width, columns, kernel)
    offset = 0.5 - _OFFSET / _SCALE
    _blend_rows(across.reshape(width, -1), *taps, 1 / _SCALE, offset, 255, small.reshape(columns, -1))
    out = np.empty((rows, columns, 3), np.uint8) if out is None else out
    cv2.transpose(small, out.reshape(rows, -1, copy=False))
    return out


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
    rows, columns = image.shape[:2]
    lines = np.ascontiguousarray(image).reshape(rows, -1)
    if columns != width:
        across = _shrunk_rows(cv2.transpose(lines).reshape(columns, -1), width)
        lines = cv2.transpose(across.reshape(-1, rows))
    return (lines if rows == height else _shrunk_rows(lines, height)).reshape(height, width, 3)


def _shrunk_rows(lines: UInt8[np.ndarray, "h n"], rows: int) -> UInt8[np.ndarray, "rows n"]:
    out = np.empty((rows, lines.shape[1]), np.uint8)
    _blend_bytes(lines, *_pillow_taps(len(lines), rows), out)
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


_use_wide_vectors = wide_vectors()


@compiled(fastmath=_FAST)
def _blend_rows(source, first, weights, scale, offset, highest, out):
    """Computes each row of `out` as `offset + scale * sum of weights * neighboring rows of source`, in [0, highest]."""
    _use_wide_vectors()
    taps, width = weights.shape[1], source.shape[1]
    # Behind the last weight are zeros, as many as are taken beyond it; they meet rows of other numbers.
    scaled = np.zeros((len(first), taps + 6), np.float32)
    scaled[:, :taps] = weights * scale
    kept = 1
    while kept < taps:
        kept *= 2
    floats = np.zeros((kept, width), np.float32)  # of the rows that are looked at; row i is at i % kept
    line, known = np.full(width, np.float32(offset), np.float32), 0
    for row in range(len(first)):
        start = first[row]
        while known < start + taps:
            _convert(source, known, floats)
            known += 1
        tap = 0
        if taps > 7:
            line[:] = np.float32(offset)
        while taps - tap > 7:
            _add_seven(scaled, row, tap, floats, start, line)
            tap += 7
        if taps - tap > 3:
            _end_seven(scaled, row, tap, floats, start, line, np.int32(highest), out)
        else:
            _end_three(scaled, row, tap, floats, start, line, np.int32(highest), out)


# Below, rows are named by their index: views of them, which are counted, would take a good part of the time.


@compiled()
def _convert(source, row, floats):
    _use_wide_vectors()
    target = row & (len(floats) - 1)
    for index in range(source.shape[1]):
        floats[target, index] = np.float32(source[row, index])


@compiled()
def _tap(weights, row, tap, floats, start):
    """Returns a weight, and the index of the row that it is of."""
    return weights[row, tap], (start + tap) & (len(floats) - 1)


@compiled(fastmath=_FAST)
def _add_seven(weights, row, tap, floats, start, line):
    _use_wide_vectors()
    for index in range(len(line)):
        line[index] = _sum_of_seven(weights, row, tap, floats, start, line, index)


@compiled(fastmath=_FAST)
def _end_seven(weights, row, tap, floats, start, line, highest, out):
    _use_wide_vectors()
    for index in range(len(line)):
        value = _sum_of_seven(weights, row, tap, floats, start, line, index)
        out[row, index] = min(max(np.int32(value), np.int32(0)), highest)


@compiled(fastmath=_FAST)
def _end_three(weights, row, tap, floats, start, line, highest, out):
    _use_wide_vectors()
    for index in range(len(line)):
        value = _sum_of_three(weights, row, tap, floats, start, line, index)
        out[row, index] = min(max(np.int32(value), np.int32(0)), highest)


@compiled(fastmath=_FAST)
def _sum_of_three(weights, row, tap, floats, start, line, index):
    a, i = _tap(weights, row, tap, floats, start)
    b, j = _tap(weights, row, tap + 1, floats, start)
    c, k = _tap(weights, row, tap + 2, floats, start)
    return ((line[index] + a * floats[i, index]) + b * floats[j, index]) + c * floats[k, index]


@compiled(fastmath=_FAST)
def _sum_of_seven(weights, row, tap, floats, start, line, index):
    a, i = _tap(weights, row, tap + 3, floats, start)
    b, j = _tap(weights, row, tap + 4, floats, start)
    c, k = _tap(weights, row, tap + 5, floats, start)
    d, n = _tap(weights, row, tap + 6, floats, start)
    three = _sum_of_three(weights, row, tap, floats, start, line, index)
    return (((three + a * floats[i, index]) + b * floats[j, index]) + c * floats[k, index]) + d * floats[n, index]


@compiled()
def _blend_bytes(source, first, weights, out):
    """Computes each row of `out` as the sum of integer weights * neighboring rows of `source`, rounded."""
    _use_wide_vectors()
    line = np.empty(source.shape[1], np.int32)
    for row in range(len(first)):
        line[:] = np.int32(1 << (_PRECISION - 1))
        for tap in range(weights.shape[1]):
            _add_bytes(line, weights[row, tap], source, first[row] + tap)
        _store_bytes(line, out, row)


@compiled()
def _add_bytes(line, weight, source, row):
    _use_wide_vectors()
    for index in range(len(line)):
        line[index] = np.int32(line[index] + np.int32(weight * np.int32(source[row, index])))


@compiled()
def _store_bytes(line, out, row):
    _use_wide_vectors()
    for index in range(len(line)):
        out[row, index] = min(max(line[index] >> _PRECISION, 0), 255)


def limit_opencv_threads() -> None:
    """Keeps OpenCV from starting threads for each small image: the loader's own use the cores."""
    cv2.setNumThreads(1)
