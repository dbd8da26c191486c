"""The manifest of an import: `import.json` beside the imported files, written after each of them."""

import glob
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError
from rlgen.core.files import disk_errors, read_json, write_json

MANIFEST = "import.json"
_FORMAT = 1
# Options whose names in the manifest are not those of the command line.
_OPTION_NAMES = {"pictures": "images", "size": "image size", "view": "renderer", "count": "episodes"}


@dataclass(frozen=True)
class ImportResult:
    """The outcome of one file, or of the episodes of one task of a dataset.

    Attributes:
      source: the file or dataset, as the user named it.
      output: file or folder below the import's folder; empty if no episode was kept.
      task: `<suite>/<name>`.
      read: episodes in the source, bad ones included.
      kept: episodes in the output.
      bad: reason for each episode that cannot be read; named "file" where nothing of it can be read.
      failed: reason for each episode whose replay is no success.
      steps: control steps of the kept episodes.
      noops: actions that were dropped before the replays of the kept episodes.
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


class ImportManifest:
    """The finished sources of an output folder, and the source that each output belongs to.

    An output is claimed before it is written, so that one which was finished a moment before a crash is known.

    Attributes:
      folder: of the outputs.
      results: of the finished sources.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any], *, overwrite: bool = False):
        """Opens or creates the manifest of an import.

        Args:
          folder: of the outputs.
          options: that decide the outputs.
          overwrite: replace an import with other options.

        Raises:
          UserError: the folder holds an import with other options and may not be overwritten, or something else.
        """
        self.folder, self._options, self._overwrite = Path(folder), dict(options), overwrite
        self._owners: dict[str, str] = {}
        self.results: list[ImportResult] = []
        if (self.folder / MANIFEST).is_file():
            self._read()

    def finished(self, source: str, key: str) -> list[ImportResult]:
        """Returns the results of an unchanged source, if its outputs still exist.

        Args:
          source: the file or dataset.
          key: of the source's current content.
        """
        same = [result for result in self.results if result.source == source and result.key == key]
        exist = [not result.output or (self.folder / result.output).exists() for result in same]
        return same if all(exist) else []

    def claim(self, source: str, output: str) -> Path:
        """Records that an output belongs to a source, and returns the path to write.

        Args:
          source: the file or dataset.
          output: name below the folder.

        Raises:
          UserError: the output exists and is not from this source.
        """
        path, owner = self.folder / output, self._owners.get(output)
        if owner is None and path.exists():
            raise UserError(
                f"{path} already exists and is not from {source} or an earlier import; move it away or choose another "
                "--out"
            )
        if owner not in (None, source) and not self._overwrite:
            raise UserError(f"{path} already exists and is not from {source}; pass --overwrite or choose another --out")
        self._owners[output] = source
        self._save()
        for partial in path.parent.glob(f".{glob.escape(path.name)}.*.part"):  # of an import that was killed
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
        return path

    def add(self, results: list[ImportResult]) -> None:
        """Records the results of a source, in place of earlier ones."""
        sources = {result.source for result in results}
        self.results = [result for result in self.results if result.source not in sources] + results
        self._save()

    def _save(self) -> None:
        value = {"format": _FORMAT, "options": self._options, "total": totals(self.results)}
        value |= {"outputs": self._owners, "files": [asdict(result) for result in self.results]}
        with disk_errors(self.folder / MANIFEST):
            write_json(self.folder / MANIFEST, value)

    def _read(self) -> None:
        path = self.folder / MANIFEST
        try:
            value = read_json(path)
            stored, self._owners = value["options"], dict(value["outputs"])
            self.results = [ImportResult(**result) for result in value["files"]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path}: not readable ({error}); move it away or choose another --out") from None
        if self._overwrite:
            self.results = []
            return
        differing = sorted(key for key in {*stored, *self._options} if stored.get(key) != self._options.get(key))
        if not self.results and not any((self.folder / output).exists() for output in self._owners):
            self._owners = {}  # an import without any output binds nobody
        elif differing:
            names = ", ".join(_OPTION_NAMES.get(key, key) for key in differing)
            raise UserError(
                f"{self.folder} holds an import that differs in {names}; pass --overwrite to replace it or choose "
                "another --out"
            )


def totals(results: list[ImportResult]) -> dict[str, int]:
    """Returns sums over all sources."""
    return {
        "read": sum(result.read for result in results),
        "kept": sum(result.kept for result in results),
        "bad": sum(len(result.bad) for result in results),
        "failed": sum(len(result.failed) for result in results),
        "steps": sum(result.steps for result in results),
        "noops": sum(result.noops for result in results),
    }
