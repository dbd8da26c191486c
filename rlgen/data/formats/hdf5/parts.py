"""Parts of an unfinished file: a file for each demonstration, so that a killed export goes on after the last one.

A part is a complete file of one demonstration, whose name has the hash of its bytes. `join_parts` copies the stored
chunks of all parts into one file without decoding them, so that it has the same bytes however often it was interrupted.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import h5py

from rlgen.core.errors import UserError
from rlgen.core.files import atomic_path, disk_errors
from rlgen.data.formats.hdf5.layout import Demo, DemoFileInfo, named_damage
from rlgen.data.formats.hdf5.writer import creating, stream_demos
from rlgen.data.shards import file_sha256, parts_folder

_NAME = re.compile(r"(\d{5,})-([0-9a-f]{64})\.hdf5")
_SUMS = ("num_demos", "total")


class DemoParts:
    """The finished parts of one file, in a folder beside it.

    Attributes:
      folder: of the parts; made by the first of them.
      files: of the finished parts, in order.
    """

    def __init__(self, path: Path):
        """Takes the path of the file that the parts become; keeps the intact ones of an interrupted export."""
        self.path = Path(path)
        self.folder = parts_folder(self.path)
        self.files: list[Path] = []
        found = {match[1]: match for match in map(_NAME.fullmatch, self._names()) if match is not None}
        while (match := found.get(_number(len(self.files)))) is not None:
            file = self.folder / match[0]
            if file_sha256(file) != match[2]:
                break
            self.files.append(file)

    def _names(self) -> list[str]:
        return [path.name for path in sorted(self.folder.iterdir())] if self.folder.is_dir() else []

    def append(self, demo: Demo, info: DemoFileInfo) -> None:
        """Writes the next part, whole or not at all.

        Args:
          demo: of the same task as those before.
          info: the task and its environment.

        Raises:
          UserError: the demonstration is malformed, or an error of the disk.
        """
        unnamed = self.folder / f".{_number(len(self.files))}.part"
        try:
            stream_demos(unnamed, [demo], info)
            file = self.folder / f"{_number(len(self.files))}-{file_sha256(unnamed)}.hdf5"
            with disk_errors(file):
                unnamed.rename(file)
        finally:
            unnamed.unlink(missing_ok=True)
        self.files.append(file)

    def join(self) -> int:
        """Writes the file, whole or not at all; returns the number of steps. The parts stay."""
        return join_parts(self.path, self.files)


def join_parts(path: Path, parts: Sequence[Path]) -> int:
    """Joins files of one demonstration each; returns the number of steps.

    Args:
      path: of the joined file, which appears whole or not at all.
      parts: of the same task, at least one.

    Raises:
      UserError: they are of different tasks, one is damaged, or an error of the disk.
    """
    sums, attributes = dict.fromkeys(_SUMS, 0), {}
    with disk_errors(path), atomic_path(path) as temporary, creating(temporary) as file:
        data = file.create_group("data")
        for index, part in enumerate(parts):
            with named_damage(part), h5py.File(part, "r") as source:
                of_part = dict(source["data"].attrs)
                for name in _SUMS:
                    sums[name] += int(of_part.pop(name))
                differing = [name for name, value in of_part.items() if attributes.setdefault(name, value) != value]
                if differing:
                    raise UserError(f"{path}: parts differ in {differing[0]}, expected one task and prompt a file")
                source.copy("data/demo_0", data, name=f"demo_{index}")
        for name, value in {**attributes, **sums}.items():
            data.attrs[name] = value
    return sums["total"]


def _number(index: int) -> str:
    return f"{index:05d}"
