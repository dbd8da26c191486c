"""The LeRobot 3.0 format: parquet files with the images in them, and descriptions in `meta/`.

Layout and names are those that lerobot 0.4 reads (`LeRobotDataset`, codebase version v3.0): `data/` holds the steps,
`meta/` the episodes, tasks, statistics and `info.json`. Images are of type `image`, the JPEG bytes of the other
formats, and not encoded again as video. `joint_state` is not named `observation.*`, so policies do not use it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError, first_line
from rlgen.core.files import atomic_path
from rlgen.core.foreign.archives import is_bomb
from rlgen.core.foreign.json_parts import open_json
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.lerobot.meta import VERSION, write_meta
from rlgen.data.formats.lerobot.table import IMAGES, TEXTS, episode_table, table_schema
from rlgen.data.images import EncodedFrames
from rlgen.data.index import IndexedDataset, damaged_record, write_index
from rlgen.data.shards import ADVICE, DatasetPlan, Shard, file_sha256, read_manifest
from rlgen.data.writer import Format, ShardStart

if TYPE_CHECKING:
    import pyarrow

FILES_PER_CHUNK = 1000
LEROBOT_INFO = "meta/info.json"
BATCH = 256  # rows that are read at once
# The columns of an episode's numbers, by the names of its fields.
COLUMNS = {"state": "observation.state", "joint_state": "joint_state", "action": "action"}
Footers: TypeAlias = "dict[Path, pyarrow.parquet.FileMetaData]"


class LeRobotFormat(Format):
    """Shards are parquet files with one row group for each episode."""

    name = "lerobot"
    encoded = True

    def __init__(self, prompts: Sequence[str]):
        """Takes the prompts of all episodes; the position of a prompt among the distinct ones is its `task_index`."""
        self._tasks = {prompt: index for index, prompt in enumerate(dict.fromkeys(prompts))}

    def folder(self, directory: Path, name: str, version: str) -> Path:
        """Returns the folder of a dataset; arguments as of `Format.folder`."""
        return directory / self.name / name / version

    def files(self, name: str, lengths: Sequence[int]) -> list[str]:
        """Returns the paths of the parquet files."""
        return [
            "data/chunk-{:03d}/file-{:03d}.parquet".format(*divmod(i, FILES_PER_CHUNK)) for i in range(len(lengths))
        ]

    def write(self, path: Path, episodes: Iterator[DatasetEpisode], plan: DatasetPlan, start: ShardStart) -> Shard:
        """Writes a parquet file; arguments as of `Format.write`."""
        import pyarrow.parquet as parquet

        index, step = start.episode, start.step
        with (
            atomic_path(path) as temporary,
            open(temporary, "wb") as file,
            parquet.ParquetWriter(file, table_schema(), compression="snappy", write_page_checksum=True) as writer,
        ):
            for episode in episodes:
                writer.write_table(episode_table(episode, index, step, self._tasks))
                index, step = index + 1, step + len(episode)
        name = path.relative_to(path.parents[2]).as_posix()
        return Shard(name, index - start.episode, step - start.step, path.stat().st_size, file_sha256(path))

    def describe(self, folder: Path, plan: DatasetPlan, shards: Sequence[Shard]) -> None:
        """Writes the index and LeRobot's `meta` folder; arguments as of `Format.describe`."""
        write_index(folder, plan, shards, _read_shards(folder, shards, plan.size))
        write_meta(folder, plan, shards, self._tasks)


class LeRobotDataset(IndexedDataset):
    """Episodes of a LeRobot dataset that this project wrote; images stay encoded."""

    format = LeRobotFormat.name
    noun = "a LeRobot dataset"

    def read_episode(self, index: int) -> DatasetEpisode:
        """Reads the row group of an episode."""
        entry = self.entries[index]
        return _read_group(self.directory / entry.file, entry.record, self.size, entry.name, self._footers)

    @cached_property
    def _footers(self) -> Footers:
        return {}


def read_lerobot(directory: Path) -> LeRobotDataset:
    """Opens a LeRobot dataset that this project wrote.

    Raises:
      UserError: there is none, it is damaged, or it comes from others; the message says in which version.
    """
    directory = Path(directory)
    if read_manifest(directory) is None and (directory / LEROBOT_INFO).is_file():
        version = open_json(directory / LEROBOT_INFO, ADVICE).optional("codebase_version")
        found = "without a version" if version is None else f"of version {version.text(100)}"
        raise UserError(
            f"{directory}: a LeRobot dataset {found} that this project did not write; of LeRobot only its own exports "
            f"({VERSION}) can be read, of others RLDS in LIBERO's schema; convert it to RLDS"
        )
    return LeRobotDataset.open(directory)


def _read_shards(folder: Path, shards: Sequence[Shard], size: int) -> Iterator[DatasetEpisode]:
    for shard in shards:
        footers: Footers = {}
        for record in range(shard.episodes):
            yield _read_group(folder / shard.file, record, size, footers=footers)


def _read_group(path: Path, record: int, size: int, name: str = "", footers: Footers | None = None) -> DatasetEpisode:
    """Reads a row group; `footers` has those of files that were read before, as long as the rest of small groups."""
    import pyarrow

    try:
        table = _read_table(path, record, {} if footers is None else footers)
        columns = {field: _floats(table, column) for field, column in COLUMNS.items()}
        image, wrist_image = (_images(table, column, size) for column in IMAGES)
        prompt, file_path = (_text(table, column) for column in TEXTS)
    except UserError:
        raise
    except (OSError, pyarrow.ArrowException, LookupError, TypeError, ValueError) as error:
        raise damaged_record(path, record, name, first_line(error)) from error
    return DatasetEpisode(
        image=image, wrist_image=wrist_image, **columns, language_instruction=prompt, file_path=file_path
    )


def _read_table(path: Path, record: int, footers: Footers) -> pyarrow.Table:
    """Reads a row group, in parts: what it claims to hold may be far more than what is stored."""
    import pyarrow
    import pyarrow.parquet as parquet

    batches, total, stored = [], 0, path.stat().st_size
    with parquet.ParquetFile(path, metadata=footers.get(path), page_checksum_verification=True) as file:
        footers[path] = file.metadata
        if record >= file.num_row_groups:
            raise ValueError(f"the file has {file.num_row_groups}")
        for batch in file.iter_batches(BATCH, row_groups=[record]):
            total += batch.nbytes
            if is_bomb(total, stored):
                raise ValueError(f"more than {total} bytes in a file of {stored}")
            batches.append(batch)
    if not batches:
        raise ValueError("it has no rows")
    return pyarrow.Table.from_batches(batches)


def _floats(table: pyarrow.Table, column: str) -> Float[np.ndarray, "T D"]:
    rows = table[column].to_pylist()
    values = np.array(rows, np.float32)
    if values.ndim != 2:
        raise ValueError(f"{column} has shape {values.shape}")
    return values


def _images(table: pyarrow.Table, column: str, size: int) -> EncodedFrames:
    data = tuple(row["bytes"] for row in table[column].to_pylist())
    if not all(isinstance(part, bytes) for part in data):
        raise ValueError(f"{column} has rows without an image")
    return EncodedFrames(data, (size, size))


def _text(table: pyarrow.Table, column: str) -> str:
    text = table[column][0].as_py()
    if not isinstance(text, str):
        raise ValueError(f"{column} is {text!r}")
    return text
