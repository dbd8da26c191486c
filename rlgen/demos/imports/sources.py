"""Sources of an import at a path."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from rlgen.core.errors import UserError

HDF5_SUFFIXES = (".hdf5", ".h5")


@dataclass(frozen=True)
class Source:
    """A file or dataset to import.

    Attributes:
      kind: an HDF5 file, or a directory of an RLDS dataset.
      path: of the file or directory.
      name: path below the folder that the user named; the output has the same.
    """

    kind: Literal["hdf5", "rlds"]
    path: Path
    name: PurePosixPath


def find_sources(path: Path) -> list[Source]:
    """Returns the HDF5 files and RLDS datasets at `path` and below it, sorted by name.

    Raises:
      UserError: there is none.
    """
    path = Path(path)
    if path.is_file():
        return [Source("hdf5", path, PurePosixPath(path.name))]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; expected HDF5 demonstrations or an RLDS dataset")
    if _is_rlds(path):
        return [Source("rlds", path, PurePosixPath(path.parent.name or path.name))]
    found = []
    for file in sorted(path.rglob("*")):
        name = PurePosixPath(file.relative_to(path).as_posix())
        if any(part.startswith(".") for part in name.parts):  # unfinished downloads and exports
            continue
        if file.is_file() and file.suffix in HDF5_SUFFIXES:
            found.append(Source("hdf5", file, name))
        elif file.is_dir() and _is_rlds(file):
            found.append(Source("rlds", file, name))
    if not found:
        raise UserError(f"{path}: no {' or '.join(HDF5_SUFFIXES)} file and no RLDS dataset in it; name another folder")
    return found


def _is_rlds(folder: Path) -> bool:
    return (folder / "dataset_info.json").is_file()
