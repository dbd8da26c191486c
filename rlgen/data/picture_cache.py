"""Pictures that were decoded once, kept while a budget of memory allows."""

import numpy as np
from jaxtyping import UInt8

CAMERAS = 2


class PictureCache:
    """Both cameras' pictures of the first so many frames of a dataset. Memory is taken as frames come in.

    Which frames are kept depends on their numbers alone: in a random order over the dataset the share of those that
    need no decoding is the same in every stretch of an epoch. Safe to use from several threads.
    """

    def __init__(self, frames: int, size: int, budget: int):
        """At most `budget` bytes for pictures of `size` pixels a side."""
        self._rows = min(frames, budget // (CAMERAS * size * size * 3))
        # Pages of it are only there once they are written to.
        self._pictures = np.empty((self._rows, CAMERAS, size, size, 3), np.uint8)
        self._filled = np.zeros(self._rows, bool)

    def has(self, frame: int) -> bool:
        """Whether the pictures of a frame are here."""
        return frame < self._rows and bool(self._filled[frame])

    def get(self, frame: int) -> UInt8[np.ndarray, "cameras h w 3"]:
        """The pictures of a frame that is here; not to be written to."""
        return self._pictures[frame]

    def put(self, frame: int, pictures: tuple[UInt8[np.ndarray, "h w 3"], ...]) -> None:
        """Keeps the pictures of a frame, if it is one of those that are kept."""
        if frame < self._rows:
            self._pictures[frame] = pictures
            self._filled[frame] = True  # only now may another thread look
