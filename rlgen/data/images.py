"""Images of episodes: their orientation, their encoding, and a cache of decoded ones.

Images have one of three orientations:
  raw: the benchmark's own (robosuite's "opengl"): row 0 is the bottom of what the camera sees. Renderers return it
    and LIBERO's HDF5 files hold it.
  of datasets: raw rotated by 180 degrees (`rotate_180`): the right way up, but mirrored left to right. RLDS,
    array_record and LeRobot datasets hold it, and a VLA trained on them takes it.
  for people: raw flipped vertically (`flip_vertical`), as somebody beside the camera sees the scene. Videos and
    web pages show it.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol, overload

import cv2
import numpy as np
import simplejpeg
from jaxtyping import Int, UInt8

from rlgen.core.arrays import copy_rows
from rlgen.core.errors import UserError

JPEG_QUALITY = 95  # the default of TensorFlow's encoder
LARGEST_SIDE = 4096
"""Pixels along a side of an image in a dataset at most: decoded it takes 50 MB."""
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# Markers of JPEG: frames, which have the size (C4, C8 and CC are none), those without a length, and the image itself.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_SCAN, _END = 0xDA, 0xD9


def rotate_180(images: UInt8[np.ndarray, "*n h w 3"]) -> UInt8[np.ndarray, "*n h w 3"]:
    """Rotates images by 180 degrees: from the benchmark's raw orientation to that of datasets, or back.

    Args:
      images: any number of images; raw ones have the bottom of the view in row 0 (robosuite's "opengl").

    Returns:
      A contiguous copy.
    """
    return np.ascontiguousarray(images[..., ::-1, ::-1, :])


def flip_vertical(images: UInt8[np.ndarray, "*n h w 3"]) -> UInt8[np.ndarray, "*n h w 3"]:
    """Reverses the order of the rows: from the benchmark's raw orientation to that for people, or back.

    Args:
      images: any number of images; raw ones have the bottom of the view in row 0 (robosuite's "opengl").

    Returns:
      A contiguous copy.
    """
    return np.ascontiguousarray(images[..., ::-1, :, :])


class FrameSequence(Protocol):
    """A sequence of T images that are decoded when they are asked for: encoded one by one, or as a video."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Returns `(T, h, w, 3)`."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any) -> Any:
        """Returns an image, or a sequence of those of a slice."""
        ...

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray: ...

    def check_sizes(self) -> None:
        """Checks that all images say that they have the size that `shape` says, without decoding them.

        Raises:
          UserError: one does not; the message names its step.
        """
        ...


@dataclass(frozen=True)
class EncodedFrames:
    """A sequence of T images as JPEG or PNG bytes; an index decodes one of them, `np.asarray` all.

    Attributes:
      data: the encoded images.
      size: height and width in pixels.
    """

    data: tuple[bytes, ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.data)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Returns `(T, h, w, 3)`."""
        return (len(self.data), *self.size, 3)

    @overload
    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]: ...
    @overload
    def __getitem__(self, index: slice) -> "EncodedFrames": ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return EncodedFrames(self.data[index], self.size)
        try:
            return decode_image(self.data[index], self.size)
        except UserError as error:
            raise UserError(f"step {index}: {error}") from error

    def check_sizes(self) -> None:
        """Checks that all images say that they have `size`, without decoding them.

        Raises:
          UserError: one does not; the message names its step.
        """
        for index, data in enumerate(self.data):
            try:
                _check_size(image_size(data), self.size)
            except UserError as error:
                raise UserError(f"step {index}: {error}") from error

    def __array__(self, dtype=None, copy=None) -> UInt8[np.ndarray, "T h w 3"]:
        if copy is False:
            raise ValueError("encoded images cannot become an array without being decoded")
        images = np.empty(self.shape, np.uint8)
        for index in range(len(self.data)):
            images[index] = self[index]
        return images if dtype is None else images.astype(dtype, copy=False)


def decode_image(
    data: bytes, size: tuple[int, int], out: UInt8[np.ndarray, "h w 3"] | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes one image, whose size is read from its header and compared before anything is decoded.

    Args:
      data: a JPEG or PNG.
      size: height and width that it must have.
      out: contiguous memory of that size for the result, which is not always used; by default it is new.

    Raises:
      UserError: it cannot be decoded, or its height and width are not `size`.
    """
    _check_size(image_size(data), size)
    out = np.empty((*size, 3), np.uint8) if out is None else out
    # OpenCV knows more, but is slower: it turns images as the camera was held, and shows what a damaged one still has.
    if data[:3] == _JPEG and b"Exif" not in data[: data.find(b"\xff\xda")]:
        try:
            image = simplejpeg.decode_jpeg(data, buffer=out)
            _check_size(image.shape[:2], size)
            return image
        except ValueError:
            pass
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"an image of {len(data)} bytes cannot be decoded; fetch or export the dataset again")
    _check_size(image.shape[:2], size)
    return image


def image_size(data: bytes) -> tuple[int, int]:
    """Returns height and width in pixels from the header of a JPEG or PNG.

    Raises:
      UserError: it is neither, or has more than `LARGEST_SIDE` pixels along a side.
    """
    found = _png_size(data) if data[:8] == _PNG else _jpeg_size(data) if data[:3] == _JPEG else None
    if found is None:
        raise UserError(
            f"an image of {len(data)} bytes cannot be decoded: no JPEG or PNG; fetch or export the dataset again"
        )
    if not 0 < min(found) <= max(found) <= LARGEST_SIDE:
        raise UserError(
            f"an image says that it has {found} pixels, expected 1 to {LARGEST_SIDE} along each side; "
            "fetch or export the dataset again"
        )
    return found


def _check_size(found: tuple[int, ...], expected: tuple[int, int]) -> None:
    if found != expected:
        raise UserError(f"an image of {found} pixels, expected {expected}; export the dataset again")


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    position = 2
    while position >= 0 and position + 9 <= len(data):
        if data[position] != 0xFF:  # decoders pass over what is between two markers
            position = data.find(b"\xff", position)
            continue
        marker = data[position + 1]
        if marker == 0xFF or marker in _ALONE:  # a byte of padding, or a marker without a length
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAMES:
            height, width = data[position + 5 : position + 7], data[position + 7 : position + 9]
            return int.from_bytes(height, "big"), int.from_bytes(width, "big")
        if marker in (_SCAN, _END):
            return None
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def encode_image(image: UInt8[np.ndarray, "h w 3"], quality: int = JPEG_QUALITY) -> bytes:
    """Encodes an image as JPEG, with color at half resolution; datasets have the quality that is the default."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"an image of shape {image.shape} could not be encoded")
    return data.tobytes()


def encode_frames(images: UInt8[np.ndarray, "T h w 3"] | FrameSequence | Sequence[np.ndarray]) -> EncodedFrames:
    """Encodes the images of an episode; encoded ones are returned unchanged."""
    if isinstance(images, EncodedFrames):
        return images
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images are {images.dtype} of shape {images.shape}, expected uint8 (T, h, w, 3)")
    return EncodedFrames(tuple(map(encode_image, images)), images.shape[1:3])


@dataclass(frozen=True)
class JoinedFrames:
    """The images of several episodes one after the other; an index decodes one of them.

    Attributes:
      parts: of each episode.
      ends: number of images up to the end of each.
    """

    parts: tuple[FrameSequence, ...]
    ends: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Returns `(T, h, w, 3)`."""
        return (len(self), *self.parts[0].shape[1:])

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        part = bisect_right(self.ends, index)
        return self.parts[part][index - self.ends[part] + len(self.parts[part])]

    def __array__(self, dtype=None, copy=None) -> UInt8[np.ndarray, "T h w 3"]:
        return np.concatenate([part.__array__(dtype, copy) for part in self.parts])

    def check_sizes(self) -> None:
        """Checks the images of each episode."""
        for part in self.parts:
            part.check_sizes()


def join_frames(parts: Sequence[FrameSequence]) -> FrameSequence:
    """Returns the images of several episodes as one sequence, without decoding them."""
    if all(isinstance(part, EncodedFrames) for part in parts):
        return EncodedFrames(tuple(data for part in parts for data in part.data), parts[0].size)
    return JoinedFrames(tuple(parts), tuple(accumulate(map(len, parts))))


_IMAGES_PER_CALL = 16  # of a thread


def start_encoding(
    images: UInt8[np.ndarray, "T h w 3"] | FrameSequence, executor: Executor
) -> Callable[[], EncodedFrames]:
    """Starts to encode the images of an episode in threads; the function that it returns waits for all of them."""
    starts = range(0, len(images), _IMAGES_PER_CALL)
    parts = [executor.submit(encode_frames, images[start : start + _IMAGES_PER_CALL]) for start in starts]

    def joined() -> EncodedFrames:
        done = [part.result() for part in parts]
        return EncodedFrames(tuple(image for part in done for image in part.data), done[0].size)

    return joined


class ImageCache:
    """A cache of the decoded images of the first frames of a dataset, as many as fit. Several threads may use it.

    Only a frame's index decides whether it is cached: in a random order over the dataset, the fraction of frames that
    need no decoding is the same in every part of an epoch.
    """

    def __init__(self, frames: int, cameras: int, size: int, budget: int):
        """Allocates the cache.

        Args:
          frames: number of frames in the dataset.
          cameras: images of a frame.
          size: width and height of the images, pixels.
          budget: limit in bytes.
        """
        self._rows = min(frames, budget // (cameras * size * size * 3))
        # The system provides pages of it when they are first written to.
        self._images = [np.empty((self._rows, size, size, 3), np.uint8) for _ in range(cameras)]
        self._filled = np.zeros(frames, bool)

    def read(
        self, frames: Int[np.ndarray, " B"], out: Sequence[UInt8[np.ndarray, "B h w 3"]]
    ) -> Int[np.ndarray, " missing"]:
        """Copies the images of those frames that are cached.

        Args:
          frames: of the dataset.
          out: an array for each camera, with a row for each frame.

        Returns:
          The rows of the other frames.
        """
        cached = self._filled[frames]
        rows = np.flatnonzero(cached)
        for images, target in zip(self._images, out, strict=True):
            copy_rows(images, frames[rows], rows, target)
        return np.flatnonzero(~cached)

    def put(self, frame: int, images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> None:
        """Stores the images of a frame, if it is one of those that fit."""
        if frame < self._rows:
            for camera, image in zip(self._images, images, strict=True):
                camera[frame] = image
            self._filled[frame] = True  # only now may another thread read them
