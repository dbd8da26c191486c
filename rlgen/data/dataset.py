"""The table of formats, and opening a dataset of any of them as a sequence of episodes."""

from collections.abc import Sequence
from pathlib import Path

from rlgen.core.errors import UserError
from rlgen.data.formats.array_record.format import ArrayRecordFormat, read_array_record
from rlgen.data.formats.hdf5.format import read_hdf5
from rlgen.data.formats.lerobot.format import LEROBOT_INFO, LeRobotFormat, read_lerobot
from rlgen.data.formats.rlds.description import INFO
from rlgen.data.formats.rlds.format import RldsFormat
from rlgen.data.formats.rlds.reader import RldsDataset, read_rlds
from rlgen.data.formats.rlds.schema import SPLIT
from rlgen.data.index import IndexedDataset
from rlgen.data.shards import read_manifest
from rlgen.data.writer import Format

_READERS = {"array_record": read_array_record, "lerobot": read_lerobot, "hdf5": read_hdf5}
FORMATS = ("rlds", "array_record", "lerobot", "hdf5")
# The formats that need nothing but `DatasetEpisode`s; HDF5 needs physics states as well.
ENCODED_FORMATS = ("rlds", "array_record", "lerobot")


def encoded_format(name: str, prompts: Sequence[str]) -> Format:
    """Returns one of `ENCODED_FORMATS` for writing episodes with these prompts."""
    if name == "lerobot":
        return LeRobotFormat(prompts)
    return {"rlds": RldsFormat, "array_record": ArrayRecordFormat}[name]()


def dataset_format(directory: Path) -> str | None:
    """Returns the name of a dataset's format; None if the folder is no dataset.

    RLDS datasets may come from anybody, those of other formats from this project only; a LeRobot dataset of others is
    recognized, so that opening it can say why it cannot be read.

    Raises:
      UserError: its manifest is damaged.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    if manifest is not None and manifest[0].format in FORMATS:
        return manifest[0].format
    if (directory / INFO).is_file():
        return "rlds"
    return "lerobot" if (directory / LEROBOT_INFO).is_file() else None


def open_dataset(directory: Path, split: str | None = None) -> RldsDataset | IndexedDataset:
    """Opens a dataset of any format. Images stay encoded, except in HDF5, which stores arrays.

    Args:
      directory: of the dataset.
      split: of an RLDS dataset; by default `train`, or the only one there is. Those of this project have only `train`.

    Raises:
      UserError: there is no dataset, it is damaged, or it has no such split.
    """
    directory = Path(directory)
    name = dataset_format(directory)
    if name is None:
        raise UserError(f"{directory}: no dataset there; expected a folder such as <suite>_no_noops/1.0.0")
    if name == "rlds":
        return read_rlds(directory, split)
    if split not in (None, SPLIT):
        raise UserError(f"{directory}: no split {split!r}; a dataset as {name} has {SPLIT} alone")
    return _READERS[name](directory)


def dataset_folders(path: Path) -> list[Path]:
    """Returns the folders of the dataset at `path` or of those below it, without unfinished ones."""
    path = Path(path)
    if dataset_format(path) is not None:
        return [path]
    if not path.is_dir():
        return []
    inside = (folder for folder in sorted(path.rglob("*")) if folder.is_dir())
    visible = (f for f in inside if not any(part.startswith(".") for part in f.relative_to(path).parts))
    return [folder for folder in visible if dataset_format(folder) is not None]
