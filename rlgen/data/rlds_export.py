"""Export as RLDS: shards first, each whole or absent, then the JSON files, then the folder's final name.

Work goes on in `<name>/.<version>.partial/`. A run that is killed leaves its finished shards there, and the
next run with the same plan goes on after them; the result has the same bytes as that of an unbroken run.
"""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from rlgen.data.disk import disk_errors, sync_folder
from rlgen.data.rlds_episode import EpisodeSerializer, RldsEpisode
from rlgen.data.rlds_schema import shard_name, write_info
from rlgen.data.shards import Shard, intact, only_writer, read_manifest, write_manifest, write_shard
from rlgen.errors import UserError

Progress = Callable[[int, int], None]


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
) -> Path:
    """Writes `<directory>/<name>/<version>/`, which `tfds.builder_from_directory` opens.

    Args:
      directory: where datasets lie; made if absent.
      name: of the dataset and prefix of its shards, by custom `<suite>_no_noops`.
      episodes: in the order they are to be stored. Of a sequence, only the episodes of unfinished shards are
        asked for, so one whose `__getitem__` draws the pictures never draws a finished shard twice.
      size: pixels a side of every picture.
      version: three numbers.
      description: for people.
      shards: how many files; never more than episodes.
      count: how many episodes there are, if `episodes` has no length.
      fingerprint: identifies the content, such as a hash of the states and of the camera's settings. A
        finished dataset with the same one is returned as it is; an unfinished one with another is begun anew.
      overwrite: replace a finished dataset, which stays until the new one is complete.
      workers: threads that encode pictures.
      progress: called with the number of episodes that are stored and of all.

    Returns:
      The dataset's directory.

    Raises:
      UserError: bad arguments, an episode that does not fit the schema, a dataset that is there already,
        another writer at work, or a disk that refuses.
    """
    total = _count(episodes, count)
    _check(name, version, size, shards, total)
    plan = {
        "name": name,
        "version": version,
        "size": size,
        "description": description,
        "fingerprint": fingerprint,
        "lengths": _split_evenly(total, min(shards, total)),
    }
    target = Path(directory) / name / version
    with disk_errors(target), only_writer(target.parent):
        if _is_finished(target, plan, overwrite):
            return target
        work = target.with_name(f".{version}.partial")
        _write_all(work, plan, episodes, workers, progress or (lambda done, of: None))
        _publish(work, target)
    return target


def _write_all(work: Path, plan: dict[str, Any], episodes: Iterable, workers: int, progress: Progress) -> None:
    finished = _resume(work, plan)
    lengths = plan["lengths"]
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(workers)) if workers > 1 else None
        serialize = EpisodeSerializer(plan["size"], pool)
        take = _taker(episodes)
        for index, length in enumerate(lengths):
            start = sum(lengths[:index])
            file = shard_name(plan["name"], index, len(lengths))
            if file not in finished:
                records = _records(take(start, length), serialize, start, sum(lengths), progress)
                shard = write_shard(work / file, records)
                if shard.episodes != length:
                    (work / file).unlink()
                    raise UserError(f"{work}: the episodes end at {start + shard.episodes} of {sum(lengths)}")
                finished[file] = shard
                write_manifest(work, plan, finished.values())
            progress(start + length, sum(lengths))
    ordered = [finished[file] for file in sorted(finished)]
    sizes = [(shard.episodes, shard.bytes) for shard in ordered]
    write_info(work, plan["name"], plan["version"], plan["size"], plan["description"], sizes)
    write_manifest(work, plan, ordered)


def _records(
    episodes: Iterable[RldsEpisode], serialize: EpisodeSerializer, start: int, total: int, progress: Progress
) -> Iterator[tuple[bytes, int]]:
    for index, episode in enumerate(episodes, start):
        progress(index, total)
        yield serialize(episode), len(episode)


def _resume(work: Path, plan: dict[str, Any]) -> dict[str, Shard]:
    """Shards that an earlier run with the same plan finished; anything else in `work` is removed."""
    manifest = read_manifest(work)
    finished = intact(work, manifest[1]) if manifest and manifest[0] == plan else {}
    work.mkdir(parents=True, exist_ok=True)
    for path in work.iterdir():
        if path.name not in finished:
            path.unlink()
    write_manifest(work, plan, finished.values())
    return finished


def _is_finished(target: Path, plan: dict[str, Any], overwrite: bool) -> bool:
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():  # killed between the two renames of `_publish`
        old.rename(target)
    if not target.exists():
        return False
    manifest = read_manifest(target)
    same = plan["fingerprint"] and manifest is not None and manifest[0] == plan
    if same and len(intact(target, manifest[1])) == len(plan["lengths"]):
        return True
    if not overwrite:
        raise UserError(
            f"{target}: a dataset is there already; pass --overwrite to replace it or choose another folder"
        )
    return False


def _publish(work: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    sync_folder(work)
    if target.exists():
        target.rename(old)
    work.rename(target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _taker(episodes: Iterable[RldsEpisode]) -> Callable[[int, int], Iterator[RldsEpisode]]:
    """A function that gives `length` episodes from number `start` on, asked for in rising order."""
    if isinstance(episodes, Sequence) or hasattr(episodes, "__getitem__"):
        return lambda start, length: (episodes[index] for index in range(start, start + length))
    stream = enumerate(episodes)

    def take(start: int, length: int) -> Iterator[RldsEpisode]:
        wanted = (episode for index, episode in stream if index >= start)
        return islice(wanted, length)

    return take


def _split_evenly(total: int, parts: int) -> list[int]:
    return [(index + 1) * total // parts - index * total // parts for index in range(parts)]


def _count(episodes: Iterable[RldsEpisode], count: int | None) -> int:
    if count is not None:
        return count
    if isinstance(episodes, Sized):
        return len(episodes)
    raise ValueError("episodes has no length; pass count")


def _check(name: str, version: str, size: int, shards: int, total: int) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"{name!r} is no dataset name; use lower-case letters, digits and underscores")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise UserError(f"{version!r} is no version; use three numbers such as 1.0.0")
    if size < 1 or shards < 1:
        raise UserError(f"pictures of {size} pixels in {shards} shards; both must be at least 1")
    if total < 1:
        raise UserError(f"{name}: no episodes to export; collect some first")
