"""LeRobot 3.0 as a format of datasets: parquet files with the pictures in them, and their descriptions.

Layout and names as lerobot 0.4 reads them (`LeRobotDataset`, codebase version v3.0): `data/` holds the steps,
`meta/` the episodes, tasks, statistics and `info.json`. Pictures are of type `image`: the JPEG bytes of the other
formats, not encoded again as video. `joint_state` is no `observation.*`, so that policies leave it out.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.files import atomic_path
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.lerobot.meta import write_meta
from rlgen.data.formats.lerobot.table import IMAGES, episode_table, table_schema
from rlgen.data.images import EncodedFrames
from rlgen.data.index import IndexEntry, read_index, write_index
from rlgen.data.shards import Shard, file_sha256, read_plan
from rlgen.data.writer import Place, Plan, encode_ahead

FILES_PER_CHUNK = 1000


class LeRobotFormat:
    """Shards are parquet files with one row group an episode."""

    name = "lerobot"

    def __init__(self, prompts: Sequence[str], pool: ThreadPoolExecutor | None = None):
        """`prompts` of all episodes: a prompt's place among the different ones is its `task_index`."""
        self._tasks = {prompt: index for index, prompt in enumerate(dict.fromkeys(prompts))}
        self._pool = pool

    def folder(self, directory: Path, name: str, version: str) -> Path:
        return directory / "lerobot" / name / version

    def files(self, name: str, lengths: Sequence[int]) -> list[str]:
        return [data_file(index) for index in range(len(lengths))]

    def write(self, path: Path, episodes: Iterator[DatasetEpisode], plan: Plan, place: Place) -> Shard:
        import pyarrow.parquet as parquet

        count, step = 0, place.step
        with (
            atomic_path(path) as temporary,
            open(temporary, "wb") as file,
            parquet.ParquetWriter(file, table_schema(), compression="snappy", write_page_checksum=True) as writer,
        ):
            for count, episode in enumerate(encode_ahead(episodes, plan.size, self._pool), 1):
                number = place.episode + count - 1
                writer.write_table(episode_table(episode, number, step, self._tasks))
                step += len(episode)
        name = path.relative_to(path.parents[2]).as_posix()
        return Shard(name, count, step - place.step, path.stat().st_size, file_sha256(path))

    def describe(self, folder: Path, plan: Plan, shards: Sequence[Shard]) -> None:
        write_index(folder, plan, shards, _read_shards(folder, [shard.file for shard in shards], plan.size))
        write_meta(folder, plan, shards, self._tasks)


def data_file(index: int) -> str:
    """The parquet file of a shard, relative to the dataset."""
    return "data/chunk-{:03d}/file-{:03d}.parquet".format(*divmod(index, FILES_PER_CHUNK))


@dataclass(frozen=True)
class LeRobotDataset(Sequence[DatasetEpisode]):
    """Episodes of a LeRobot dataset of ours; pictures stay encoded."""

    directory: Path
    entries: list[IndexEntry]
    size: int

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, number: int) -> DatasetEpisode:
        if not 0 <= number < len(self):
            raise IndexError(f"episode {number} of {len(self)}")
        entry = self.entries[number]
        return _read_group(self.directory / entry.file, entry, self.size)


def read_lerobot(directory: Path) -> LeRobotDataset:
    """Opens a LeRobot dataset that this project wrote; `UserError` where it is none or damaged."""
    directory = Path(directory)
    plan = read_plan(directory, LeRobotFormat.name, "a LeRobot dataset")
    return LeRobotDataset(directory, read_index(directory), int(plan["size"]))


def _read_shards(folder: Path, files: Sequence[str], size: int) -> Iterator[DatasetEpisode]:
    import pyarrow.parquet as parquet

    for name in files:
        for record in range(parquet.ParquetFile(folder / name).num_row_groups):
            yield _read_group(folder / name, IndexEntry(name, record, "", "", 0), size)


def _read_group(path: Path, entry: IndexEntry, size: int) -> DatasetEpisode:
    import pyarrow
    import pyarrow.parquet as parquet

    named = f" (episode {entry.name})" if entry.name else ""
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read_row_group(entry.record)
    except (OSError, pyarrow.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        where = f"{path}: record {entry.record} is damaged{named}"
        raise UserError(f"{where}, {reason}; export the dataset again") from error

    def numbers(name: str) -> np.ndarray:
        return np.array(table[name].to_pylist(), np.float32)

    def images(name: str) -> EncodedFrames:
        return EncodedFrames(tuple(row["bytes"] for row in table[name].to_pylist()), (size, size))

    image, wrist = (images(name) for name in IMAGES)
    return DatasetEpisode(
        image=image,
        wrist_image=wrist,
        state=numbers("observation.state"),
        joint_state=numbers("joint_state"),
        action=numbers("action"),
        language_instruction=table["prompt"][0].as_py(),
        file_path=table["file_path"][0].as_py(),
    )
