"""RLDS as a format of datasets: TFRecord shards of episodes, and the description that tensorflow_datasets reads."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rlgen.data.dataset_writer import Finish, Place, Plan, Progress, split_evenly, write_dataset
from rlgen.data.encode_ahead import encode_ahead
from rlgen.data.index_writer import write_index
from rlgen.data.rlds_episode import EpisodeSerializer, RldsEpisode
from rlgen.data.rlds_reader import read_rlds
from rlgen.data.rlds_schema import shard_name, write_info
from rlgen.data.shards import Shard, write_shard
from rlgen.errors import UserError


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

    def write(self, path: Path, episodes: Iterator[RldsEpisode], plan: Plan, place: Place) -> Shard:
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
    episodes: Sequence[RldsEpisode] | Iterable[RldsEpisode],
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


def _count(episodes: Iterable[RldsEpisode], count: int | None) -> int:
    if count is not None:
        return count
    if isinstance(episodes, Sized):
        return len(episodes)
    raise ValueError("episodes has no length; pass count")
