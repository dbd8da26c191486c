"""Images of episodes: their orientation, their encoding, and a cache of decoded ones.

Images have one of three orientations:
  raw: the benchmark's own (robosuite's "opengl"): row 0 is the bottom of what the camera sees. Renderers return it
    and LIBERO's HDF5 files hold it.
  of datasets: raw rotated by 180 degrees (`rotate_180`): the right way up, but mirrored left to right. RLDS,
    array_record and LeRobot datasets hold it, and a VLA trained on them takes it.
  for people: raw flipped vertically (`flip_vertical`), as somebody beside the camera sees the scene. Videos and
    web pages show it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import cv2
import numpy as np
from jaxtyping import UInt8

from rlgen.core.errors import UserError

JPEG_QUALITY = 95  # the default of TensorFlow's encoder


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
        return decode_image(self.data[index], self.size)

    def __array__(self, dtype=None, copy=None) -> UInt8[np.ndarray, "T h w 3"]:
        if copy is False:
            raise ValueError("encoded images cannot become an array without being decoded")
        images = np.empty(self.shape, np.uint8)
        for index, data in enumerate(self.data):
            images[index] = decode_image(data, self.size)
        return images if dtype is None else images.astype(dtype, copy=False)


def decode_image(data: bytes, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes one image.

    Raises:
      UserError: it cannot be decoded, or its height and width are not `size`.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    if image is None:
        raise UserError(f"an image of {len(data)} bytes cannot be decoded; fetch or export the dataset again")
    if image.shape[:2] != size:
        raise UserError(f"an image of {image.shape[:2]} pixels, expected {size}; export the dataset again")
    return image


def encode_image(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Encodes an image as JPEG, with quality 95 and color at half resolution."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise ValueError(f"an image of shape {image.shape} could not be encoded")
    return data.tobytes()


def encode_frames(images: UInt8[np.ndarray, "T h w 3"] | EncodedFrames | Sequence[np.ndarray]) -> EncodedFrames:
    """Encodes the images of an episode; encoded ones are returned unchanged."""
    if isinstance(images, EncodedFrames):
        return images
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images are {images.dtype} of shape {images.shape}, expected uint8 (T, h, w, 3)")
    return EncodedFrames(tuple(map(encode_image, images)), images.shape[1:3])


CAMERAS = 2


class ImageCache:
    """A cache of the decoded images of the first frames of a dataset, as many as fit. Several threads may use it.

    Only a frame's index decides whether it is cached: in a random order over the dataset, the fraction of frames that
    need no decoding is the same in every part of an epoch.
    """

    def __init__(self, frames: int, size: int, budget: int):
        """Allocates the cache.

        Args:
          frames: number of frames in the dataset.
          size: width and height of the images, pixels.
          budget: limit in bytes.
        """
        self._rows = min(frames, budget // (CAMERAS * size * size * 3))
        # The system provides pages of it when they are first written to.
        self._images = np.empty((self._rows, CAMERAS, size, size, 3), np.uint8)
        self._filled = np.zeros(self._rows, bool)

    def has(self, frame: int) -> bool:
        """Returns whether the images of a frame are cached."""
        return frame < self._rows and bool(self._filled[frame])

    def get(self, frame: int) -> UInt8[np.ndarray, "cameras h w 3"]:
        """Returns the images of a cached frame; a view that must not be changed."""
        return self._images[frame]

    def put(self, frame: int, images: tuple[UInt8[np.ndarray, "h w 3"], ...]) -> None:
        """Stores the images of a frame, if it is one of those that fit."""
        if frame < self._rows:
            self._images[frame] = images
            self._filled[frame] = True  # only now may another thread read them
