"""TFRecord files without TensorFlow: for each record its length, a checksum of that, the record, and its checksum."""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from rlgen.core.errors import UserError
from rlgen.data.index import damaged_record, episode_of_record

HEADER_SIZE = 12
FOOTER_SIZE = 4
_MASK_DELTA = 0xA282EAD8


def masked_crc32c(data: bytes) -> int:
    """Returns the CRC-32C (Castagnoli), rotated and offset as TFRecord stores it."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def frame(record: bytes) -> tuple[bytes, bytes]:
    """Returns the header and the footer of `record` in a file."""
    length = struct.pack("<Q", len(record))
    header = length + struct.pack("<I", masked_crc32c(length))
    return header, struct.pack("<I", masked_crc32c(record))


def read_records(path: Path) -> Iterator[bytes]:
    """Yields the records of a file in order.

    Raises:
      UserError: the file is missing, truncated or altered; the message names the file and the record.
    """
    with _opened(path) as file:
        size = _size(file)
        index = 0
        while file.tell() < size:
            yield _read_record(file, size, path, index)
            index += 1


def record_offsets(path: Path) -> list[int]:
    """Returns the offset of each record's header, without reading the records."""
    offsets = []
    with _opened(path) as file:
        size = _size(file)
        while file.tell() < size:
            offsets.append(file.tell())
            length = _read_length(file, size, path, len(offsets) - 1)
            file.seek(length + FOOTER_SIZE, io.SEEK_CUR)
    return offsets


def read_record_at(path: Path, offset: int, index: int) -> bytes:
    """Reads one record.

    Args:
      path: of the file.
      offset: of the record's header, bytes.
      index: position of the record, for the message of an error.

    Raises:
      UserError: as `read_records`.
    """
    with _opened(path) as file:
        size = _size(file)
        file.seek(offset)
        return _read_record(file, size, path, index)


def _read_record(file: BinaryIO, size: int, path: Path, index: int) -> bytes:
    record = file.read(_read_length(file, size, path, index))
    footer = file.read(FOOTER_SIZE)
    if struct.unpack("<I", footer)[0] != masked_crc32c(record):
        raise _damaged(path, index, "its checksum does not match")
    return record


def _read_length(file: BinaryIO, size: int, path: Path, index: int) -> int:
    header = file.read(HEADER_SIZE)
    if len(header) < HEADER_SIZE:
        raise _damaged(path, index, "the file ends inside it")
    length, crc = struct.unpack("<QI", header)
    if crc != masked_crc32c(header[:8]):
        raise _damaged(path, index, "the checksum of its length does not match")
    if file.tell() + length + FOOTER_SIZE > size:
        raise _damaged(path, index, "the file ends inside it")
    return length


def _opened(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); fetch or export the dataset again") from error


def _size(file: BinaryIO) -> int:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return size


def _damaged(path: Path, index: int, reason: str) -> UserError:
    return damaged_record(path, index, episode_of_record(path, index), reason)
