"""Metrics of a training: a file of JSON lines, and copies for TensorBoard and Weights & Biases."""

import json
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rlgen.core.errors import missing_extra
from rlgen.core.files import write_bytes
from rlgen.data.formats.rlds.tfrecord import frame


class Sink(Protocol):
    """A receiver of every line of metrics."""

    def write(self, line: dict[str, Any]) -> None:
        """Receives a line: `step`, and values by name."""


class Metrics:
    """An append-only file of the metrics of one stage, one JSON object a line.

    Args:
      path: the file.
      keep: lines whose `step` is above this are dropped first; a stage that resumes from a checkpoint writes them
        again.
      sinks: receive every line that is written.
    """

    def __init__(self, path: Path, *, keep: int, sinks: Sequence[Sink] = ()):
        self._path, self._sinks = Path(path), tuple(sinks)
        lines = [line for line in read_metrics(self._path) if line["step"] <= keep]
        write_bytes(self._path, "".join(json.dumps(line) + "\n" for line in lines).encode())

    def write(self, step: int, **values: Any) -> None:
        """Appends one line."""
        with open(self._path, "a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for sink in self._sinks:
            sink.write({"step": step, **values})


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Returns all complete lines of a metrics file; a last line that was cut off is left out."""
    if not Path(path).is_file():
        return []
    lines = []
    for text in Path(path).read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


NAME = "events.out.tfevents.0.rlgen"


class EventWriter:
    """A TensorBoard event file of scalars; `start` writes it anew with earlier lines."""

    def __init__(self, folder: Path):
        self._path = Path(folder) / NAME

    def start(self, lines: list[dict]) -> None:
        """Writes the file anew with metrics lines, which have a `step`."""
        first = _event(time.time(), version="brain.Event:2")
        records = [first, *(_event(time.time(), int(line["step"]), scalars(line)) for line in lines)]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self._path, b"".join(map(_framed, records)))

    def write(self, line: dict) -> None:
        """Appends a metrics line."""
        with open(self._path, "ab") as file:
            file.write(_framed(_event(time.time(), int(line["step"]), scalars(line))))


def scalars(line: Mapping) -> dict[str, float]:
    """Returns the values of a metrics line by tag.

    Values of a nested rate get its name as a prefix; tags of seconds are grouped.
    """
    found: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{tag}": nested for tag, nested in scalars(value).items()}
        elif isinstance(value, int | float) and name != "step":
            found[name.replace("seconds_", "seconds/", 1)] = float(value)
    return found


def _event(wall_time: float, step: int = 0, values: Mapping[str, float] | None = None, version: str = "") -> bytes:
    record = b"\x09" + struct.pack("<d", wall_time) + b"\x10" + _varint(step)
    if version:
        record += _bytes_field(3, version.encode())
    if values:
        parts = (
            _bytes_field(1, _bytes_field(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
            for tag, value in values.items()
        )
        record += _bytes_field(5, b"".join(parts))
    return record


def _bytes_field(field: int, content: bytes) -> bytes:
    """Returns a field of bytes of a protocol buffer."""
    return bytes([field << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _framed(record: bytes) -> bytes:
    header, footer = frame(record)
    return header + record + footer


class WandbLog:
    """A run of a Weights & Biases project; a stage that resumes from a checkpoint resumes the same run."""

    def __init__(self, project: str, name: str, config: dict[str, Any]):
        """Starts or resumes a run.

        Args:
          project: name of the project.
          name: name of the run, which identifies it.
          config: stored with the run.

        Raises:
          UserError: the package is not installed.
        """
        try:
            import wandb  # pyright: ignore[reportMissingImports]: an extra
        except ImportError as error:
            raise missing_extra("wandb", "wandb", "wandb", "leave out --wandb") from error
        self._run = wandb.init(project=project, name=name, id=name, config=config, resume="allow")

    def write(self, line: dict[str, Any]) -> None:
        """Logs a metrics line."""
        self._run.log(scalars(line), step=int(line["step"]))
