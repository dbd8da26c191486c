"""Scalars as TensorBoard reads them, without TensorFlow: a file of framed event records.

Protocol buffers (event.proto, summary.proto) need five fields here: an event's time, step, version and summary, and in
that a list of tags with a value each.
"""

import struct
import time
from collections.abc import Mapping
from pathlib import Path

from rlgen.data.tfrecord import frame
from rlgen.files import write_bytes

NAME = "events.out.tfevents.0.rlgen"


class EventWriter:
    """Appends scalars to one event file; `start` begins it anew with what is known already."""

    def __init__(self, folder: Path):
        self._path = Path(folder) / NAME

    def start(self, lines: list[dict]) -> None:
        """Writes the file again with metrics lines that have a `step`."""
        first = _event(time.time(), version="brain.Event:2")
        records = [first, *(_event(time.time(), int(line["step"]), scalars(line)) for line in lines)]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self._path, b"".join(map(_framed, records)))

    def write(self, line: dict) -> None:
        """Appends a metrics line."""
        with open(self._path, "ab") as file:
            file.write(_framed(_event(time.time(), int(line["step"]), scalars(line))))


def scalars(line: Mapping) -> dict[str, float]:
    """The numbers of a metrics line by tag; those of a nested rate get its name in front, seconds are grouped."""
    found: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{tag}": number for tag, number in scalars(value).items()}
        elif isinstance(value, int | float) and name != "step":
            found[name.replace("seconds_", "seconds/", 1)] = float(value)
    return found


def _event(moment: float, step: int = 0, values: Mapping[str, float] | None = None, version: str = "") -> bytes:
    record = b"\x09" + struct.pack("<d", moment) + b"\x10" + _varint(step)
    if version:
        record += _bytes_field(3, version.encode())
    if values:
        parts = (
            _bytes_field(1, _bytes_field(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
            for tag, value in values.items()
        )
        record += _bytes_field(5, b"".join(parts))
    return record


def _bytes_field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _framed(record: bytes) -> bytes:
    header, footer = frame(record)
    return header + record + footer
