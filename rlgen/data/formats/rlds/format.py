"""The RLDS format: TFRecord shards of episodes, as the community publishes LIBERO; tensorflow_datasets opens them."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rlgen.core.files import atomic_path
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.rlds.reader import read_rlds
from rlgen.data.formats.rlds.schema import EpisodeSerializer, libero_features, shard_names, write_tfds_info
from rlgen.data.formats.rlds.tfrecord import frame
from rlgen.data.index import write_index
from rlgen.data.shards import DatasetPlan, Shard
from rlgen.data.writer import Format, ShardStart

FILE_FORMAT = "tfrecord"


class RldsFormat(Format):
    """Shards of episodes."""

    name = "rlds"
    encoded = True

    def folder(self, directory: Path, name: str, version: str) -> Path:
        """Returns the folder of a dataset; arguments as of `Format.folder`."""
        return directory / name / version

    def files(self, name: str, lengths: Sequence[int]) -> list[str]:
        """Returns the names of the shards."""
        return shard_names(name, FILE_FORMAT, len(lengths))

    def write(self, path: Path, episodes: Iterator[DatasetEpisode], plan: DatasetPlan, start: ShardStart) -> Shard:
        """Writes a shard, one record an episode; arguments as of `Format.write`."""
        serialize = EpisodeSerializer(plan.size)
        return write_shard(path, ((serialize(episode), len(episode)) for episode in episodes))

    def describe(self, folder: Path, plan: DatasetPlan, shards: Sequence[Shard]) -> None:
        """Writes tensorflow_datasets' description and the index; arguments as of `Format.describe`."""
        sizes = [(shard.episodes, shard.bytes) for shard in shards]
        write_tfds_info(folder, plan, libero_features(plan.size), FILE_FORMAT, sizes)
        write_index(folder, plan, shards, read_rlds(folder))


def write_shard(path: Path, records: Iterable[tuple[bytes, int]]) -> Shard:
    """Writes records, each with its number of steps, to one TFRecord file, whole or not at all."""
    digest = hashlib.sha256()
    episodes = steps = size = 0
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        for record, length in records:
            header, footer = frame(record)
            for part in (header, record, footer):
                file.write(part)
                digest.update(part)
            episodes, steps, size = episodes + 1, steps + length, size + len(record)
    return Shard(path.name, episodes, steps, size, digest.hexdigest())
