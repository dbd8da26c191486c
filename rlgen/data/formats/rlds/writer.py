"""RLDS as a format of datasets: TFRecord shards of episodes, and the description that tensorflow_datasets reads."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rlgen.core.errors import UserError
from rlgen.core.files import atomic_path
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.rlds.reader import read_rlds
from rlgen.data.formats.rlds.schema import EpisodeSerializer, shard_name, write_info
from rlgen.data.formats.rlds.tfrecord import frame
from rlgen.data.index import write_index
from rlgen.data.shards import Shard
from rlgen.data.writer import Finish, Place, Plan, Progress, encode_ahead, split_evenly, write_dataset


class RldsFormat:
    """The community's TFRecord layout."""

    name = "rlds"

    def __init__(self, pool: ThreadPoolExecutor | None = None):
        """`pool` encodes pictures in parallel, while others are written."""
        self._pool = pool
        self._serializer: EpisodeSerializer | None = None

    def folder(self, directory: Path, name: str, version: str) -> Path:
        return directory / name / version

    def files(self, name: str, lengths: Sequence[int]) -> list[str]:
        return [shard_name(name, index, len(lengths)) for index in range(len(lengths))]

    def write(self, path: Path, episodes: Iterator[DatasetEpisode], plan: Plan, place: Place) -> Shard:
        self._serializer = serialize = self._serializer or EpisodeSerializer(plan.size)
        ready = encode_ahead(episodes, plan.size, self._pool)
        return write_shard(path, ((serialize(episode), len(episode)) for episode in ready))

    def describe(self, folder: Path, plan: Plan, shards: Sequence[Shard]) -> None:
        sizes = [(shard.episodes, shard.bytes) for shard in shards]
        write_info(folder, plan.name, plan.version, plan.size, plan.description, sizes)
        write_index(folder, plan, shards, read_rlds(folder))


def export_rlds(
    directory: Path,
    name: str,
    episodes: Sequence[DatasetEpisode] | Iterable[DatasetEpisode],
    *,
    size: int,
    version: str = "1.0.0",
    description: str,
    shards: int,
    count: int | None = None,
    fingerprint: str = "",
    overwrite: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
    finish: Finish | None = None,
) -> Path:
    """Writes `<directory>/<name>/<version>/`, which `tfds.builder_from_directory` opens.

    Args:
      shards: how many files; never more than episodes.
      count: how many episodes there are, if `episodes` has no length.
      workers: threads that encode pictures.

    The others are those of `write_dataset`, as is what is raised.
    """
    if shards < 1:
        raise UserError(f"{shards} shards: must be at least 1")
    options = {
        "lengths": split_evenly(_count(episodes, count), shards),
        "size": size,
        "version": version,
        "description": description,
        "fingerprint": fingerprint,
        "overwrite": overwrite,
        "progress": progress,
        "finish": finish,
    }
    if workers <= 1:
        return write_dataset(directory, name, episodes, RldsFormat(), **options)
    with ThreadPoolExecutor(workers) as pool:
        return write_dataset(directory, name, episodes, RldsFormat(pool), **options)


def _count(episodes: Iterable[DatasetEpisode], count: int | None) -> int:
    if count is not None:
        return count
    if isinstance(episodes, Sized):
        return len(episodes)
    raise ValueError("episodes has no length; pass count")


def write_shard(path: Path, records: Iterable[tuple[bytes, int]]) -> Shard:
    """Writes records, each with its number of steps, to one TFRecord file."""
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
