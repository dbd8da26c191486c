"""Images of others' HDF5 files, read when they are asked for."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import UInt8

from rlgen.data.formats.hdf5.layout import named_damage
from rlgen.data.formats.image_range import ImageRange
from rlgen.data.images import rotate_180

_OPEN_FILES = 16
# Bytes of unpacked chunks that a file keeps: a chunk may have parts of the images of many steps.
_CHUNKS = 1 << 26


class ImageReader:
    """A reader of images of HDF5 files, some of which stay open. Several threads may use it, one after the other."""

    def __init__(self):
        self._lock = threading.Lock()
        self._open: OrderedDict[Path, h5py.File] = OrderedDict()

    def read(self, path: Path, name: str, rows: int | slice) -> np.ndarray:
        """Returns some rows of an array.

        Args:
          path: of the file.
          name: of the array in it.
          rows: index of one, or of several.

        Raises:
          UserError: they cannot be read.
        """
        with self._lock, named_damage(path, name):
            if path not in self._open:
                self._open[path] = h5py.File(path, "r", rdcc_nbytes=_CHUNKS)
            self._open.move_to_end(path)
            while len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            return self._open[path][name][rows]


@dataclass(frozen=True)
class StoredImages(ImageRange):
    """T images of one camera in an episode; an index reads one of them, `np.asarray` all.

    Attributes:
      reader: reads them.
      path: of the file.
      name: of the array.
      first: index of the first image in it.
      count: T.
      size: height and width, pixels.
      turned: whether they are stored raw, and not in the orientation of datasets.
    """

    reader: ImageReader
    path: Path
    name: str
    first: int
    count: int
    size: tuple[int, int]
    turned: bool

    def read_image(self, step: int) -> UInt8[np.ndarray, "h w 3"]:
        """Reads the image of a step, from zero."""
        return self._read(self.first + step)

    def __array__(self, dtype: Any = None, copy: Any = None) -> UInt8[np.ndarray, "T h w 3"]:
        if copy is False:
            raise ValueError("stored images cannot become an array without being read")
        images = self._read(slice(self.first, self.first + self.count))
        return images if dtype is None else images.astype(dtype, copy=False)

    def check_sizes(self) -> None:
        """Does nothing: an array has images of one size."""

    def _read(self, rows: int | slice) -> np.ndarray:
        images = self.reader.read(self.path, self.name, rows)
        return rotate_180(images) if self.turned else images
