"""Frames of videos, decoded when they are asked for, from the key frame before them on."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from rlgen.core.errors import UserError, first_line
from rlgen.data.formats.image_range import ImageRange
from rlgen.data.formats.lerobot.video import import_av
from rlgen.data.images import LARGEST_SIDE

_OPEN_FILES = 16  # of a thread
_READ_ON = 2  # frames that are rather decoded in passing than skipped by looking for a key frame
_ADVICE = "fetch or export the dataset again"


class VideoReader:
    """A decoder of single frames of video files. Several threads may use it, each with open files of its own.

    Args:
      fps: frames a second.
    """

    def __init__(self, fps: float):
        self.fps = fps
        self._open = threading.local()

    def read(self, path: Path, index: int, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
        """Decodes a frame; the next one of the same file takes no search.

        Args:
          path: of the file.
          index: of the frame, counted from the file's first at 0 s.
          size: height and width that it must have.

        Raises:
          UserError: the file is missing, damaged, or has no such frame; PyAV is not installed.
        """
        av = import_av()
        try:
            return self._decoder(path, size).frame(index)
        except (av.FFmpegError, OSError, ValueError) as error:
            self._close(path)
            if isinstance(error, UserError):
                raise
            reason = error.strerror if isinstance(error, av.FFmpegError | OSError) else first_line(error)
            raise UserError(f"{path}: frame {index} cannot be decoded ({reason}); {_ADVICE}") from error

    def _decoder(self, path: Path, size: tuple[int, int]) -> _Decoder:
        """Returns the decoder of a file, which stays open until others have been used more recently."""
        decoders = self._decoders
        if path not in decoders:
            decoders[path] = _Decoder(path, self.fps, size)
        decoders.move_to_end(path)
        while len(decoders) > _OPEN_FILES:
            decoders.popitem(last=False)[1].close()
        return decoders[path]

    def _close(self, path: Path) -> None:
        if path in self._decoders:
            self._decoders.pop(path).close()

    @property
    def _decoders(self) -> OrderedDict[Path, _Decoder]:
        if not hasattr(self._open, "decoders"):
            self._open.decoders = OrderedDict()
        return self._open.decoders


class _Decoder:
    """An open video and the position in it."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]):
        """Opens a file; `ValueError` where its images have not the height and width `size`."""
        av = import_av()
        self._container = av.open(str(path))
        self._converter = av.video.reformatter.VideoReformatter()  # a frame's own has its tables to make first
        self._fps = fps
        if not self._container.streams.video:
            raise ValueError("it has no video")
        self._stream = self._container.streams.video[0]
        context = self._stream.codec_context
        if context is None:
            raise ValueError("of an unknown codec")
        found = context.height, context.width
        if found != size or max(found) > LARGEST_SIDE:
            raise ValueError(f"images of {found} pixels, expected {size}")
        context.thread_count = 1  # others wait for further packets before they give the first frame
        self._size = size
        self._frames: Iterator[Any] = iter(())  # as PyAV decodes them
        self._next = -1  # index of the frame that comes next; -1 where that is not known

    def frame(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Decodes a frame; `ValueError` where the file has none at its time."""
        if not 0 <= self._next <= index <= self._next + _READ_ON:
            self._seek(index)
        for frame in self._frames:
            position = self._index(frame)
            self._next = position + 1
            if position == index:
                if frame.is_corrupt or (frame.height, frame.width) != self._size:
                    raise ValueError("it is damaged")
                return self._converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
            if position > index:
                break
        self._next = -1
        raise ValueError(f"none at {index / self._fps:.3f} s")

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def _seek(self, index: int) -> None:
        """Goes to the last key frame that is shown no later than a frame."""
        back = 0.0
        while True:
            start = max(0.0, index / self._fps - back)
            self._container.seek(round(start / self._stream.time_base), stream=self._stream)
            self._frames = self._container.decode(self._stream)
            first = next(self._frames, None)
            if first is None or start == 0 or self._index(first) <= index:
                break
            back = 2 * back + 1  # files whose frames are stored in another order than they are shown in

        def from_first() -> Iterator[Any]:
            if first is not None:
                yield first
                yield from rest

        rest, self._frames = self._frames, from_first()

    def _index(self, frame: Any) -> int:
        if frame.time is None:
            raise ValueError("a frame without a time")
        return round(frame.time * self._fps)


@dataclass(frozen=True)
class VideoFrames(ImageRange):
    """T images of one camera in an episode, in a file that may have those of other episodes as well.

    An index decodes one of them, `np.asarray` all.

    Attributes:
      reader: decodes them.
      path: of the file.
      first: index of the first one in the file.
      count: T.
      size: height and width, pixels.
    """

    reader: VideoReader
    path: Path
    first: int
    count: int
    size: tuple[int, int]

    def read_image(self, step: int) -> UInt8[np.ndarray, "h w 3"]:
        """Decodes the image of a step, from zero; `UserError` names it."""
        try:
            return self.reader.read(self.path, self.first + step, self.size)
        except UserError as error:
            raise UserError(f"step {step}: {error}") from error

    def __array__(self, dtype: Any = None, copy: Any = None) -> UInt8[np.ndarray, "T h w 3"]:
        if copy is False:
            raise ValueError("encoded images cannot become an array without being decoded")
        images = np.empty(self.shape, np.uint8)
        for step in range(self.count):
            images[step] = self[step]
        return images if dtype is None else images.astype(dtype, copy=False)

    def check_sizes(self) -> None:
        """Checks that the file is there; its images are compared with `size` when it is opened.

        Raises:
          UserError: it is not.
        """
        if not self.path.is_file():
            raise UserError(f"{self.path}: no such video; {_ADVICE}")
