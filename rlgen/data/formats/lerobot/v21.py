"""The LeRobot 2.1 format: a parquet file for each episode, with the images in it, and descriptions as lines of JSON.

lerobot reads it up to 0.3.3, and so does the commit of it that openpi trains with. Columns have the names that openpi's
converter for LIBERO gives them, and 10 frames a second, as there, so that openpi's settings for LIBERO take these
datasets as they are; steps are 0.05 s apart all the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rlgen.core.files import atomic_path
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.lerobot.format import LeRobotFormat
from rlgen.data.formats.lerobot.reader import LeRobotDataset, episode_of_group
from rlgen.data.formats.lerobot.table import LEROBOT, Footers, episode_table, read_group, table_schema
from rlgen.data.formats.lerobot.v21_meta import FPS, NAMES, episode_path, write_meta
from rlgen.data.index import write_index
from rlgen.data.shards import DatasetPlan, Shard, file_sha256
from rlgen.data.writer import ShardStart

if TYPE_CHECKING:
    import pyarrow

_OWN_NAMES = {theirs: ours for ours, theirs in NAMES.items()}


class LeRobotV21Format(LeRobotFormat):
    """Shards are the files of several episodes, of which the first names the shard and the others are beside it."""

    name = f"{LEROBOT}_v21"

    def files(self, name: str, lengths: Sequence[int]) -> list[str]:
        """Returns the path of the first episode of each shard."""
        return [episode_path(first) for first in accumulate(lengths[:-1], initial=0)]

    def write(self, path: Path, episodes: Iterator[DatasetEpisode], plan: DatasetPlan, start: ShardStart) -> Shard:
        """Writes the files of some episodes; arguments as of `Format.write`."""
        import pyarrow.parquet as parquet

        folder, step, hashes = path.parents[2], start.step, {}
        for index, episode in enumerate(episodes, start.episode):
            file = episode_path(index)
            with atomic_path(folder / file) as temporary:
                table = _episode_table(episode, index, step, self._tasks)
                parquet.write_table(table, temporary, compression="snappy", write_page_checksum=True)
            hashes[file] = file_sha256(folder / file)
            step += len(episode)
        name, count = path.relative_to(folder).as_posix(), len(hashes)
        size, sha256 = (path.stat().st_size, hashes.pop(name)) if hashes else (0, "")
        return Shard(name, count, step - start.step, size, sha256, tuple(hashes.items()))

    def describe(self, folder: Path, plan: DatasetPlan, shards: Sequence[Shard]) -> None:
        """Writes the index and LeRobot's `meta` folder; arguments as of `Format.describe`."""
        files = [file for shard in shards for file in shard.hashes]
        episodes = (episode_of_group(folder / file, 0, plan.size, read=_read_group) for file in files)
        write_index(folder, plan, shards, episodes, files=files)
        write_meta(folder, plan, (_read_group(folder / file, 0, {}) for file in files), self._tasks)


class LeRobotV21Dataset(LeRobotDataset):
    """Episodes of a LeRobot 2.1 dataset that this project wrote; images stay encoded."""

    format = LeRobotV21Format.name

    def read_episode(self, index: int) -> DatasetEpisode:
        """Reads the file of an episode."""
        entry = self.entries[index]
        path = self.directory / entry.file
        return episode_of_group(path, entry.record, self.size, name=entry.name, read=_read_group)


def _episode_table(episode: DatasetEpisode, index: int, first_step: int, tasks: dict[str, int]) -> pyarrow.Table:
    """Returns the rows of an episode; arguments as of `episode_table`."""
    import pyarrow

    table = episode_table(episode, index, first_step, tasks)
    times = pyarrow.array((np.arange(len(episode)) / FPS).astype(np.float32))
    table = table.set_column(table.schema.get_field_index("timestamp"), "timestamp", times)
    return _renamed(table, NAMES).replace_schema_metadata(_metadata())


def _read_group(path: Path, group: int, footers: Footers) -> pyarrow.Table:
    """Reads a row group as `read_group` does, with the columns in the names of LeRobot 3.0."""
    return _renamed(read_group(path, group, footers), _OWN_NAMES)


def _renamed(table: pyarrow.Table, names: dict[str, str]) -> pyarrow.Table:
    return table.rename_columns([names.get(name, name) for name in table.column_names])


def _metadata() -> dict[bytes, bytes]:
    """Returns what the `datasets` library keeps in a schema, in the words of its versions before 4."""
    key = b"huggingface"
    described = json.loads(table_schema().metadata[key])["info"]["features"]
    lists = {name: {**feature, "_type": "Sequence"} for name, feature in described.items() if "length" in feature}
    features = {NAMES.get(name, name): feature for name, feature in (described | lists).items()}
    return {key: json.dumps({"info": {"features": features}}).encode()}
