"""The LeRobot 3.0 format: parquet files with the images in them, and descriptions in `meta/`.

Layout and names are those that lerobot 0.4 reads (`LeRobotDataset`, codebase version v3.0): `data/` holds the steps,
`meta/` the episodes, tasks, statistics and `info.json`. Images are of type `image`, the JPEG bytes of the other
formats, and not encoded again as video. `joint_state` is not named `observation.*`, so policies do not use it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rlgen.core.errors import first_line
from rlgen.core.files import atomic_path
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.lerobot.meta import write_meta
from rlgen.data.formats.lerobot.table import IMAGES, episode_table, table_schema
from rlgen.data.images import EncodedFrames
from rlgen.data.index import IndexedDataset, damaged_record, write_index
from rlgen.data.shards import DatasetPlan, Shard, file_sha256
from rlgen.data.writer import Format, ShardStart

FILES_PER_CHUNK = 1000


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
        return _read_group(self.directory / entry.file, entry.record, self.size, entry.name)


def read_lerobot(directory: Path) -> LeRobotDataset:
    """Opens a LeRobot dataset that this project wrote.

    Raises:
      UserError: there is none, or it is damaged.
    """
    return LeRobotDataset.open(directory)


def _read_shards(folder: Path, shards: Sequence[Shard], size: int) -> Iterator[DatasetEpisode]:
    for shard in shards:
        for record in range(shard.episodes):
            yield _read_group(folder / shard.file, record, size)


def _read_group(path: Path, record: int, size: int, name: str = "") -> DatasetEpisode:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read_row_group(record)
    except (OSError, pyarrow.ArrowException) as error:
        raise damaged_record(path, record, name, first_line(error)) from error

    def floats(column: str) -> np.ndarray:
        return np.array(table[column].to_pylist(), np.float32)

    def images(column: str) -> EncodedFrames:
        return EncodedFrames(tuple(row["bytes"] for row in table[column].to_pylist()), (size, size))

    image, wrist_image = (images(column) for column in IMAGES)
    return DatasetEpisode(
        image=image,
        wrist_image=wrist_image,
        state=floats("observation.state"),
        joint_state=floats("joint_state"),
        action=floats("action"),
        language_instruction=table["prompt"][0].as_py(),
        file_path=table["file_path"][0].as_py(),
    )
