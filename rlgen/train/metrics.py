"""Append-only metrics, one JSON object a line."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from rlgen.files import write_bytes


class Sink(Protocol):
    """Hears every line as well."""

    def write(self, line: dict[str, Any]) -> None:
        """Takes a line in."""


class Metrics:
    """The metrics of one stage.

    Args:
      path: the file.
      keep: lines whose `step` is above this are dropped first; a stage that goes on from a checkpoint
        writes them again.
      sinks: hear every line that is written.
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
    """All whole lines of a metrics file; a line that was cut off is left out."""
    if not Path(path).is_file():
        return []
    lines = []
    for text in Path(path).read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines
