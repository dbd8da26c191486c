"""The table of formats, and opening a dataset of any of them as a sequence of episodes."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rlgen.core.errors import UserError
from rlgen.data.formats.array_record.format import ArrayRecordFormat, read_array_record
from rlgen.data.formats.hdf5.foreign import hdf5_files, read_foreign_hdf5
from rlgen.data.formats.hdf5.format import read_hdf5
from rlgen.data.formats.lerobot.foreign import LEROBOT_INFO, read_foreign_lerobot
from rlgen.data.formats.lerobot.format import LeRobotFormat, LeRobotVideoFormat
from rlgen.data.formats.lerobot.reader import LeRobotAv1Dataset, LeRobotDataset, LeRobotH264Dataset
from rlgen.data.formats.lerobot.v21 import (
    LeRobotV21Av1Dataset,
    LeRobotV21Dataset,
    LeRobotV21Format,
    LeRobotV21H264Dataset,
    LeRobotV21VideoFormat,
)
from rlgen.data.formats.lerobot.video import AV1, H264
from rlgen.data.formats.rlds.description import INFO
from rlgen.data.formats.rlds.format import RldsFormat
from rlgen.data.formats.rlds.reader import RldsDataset, read_rlds
from rlgen.data.formats.rlds.schema import SPLIT
from rlgen.data.index import IndexedDataset
from rlgen.data.shards import read_manifest
from rlgen.data.writer import Format

FORMATS = ("rlds", "array_record", "lerobot", "lerobot_v21", "hdf5")
VIDEO_FORMATS = ("lerobot_av1", "lerobot_h264", "lerobot_v21_av1", "lerobot_v21_h264")
"""The formats whose images are not those that were rendered, but close to them."""
# The formats that need nothing but `DatasetEpisode`s; HDF5 needs physics states as well.
ENCODED_FORMATS = ("rlds", "array_record", "lerobot", "lerobot_v21")
_ENCODED: dict[str, Callable[[Sequence[str]], Format]] = {
    "rlds": lambda prompts: RldsFormat(),
    "array_record": lambda prompts: ArrayRecordFormat(),
    "lerobot": LeRobotFormat,
    "lerobot_av1": lambda prompts: LeRobotVideoFormat(prompts, AV1),
    "lerobot_h264": lambda prompts: LeRobotVideoFormat(prompts, H264),
    "lerobot_v21": LeRobotV21Format,
    "lerobot_v21_av1": lambda prompts: LeRobotV21VideoFormat(prompts, AV1),
    "lerobot_v21_h264": lambda prompts: LeRobotV21VideoFormat(prompts, H264),
}
_READERS = {
    "array_record": read_array_record,
    "hdf5": read_hdf5,
    "lerobot": LeRobotDataset.open,
    "lerobot_av1": LeRobotAv1Dataset.open,
    "lerobot_h264": LeRobotH264Dataset.open,
    "lerobot_v21": LeRobotV21Dataset.open,
    "lerobot_v21_av1": LeRobotV21Av1Dataset.open,
    "lerobot_v21_h264": LeRobotV21H264Dataset.open,
}


def encoded_format(name: str, prompts: Sequence[str]) -> Format:
    """Returns one of `ENCODED_FORMATS` or `VIDEO_FORMATS` for writing episodes with these prompts."""
    return _ENCODED[name](prompts)


def dataset_format(directory: Path) -> str | None:
    """Returns the name of a dataset's format; None if the folder is no dataset.

    RLDS and LeRobot datasets may come from anybody, those of other formats from this project only. HDF5 files of
    others, which `open_dataset` opens where they are named, are none by this.

    Raises:
      UserError: its manifest is damaged.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    if manifest is not None and manifest[0].format in (*FORMATS, *VIDEO_FORMATS):
        return manifest[0].format
    if (directory / INFO).is_file():
        return "rlds"
    return "lerobot" if (directory / LEROBOT_INFO).is_file() else None


def open_dataset(directory: Path, split: str | None = None, *, any_robot: bool = False) -> RldsDataset | IndexedDataset:
    """Opens a dataset of any format. Images stay encoded, except in HDF5, which stores arrays.

    A LeRobot dataset of others opens as one of ours. HDF5 files of others open where they are named: folders below
    which datasets are looked for may have those of demonstrations without images.

    Args:
      directory: of the dataset; HDF5 files of others may be named one by one.
      split: of an RLDS dataset; by default `train`, or the only one there is. Those of this project have only `train`.
      any_robot: whether states and actions may have other widths than those of LIBERO's robot.

    Raises:
      UserError: there is no dataset, it is damaged, it has no such split, or is of another robot.
    """
    directory = Path(directory)
    name = dataset_format(directory)
    if name is None and not hdf5_files(directory):
        raise UserError(f"{directory}: no dataset there; expected a folder such as <suite>_no_noops/1.0.0")
    if name == "rlds":
        return read_rlds(directory, split, any_robot=any_robot)
    if split not in (None, SPLIT):
        raise UserError(f"{directory}: no split {split!r}; a dataset as {name or 'hdf5'} has {SPLIT} alone")
    if name is None:
        return read_foreign_hdf5(directory, any_robot=any_robot)
    if read_manifest(directory) is None:
        return read_foreign_lerobot(directory, any_robot=any_robot)
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
