"""Opening a dataset of any format as episodes."""

from collections.abc import Sequence
from pathlib import Path

from rlgen.core.errors import UserError
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.array_record.format import read_array_record
from rlgen.data.formats.hdf5.format import read_hdf5
from rlgen.data.formats.lerobot.format import read_lerobot
from rlgen.data.formats.rlds.reader import read_rlds
from rlgen.data.shards import read_manifest

_READERS = {"array_record": read_array_record, "lerobot": read_lerobot, "hdf5": read_hdf5, "rlds": read_rlds}
FORMATS = ("rlds", "array_record", "lerobot", "hdf5")


def dataset_format(directory: Path) -> str | None:
    """The format of what lies in a folder; None if it is no dataset. RLDS may be anybody's, the others are ours."""
    manifest = read_manifest(Path(directory))
    if manifest is not None and manifest[0].get("format") in _READERS:
        return manifest[0]["format"]
    return "rlds" if (Path(directory) / "dataset_info.json").is_file() else None


def open_dataset(directory: Path) -> Sequence[DatasetEpisode]:
    """Opens a dataset; its pictures stay encoded, but for HDF5, which has none encoded.

    Raises:
      UserError: no dataset there, or a damaged one.
    """
    kind = dataset_format(directory)
    if kind is None:
        raise UserError(f"{directory}: no dataset there; expected a folder such as <suite>_no_noops/1.0.0")
    return _READERS[kind](Path(directory))


def dataset_folders(path: Path) -> list[Path]:
    """The dataset at `path`, or those below it; unfinished ones are passed over."""
    path = Path(path)
    if dataset_format(path) is not None:
        return [path]
    if not path.is_dir():
        return []
    inside = (folder for folder in sorted(path.rglob("*")) if folder.is_dir())
    seen = (f for f in inside if not any(part.startswith(".") for part in f.relative_to(path).parts))
    return [folder for folder in seen if dataset_format(folder) is not None]
