"""Writing a dataset, in any format: shards first, each whole or absent, then its descriptions, then its final name.

Work goes on in a hidden folder beside the target. A run that is killed leaves its finished shards there, and the
next run with the same plan goes on after them; the result has the same bytes as that of an unbroken run, because
the descriptions are made from the shards as they are on the disk.
"""

import re
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8

from rlgen.core.errors import UserError
from rlgen.core.files import disk_errors, sync_folder
from rlgen.data.episode import DatasetEpisode, check_dataset_episode
from rlgen.data.images import EncodedFrames, encode_frames
from rlgen.data.shards import MANIFEST, Shard, intact, only_writer, read_manifest, write_manifest

Progress = Callable[[int, int], None]
Finish = Callable[[Path], None]


@dataclass(frozen=True)
class Plan:
    """What is being written; an unfinished dataset goes on only where all of it is the same.

    Attributes:
      format: name of the format.
      name: of the dataset, by custom `<suite>_no_noops`.
      version: three numbers.
      size: pixels a side of every picture.
      description: for people.
      fingerprint: identifies the content; without one a finished dataset is never taken for the same.
      files: of the shards, relative to the dataset.
      lengths: episodes in each of them.
    """

    format: str
    name: str
    version: str
    size: int
    description: str
    fingerprint: str
    files: tuple[str, ...]
    lengths: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        return {**self.__dict__, "files": list(self.files), "lengths": list(self.lengths)}


@dataclass(frozen=True)
class Place:
    """Where a shard's first episode stands in the whole dataset."""

    episode: int
    step: int


class Format(Protocol):
    """How a dataset's shards and descriptions look. Equal episodes give equal bytes."""

    name: str

    def folder(self, directory: Path, name: str, version: str) -> Path:
        """Where a dataset lies."""
        ...

    def files(self, name: str, lengths: Sequence[int]) -> list[str]:
        """Names of the shards, relative to the dataset's folder; their order is the episodes'."""
        ...

    def write(self, path: Path, episodes: Iterator[Any], plan: Plan, place: Place) -> Shard:
        """Writes one shard, whole or not at all."""
        ...

    def describe(self, folder: Path, plan: Plan, shards: Sequence[Shard]) -> None:
        """Writes what else a reader needs into a folder whose shards are all there."""
        ...


def write_dataset(
    directory: Path,
    name: str,
    episodes: Sequence[Any] | Iterable[Any],
    layout: Format,
    *,
    lengths: Sequence[int],
    size: int,
    version: str = "1.0.0",
    description: str = "",
    fingerprint: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
    finish: Finish | None = None,
) -> Path:
    """Writes a dataset and returns its folder.

    Args:
      directory: where datasets lie; made if absent.
      name: of the dataset.
      episodes: in the order they are to be stored. Of a sequence, only the episodes of unfinished shards are
        asked for, so one whose `__getitem__` draws the pictures never draws a finished shard twice.
      layout: the format.
      lengths: episodes of each shard.
      size: pixels a side of every picture.
      version: three numbers.
      description: for people.
      fingerprint: identifies the content, such as a hash of the states and of the camera's settings. A
        finished dataset with the same one is returned as it is; an unfinished one with another is begun anew.
      overwrite: replace a finished dataset, which stays until the new one is complete.
      progress: called with the number of episodes that are stored and of all.
      finish: adds to the folder, before it gets its final name; such as the card.

    Raises:
      UserError: bad arguments, an episode that does not fit the format, a dataset that is there already,
        another writer at work, or a disk that refuses.
    """
    _check(name, version, size, lengths)
    files = layout.files(name, lengths)
    plan = Plan(layout.name, name, version, size, description, fingerprint, tuple(files), tuple(lengths))
    target = layout.folder(Path(directory), name, version)
    with disk_errors(target), only_writer(target.parent):
        if _is_finished(target, plan, overwrite):
            return target
        work = target.with_name(f".{target.name}.partial")
        shards = _write_shards(work, plan, layout, episodes, progress or (lambda done, of: None))
        layout.describe(work, plan, shards)
        write_manifest(work, plan.to_json(), shards)
        if finish is not None:
            finish(work)
        _publish(work, target)
    return target


def split_evenly(total: int, parts: int) -> list[int]:
    """Lengths of `parts` shards, never more than there are episodes."""
    parts = max(1, min(parts, total))
    return [(index + 1) * total // parts - index * total // parts for index in range(parts)]


def _write_shards(work: Path, plan: Plan, layout: Format, episodes: Iterable, progress: Progress) -> list[Shard]:
    finished = _resume(work, plan)
    take, total, steps = _taker(episodes), sum(plan.lengths), 0
    starts = [0, *accumulate(plan.lengths)]
    for file, length, start in zip(plan.files, plan.lengths, starts, strict=False):
        if file not in finished:
            chosen = _counted(take(start, length), start, total, progress)
            shard = layout.write(work / file, chosen, plan, Place(start, steps))
            if shard.episodes != length:
                (work / file).unlink()
                raise UserError(f"{work}: the episodes end at {start + shard.episodes} of {total}")
            finished[file] = shard
            write_manifest(work, plan.to_json(), finished.values())
        steps += finished[file].steps
        progress(start + length, total)
    return [finished[file] for file in plan.files]


def _counted(episodes: Iterable, start: int, total: int, progress: Progress) -> Iterator:
    for index, episode in enumerate(episodes, start):
        progress(index, total)
        yield episode


def _resume(work: Path, plan: Plan) -> dict[str, Shard]:
    """Shards that an earlier run with the same plan finished; anything else in `work` is removed."""
    manifest = read_manifest(work)
    finished = intact(work, manifest[1]) if manifest and manifest[0] == plan.to_json() else {}
    work.mkdir(parents=True, exist_ok=True)
    kept = {work / file for file in finished} | {work / MANIFEST}
    for path in sorted(work.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        elif not path.is_dir() and path not in kept:
            path.unlink()
    write_manifest(work, plan.to_json(), finished.values())
    return finished


def _is_finished(target: Path, plan: Plan, overwrite: bool) -> bool:
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():  # killed between the two renames of `_publish`
        old.rename(target)
    if not target.exists():
        return False
    manifest = read_manifest(target)
    same = plan.fingerprint and manifest is not None and manifest[0] == plan.to_json()
    if same and len(intact(target, manifest[1])) == len(plan.lengths):
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


def _taker(episodes: Iterable) -> Callable[[int, int], Iterator]:
    """A function that gives `length` episodes from number `start` on, asked for in rising order."""
    if isinstance(episodes, Sequence) or hasattr(episodes, "__getitem__"):
        return lambda start, length: (episodes[index] for index in range(start, start + length))
    stream = enumerate(episodes)

    def take(start: int, length: int) -> Iterator:
        wanted = (episode for index, episode in stream if index >= start)
        return islice(wanted, length)

    return take


def _check(name: str, version: str, size: int, lengths: Sequence[int]) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"{name!r} is no dataset name; use lower-case letters, digits and underscores")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise UserError(f"{version!r} is no version; use three numbers such as 1.0.0")
    if size < 1:
        raise UserError(f"pictures of {size} pixels: expected at least 1")
    if not lengths or min(lengths) < 1:
        raise UserError(f"{name}: no episodes to export; collect some first")


AHEAD = 2  # episodes behind the one that is written
_AT_ONCE = 16  # pictures that a thread takes
Images = UInt8[np.ndarray, "T h w 3"] | EncodedFrames


@dataclass(frozen=True)
class _Begun:
    """A view whose pictures threads are encoding."""

    parts: list[Future[EncodedFrames]]

    def result(self) -> EncodedFrames:
        """Waits for all of them."""
        done = [part.result() for part in self.parts]
        return EncodedFrames(tuple(image for part in done for image in part.data), done[0].size)


def encode_ahead(
    episodes: Iterable[DatasetEpisode], size: int, pool: ThreadPoolExecutor | None = None
) -> Iterator[DatasetEpisode]:
    """The same episodes, checked, with encoded pictures.

    With a `pool` up to `AHEAD` episodes more than the one that is given are in memory, and its threads at work.

    Raises:
      UserError: an episode that does not fit the schema with pictures of `size` pixels.
    """
    begun: deque[tuple[DatasetEpisode, _Begun, _Begun]] = deque()
    for episode in episodes:
        check_dataset_episode(episode, size)
        if pool is None:
            yield replace(episode, image=encode_frames(episode.image), wrist_image=encode_frames(episode.wrist_image))
            continue
        begun.append((episode, _begin(episode.image, pool), _begin(episode.wrist_image, pool)))
        if len(begun) > AHEAD:
            yield _finish(*begun.popleft())
    while begun:
        yield _finish(*begun.popleft())


def _begin(images: Images, pool: ThreadPoolExecutor) -> _Begun:
    starts = range(0, len(images), _AT_ONCE)
    return _Begun([pool.submit(encode_frames, images[start : start + _AT_ONCE]) for start in starts])


def _finish(episode: DatasetEpisode, image: _Begun, wrist: _Begun) -> DatasetEpisode:
    return replace(episode, image=image.result(), wrist_image=wrist.result())
