"""The record of an import: `import.json` beside the imported files, written after each of them."""

import glob
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError
from rlgen.core.files import disk_errors, read_json, write_json

RECORD = "import.json"
_FORMAT = 1


@dataclass(frozen=True)
class Imported:
    """What became of one file, or of the episodes of one task of a dataset.

    Attributes:
      source: the file or dataset, as the user named it.
      output: file or folder below the import's folder; empty if no episode was kept.
      task: `<suite>/<name>`.
      read: episodes in the source, bad ones included.
      kept: episodes in the output.
      bad: episode and what is wrong with it; one named "file" where nothing of it can be read.
      failed: episode and why its replay is no success.
      steps: control steps of what was kept.
      noops: actions that were dropped before the replays of what was kept.
      physics: whether the output has physics states.
      key: changes when the source does.
    """

    source: str
    output: str
    task: str
    read: int
    kept: int
    bad: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    steps: int = 0
    noops: int = 0
    physics: bool = True
    key: str = ""


class Record:
    """What an output folder holds so far: the sources that are finished, and whose each output is.

    An output is claimed before it is written, so that one which was finished a moment before a crash is known.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any], *, overwrite: bool = False):
        """Opens or begins the record of an import with these options.

        Raises:
          UserError: the folder holds an import with other options and may not be overwritten.
        """
        self.folder, self._options, self._overwrite = Path(folder), dict(options), overwrite
        self._owners: dict[str, str] = {}
        self.done: list[Imported] = []
        if (self.folder / RECORD).is_file() and not overwrite:
            self._read()

    def finished(self, source: str, key: str) -> list[Imported]:
        """What was imported from an unchanged source and is still there."""
        same = [entry for entry in self.done if entry.source == source and entry.key == key]
        there = [not entry.output or (self.folder / entry.output).exists() for entry in same]
        return same if all(there) else []

    def claim(self, source: str, output: str) -> Path:
        """Where a source's output may be written; `UserError` if something else is there already."""
        path, owner = self.folder / output, self._owners.get(output)
        if owner not in (None, source) or (owner is None and path.exists() and not self._overwrite):
            raise UserError(f"{path}: is there already and not from {source}; pass --overwrite or choose another --out")
        self._owners[output] = source
        self._save()
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):  # of an import that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        return path

    def add(self, entries: list[Imported]) -> None:
        """Records what became of a source, in place of what was known of it."""
        sources = {entry.source for entry in entries}
        self.done = [entry for entry in self.done if entry.source not in sources] + entries
        self._save()

    def _save(self) -> None:
        value = {"format": _FORMAT, "options": self._options, "total": totals(self.done)}
        value |= {"outputs": self._owners, "files": [asdict(entry) for entry in self.done]}
        with disk_errors(self.folder / RECORD):
            write_json(self.folder / RECORD, value)

    def _read(self) -> None:
        path = self.folder / RECORD
        try:
            value = read_json(path)
            known, self._owners = value["options"], dict(value["outputs"])
            self.done = [Imported(**entry) for entry in value["files"]]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not readable ({error}); pass --overwrite or choose another --out") from None
        differing = sorted(key for key in {*known, *self._options} if known.get(key) != self._options.get(key))
        if not self.done and not any((self.folder / output).exists() for output in self._owners):
            self._owners = {}  # an import that came to nothing binds nobody
        elif differing:
            raise UserError(
                f"{self.folder} holds an import with another {', '.join(differing)}; "
                "pass --overwrite to begin anew or choose another --out"
            )


def totals(entries: list[Imported]) -> dict[str, int]:
    """Sums over all sources."""
    return {
        "read": sum(entry.read for entry in entries),
        "kept": sum(entry.kept for entry in entries),
        "bad": sum(len(entry.bad) for entry in entries),
        "failed": sum(len(entry.failed) for entry in entries),
        "steps": sum(entry.steps for entry in entries),
        "noops": sum(entry.noops for entry in entries),
    }
