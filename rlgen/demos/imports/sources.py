"""Sources of an import at a path, and the task that a file of demonstrations is of."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from rlgen.core.errors import UserError
from rlgen.libero.tasks.suites import Task, all_tasks

HDF5_SUFFIXES = (".hdf5", ".h5")
_DEMO_ENDING = "_demo"


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


def find_demo_task(recorded: str, path: PurePosixPath | Path) -> Task | None:
    """Returns the task of a file of demonstrations, or None.

    Human demonstrations record paths of the machine that they were made on, some with the name of another suite. The
    task is looked up by the recorded id, then by the suite and name of the file, then by either name alone.

    Args:
      recorded: `<suite>/<name>` as the file has it, perhaps empty.
      path: of the file.
    """
    own = path.stem.removesuffix(_DEMO_ENDING)
    by_id = {task.id: task for task in all_tasks()}
    for task_id in (recorded, f"{path.parent.name}/{own}"):
        if task_id in by_id:
            return by_id[task_id]
    for name in (recorded.rpartition("/")[2], own):
        named = [task for task in all_tasks() if task.name == name]
        if len(named) == 1:
            return named[0]
    return None
