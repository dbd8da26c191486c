"""The record of a part: figures are written as they come, so that a time limit loses only what is missing."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax

from rlgen.bench.timing import describe, machine
from rlgen.core.errors import first_line
from rlgen.core.files import write_json

Put = Callable[[str, Any], None]


@dataclass(frozen=True)
class Setup:
    """The settings that all parts share.

    Attributes:
      dry_run: tiny sizes, to see that every line runs; the figures mean nothing.
      threads: of environments, renderer and decoders.
      scenes: folder of scene bundles, such as `libero_object-6-...`; the cache where None.
      assets: folder of object assets for scenes that are to be built; those that are found where None.
      placeholders: build scenes from placeholder assets.
    """

    dry_run: bool = False
    threads: int = 1
    scenes: str | None = None
    assets: str | None = None
    placeholders: bool = False

    def to_json(self) -> dict[str, Any]:
        """Returns the fields by name."""
        return asdict(self)


class Record:
    """The figures of a part in a file, with the device, versions, seconds, and whether it is finished.

    Args:
      path: of the file.
    """

    def __init__(self, path: Path):
        self._path, self._start = path, time.perf_counter()
        host = machine()
        self._value: dict[str, Any] = {
            **describe(),
            "host": {name: host[name] for name in ("processor", "cores")},
            "done": False,
            "figures": {},
        }
        self._value["versions"] |= host["versions"]
        self._write()

    def put(self, name: str, figure: Any) -> None:
        """Adds a figure.

        Args:
          name: of the figure; a later one of the same name replaces it.
          figure: JSON values.
        """
        self._value["figures"][name] = figure
        self._write()

    def finish(self, error: Exception | None = None) -> None:
        """Says that the part is done, or which error ended it, in one line."""
        if error is None:
            self._value["done"] = True
        else:
            self._value["reason"] = f"{type(error).__name__}: {first_line(error)}"[:300]
        self._write()

    def _write(self) -> None:
        write_json(self._path, self._value | {"seconds": time.perf_counter() - self._start, "peak_gib": _peak_gib()})


def _peak_gib() -> float | None:
    """Returns the most memory of the device that this process has held, GiB; None where the device does not say."""
    stats = jax.local_devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] / (1 << 30) if stats and "peak_bytes_in_use" in stats else None
