"""Arrays in zip archives (`.npz`), whose sizes are read and compared before anything is unpacked."""

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from rlgen.core.errors import UserError, first_line

# The errors that zipfile, zlib and NumPy raise for damaged contents.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    KeyError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    SyntaxError,
    OverflowError,
    MemoryError,
    tokenize.TokenError,
)
SMALL = 64_000_000
"""Bytes that anything may unpack to."""
RATIO = 100
"""Bytes that a larger entry may unpack to, for each byte that is stored: numbers and images stay far below."""
_MOST_NUMBERS = 1 << 40

Shape = tuple[int | None, ...]


def is_bomb(unpacked: int, stored: int) -> bool:
    """Returns whether contents that take `stored` bytes claim to be more than they can be, unpacked."""
    return unpacked > max(SMALL, RATIO * stored)


def check_entry(info: zipfile.ZipInfo) -> None:
    """Checks that an entry of an archive can be unpacked.

    Raises:
      ValueError: it claims to be far larger than what is stored.
    """
    if is_bomb(info.file_size, info.compress_size):
        raise ValueError(f"{info.filename} claims {info.file_size} bytes out of {info.compress_size}")


@contextmanager
def named_damage(path: Path, kind: str, advice: str) -> Iterator[None]:
    """Turns the errors of damaged contents into a `UserError`.

    Args:
      path: of the file.
      kind: what it should be, such as `episode file`.
      advice: what to do.
    """
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        raise UserError(f"{path}: not a readable {kind} ({first_line(error)}); {advice}") from error


def read_arrays(path: Path, shapes: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """Reads arrays of numbers from an `.npz` file.

    Args:
      path: of the file.
      shapes: of each array, by its name; None where a size or its meaning is not known.

    Raises:
      one of `DAMAGE`: an array is missing, damaged, of another shape, no array of numbers, or larger than what is
        stored of it can be. Nothing is unpacked before all sizes are compared.
    """
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.getinfo(f"{name}.npy") for name in shapes}
        for name, shape in shapes.items():
            check_entry(entries[name])
            with archive.open(entries[name]) as file:
                _check_header(file, name, shape, entries[name].file_size)
        arrays = {}
        for name, info in entries.items():
            with archive.open(info) as file:
                arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
                file.read()  # at its end the checksum is compared
        return arrays


def read_member(archive: zipfile.ZipFile, name: str, largest: int) -> bytes:
    """Reads a file of a zip archive that says before it is unpacked that it is not too large.

    Args:
      archive: the open archive.
      name: of the file in it.
      largest: bytes.

    Raises:
      UserError: the file is larger.
    """
    size = archive.getinfo(name).file_size
    if size > largest:
        raise UserError(f"{archive.filename}: {name} unpacks to {size} bytes, expected at most {largest}")
    with archive.open(name) as file:
        # Never more than was said: without a count all that is packed is unpacked at once.
        return file.read(size)


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Reads shape and type from the beginning of an array in NumPy's format.

    Raises:
      ValueError: there is none.
    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _check_header(file: IO[bytes], name: str, expected: Shape, size: int) -> None:
    shape, dtype = read_header(file)
    if dtype.kind not in "fiub":
        raise ValueError(f"{name} is of {dtype}, expected numbers")
    fits = len(shape) == len(expected) and all(want in (None, has) for has, want in zip(shape, expected, strict=True))
    if not fits:
        wanted = ", ".join("any" if part is None else str(part) for part in expected)
        raise ValueError(f"{name} has shape {shape}, expected ({wanted})")
    numbers = math.prod(shape)
    if min(shape, default=0) < 0 or numbers > _MOST_NUMBERS or file.tell() + numbers * dtype.itemsize != size:
        raise ValueError(f"{name} claims {numbers} numbers in {size} bytes")
