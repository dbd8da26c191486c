"""Images of an episode that follow one another in a file: what videos and arrays have in common."""

from dataclasses import replace
from typing import Any, Self, overload

import numpy as np
from jaxtyping import UInt8


class ImageRange:
    """T images of one camera, read when an index asks for one; the base of frozen dataclasses that have these fields.

    Attributes:
      first: index of the first one in the file.
      count: T.
      size: height and width, pixels.
    """

    first: int
    count: int
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Returns `(T, h, w, 3)`."""
        return (self.count, *self.size, 3)

    def __len__(self) -> int:
        return self.count

    @overload
    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index):
        if not isinstance(index, slice):
            return self.read_image(range(self.count)[index])
        chosen = range(self.count)[index]
        if chosen.step != 1:
            raise IndexError(f"every {chosen.step}th image: expected a slice without a step")
        this: Any = self
        return replace(this, first=self.first + chosen.start, count=len(chosen))

    def read_image(self, step: int) -> UInt8[np.ndarray, "h w 3"]:
        """Reads the image of a step, from zero."""
        raise NotImplementedError
