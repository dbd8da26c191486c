"""Types of arrays, and memory of large arrays that is used again once nobody holds the array.

The system provides pages of zeros for every new large array, and takes them back with the array: that costs several
times as much as a copy into memory that is there already.
"""

import math
from collections import deque
from typing import Any

import numpy as np
from jaxtyping import Array, Int, UInt8

AnyArray = Array | np.ndarray
"""An array that JAX computes with: its own arrays, or NumPy's, as chains, normalizers and loaded parameters are."""
KEPT = 16
"""Blocks that are kept for later at most."""
LARGEST_KEPT = 256 << 20
"""Bytes of a block that is kept at most."""


class ReusedMemory:
    """An allocator of byte arrays; several threads may use it.

    An array may be held as long as somebody likes, and so may views of it: its memory is given to another array only
    when the last of them is gone.
    """

    def __init__(self) -> None:
        self._free: deque[UInt8[np.ndarray, " size"]] = deque(maxlen=KEPT)
        self._largest = 0

    def empty(self, shape: tuple[int, ...]) -> UInt8[np.ndarray, "..."]:
        """Returns an array with values that happen to be there."""
        size = math.prod(shape)
        self._largest = max(self._largest, size)
        block = self._take(size)
        return np.asarray(_Lease(block, shape, self._free)) if size <= LARGEST_KEPT else block.reshape(shape)

    def _take(self, size: int) -> UInt8[np.ndarray, " block"]:
        """Returns a block of at least `size` bytes, of exactly that where it will not be kept."""
        if size > LARGEST_KEPT:
            return np.empty(size, np.uint8)
        while self._free:
            try:
                block = self._free.pop()
            except IndexError:  # another thread took the last one
                break
            if len(block) >= size:
                return block
        # Sizes vary where several datasets share a batch: blocks of the largest fit all of them.
        return np.empty(min(self._largest, LARGEST_KEPT), np.uint8)


class _Lease:
    """The owner of an array's memory, which the array and all its views hold."""

    def __init__(self, block: np.ndarray, shape: tuple[int, ...], free: deque):
        self._block, self._free = block, free
        self.__array_interface__: dict[str, Any] = {**block.__array_interface__, "shape": shape}

    def __del__(self) -> None:
        self._free.append(self._block)


def keep_freed_memory() -> None:
    """Makes glibc keep blocks of up to 31 MB when they are freed; elsewhere it does nothing.

    It gives blocks of more than some size back to the system at once, and takes the size of the largest block that was
    freed for that size. Images, which libraries allocate one by one, would be in new pages every time.
    """
    np.empty(31 << 20, np.uint8)


class Scratch:
    """Arrays that a thread computes with for a moment, and has again when it asks for the same ones."""

    def __init__(self) -> None:
        self._arrays: dict[Any, np.ndarray] = {}

    def empty(self, shape: tuple[int, ...], kind: type[np.generic], name: str = "") -> np.ndarray:
        """Returns an array with values that happen to be there.

        Args:
          shape: of the array.
          kind: of its values.
          name: tells arrays of the same shape and kind apart that are needed at the same time.
        """
        key = shape, kind, name
        if key not in self._arrays:
            self._arrays[key] = np.empty(shape, kind)
        return self._arrays[key]


def copy_rows(
    source: UInt8[np.ndarray, "F h w 3"],
    index: Int[np.ndarray, " n"],
    rows: Int[np.ndarray, " n"],
    out: UInt8[np.ndarray, "B h w 3"],
) -> None:
    """Copies images `index` of `source` into rows of `out`, each once and without the interpreter's lock.

    Args:
      source: images.
      index: of those to copy.
      rows: of `out`, as many and each once; where they are all, they must be in order.
      out: is filled.
    """
    if len(rows) == len(out):
        np.take(source, index, axis=0, out=out, mode="wrap")  # "raise", the default, writes to a copy first
        return
    for row, image in zip(rows.tolist(), index.tolist(), strict=True):
        out[row] = source[image]
