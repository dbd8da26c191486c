"""The writer of datasets in any format, and `Format`: what a format has to provide.

A dataset is written into a hidden folder beside its final place: first the shards, each whole or absent, then the
descriptions, which are made from the shards on the disk, then the folder gets its final name. A killed run leaves its
finished shards there. The next run with the same plan resumes after them and gives the same bytes as a run that was
never interrupted.

To add a format, write a folder `rlgen/data/formats/<name>/` whose `format.py` has
  - a subclass of `Format`: the folder, the names of the shards, writing one shard, and the descriptions (these call
    `rlgen.data.index.write_index`, which all formats share),
  - a subclass of `rlgen.data.index.IndexedDataset` that reads one episode,
and name both in the tables of `rlgen/data/dataset.py`.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from rlgen.core.errors import UserError
from rlgen.core.files import disk_errors, sync_folder
from rlgen.core.ownership import OutputKind, check_replaceable, has_keys, only_writer, read_record, remove
from rlgen.data.card import CARD_JSON, CARD_TEXT
from rlgen.data.episode import DatasetEpisode, check_dataset_episode
from rlgen.data.images import LARGEST_SIDE, FrameSequence, encode_frames, start_encoding
from rlgen.data.index import FIXTURES, INDEX, INITIAL_STATES, OPENPI_STATISTICS, OPENVLA_STATISTICS, PROVENANCE
from rlgen.data.shards import (
    MANIFEST,
    DatasetPlan,
    KeepsParts,
    Shard,
    finished_shards,
    intact,
    parts_folder,
    resume,
    write_manifest,
)

OnProgress = Callable[[int, int], None]
Images = UInt8[np.ndarray, "T h w 3"] | FrameSequence
_DESCRIPTIONS = (INDEX, OPENVLA_STATISTICS, OPENPI_STATISTICS, INITIAL_STATES, FIXTURES, PROVENANCE)
_DESCRIPTIONS += (CARD_JSON, CARD_TEXT)
# Of single formats.
_OWN_DESCRIPTIONS = ("dataset_info.json", "features.json", "steps.npz")
_OWN_DESCRIPTIONS += ("meta/*", "videos/*", "data/chunk-*/episode_*.parquet")


@runtime_checkable
class EncodesEpisodes(Protocol):
    """A format that encodes the images of an episode together, as video, instead of each of them as JPEG."""

    def encode(self, images: Images) -> Any:
        """Returns the encoded images of one camera; called in several threads."""
        ...


def is_manifest(value: Any) -> bool:
    """Returns whether the value of an `export.json` is a manifest of this program."""
    if not has_keys(value, "plan", "finished") or not has_keys(value["plan"], "format", "name", "version", "files"):
        return False
    return isinstance(value["plan"]["files"], list)


DATASET = OutputKind("a dataset", "--out", MANIFEST, is_manifest, _DESCRIPTIONS + _OWN_DESCRIPTIONS)


@dataclass(frozen=True)
class ShardStart:
    """The position of a shard's first episode and first step in the whole dataset, counted from 0."""

    episode: int
    step: int


class Format(Protocol):
    """The layout of a dataset's shards and descriptions. Equal episodes give equal bytes.

    Attributes:
      name: stored in the manifest.
      encoded: whether `write` gets instances of `DatasetEpisode`, checked and with encoded images. Otherwise it gets
        the items that `write_dataset` was given, as they are.
    """

    name: str
    encoded: bool

    def folder(self, directory: Path, name: str, version: str) -> Path:
        """Returns the folder of a dataset.

        Args:
          directory: folder for datasets of all formats.
          name: of the dataset.
          version: of the dataset.
        """
        ...

    def files(self, name: str, lengths: Sequence[int]) -> list[str]:
        """Returns the names of the shards, relative to the dataset's folder, in the order of their episodes.

        Args:
          name: of the dataset.
          lengths: number of episodes in each shard.
        """
        ...

    def write(self, path: Path, episodes: Iterator[Any], plan: DatasetPlan, start: ShardStart) -> Shard:
        """Writes one shard, whole or not at all.

        Args:
          path: of the shard, one of `plan.files`.
          episodes: of this shard.
          plan: of the whole dataset.
          start: position of the shard in the dataset.
        """
        ...

    def describe(self, folder: Path, plan: DatasetPlan, shards: Sequence[Shard]) -> None:
        """Writes whatever else a reader needs, from the shards on the disk.

        Args:
          folder: of the unfinished dataset, with all shards in it.
          plan: of the dataset.
          shards: in order.
        """
        ...


def write_dataset(
    directory: Path,
    name: str,
    episodes: Sequence[Any] | Iterable[Any],
    format: Format,
    *,
    lengths: Sequence[int],
    size: int,
    version: str = "1.0.0",
    description: str = "",
    fingerprint: str = "",
    overwrite: bool = False,
    inputs: Sequence[Path] = (),
    executor: Executor | None = None,
    on_progress: OnProgress | None = None,
    finish: Callable[[Path], None] | None = None,
) -> Path:
    """Writes a dataset and returns its folder.

    Args:
      directory: folder for datasets; made if absent.
      name: of the dataset.
      episodes: in the order in which they are stored. Of a sequence, only the episodes of unfinished shards are
        accessed, so one whose `__getitem__` renders images never renders those of a finished shard again.
      format: the format.
      lengths: number of episodes in each shard.
      size: width and height of every image, pixels.
      version: three numbers.
      description: text for people.
      fingerprint: identifies the content, such as a hash of the states and the cameras' settings. A finished dataset
        with the same one is returned unchanged; an unfinished one with another is started again.
      overwrite: replace a finished dataset of this program, which stays until the new one is complete.
      inputs: files and folders that the episodes come from, which are not replaced.
      executor: its threads encode images ahead of the writer; by default the calling thread encodes.
      on_progress: called with the number of episodes that are stored, and of all.
      finish: called with the folder before it gets its final name, to add files such as the card.

    Raises:
      UserError: bad arguments, an episode that does not fit the format, a dataset that exists already, another writer
        at work, or an error of the disk.
    """
    _check_arguments(name, version, size, lengths)
    files = format.files(name, lengths)
    plan = DatasetPlan(format.name, name, version, size, description, fingerprint, tuple(files), tuple(lengths))
    target = format.folder(Path(directory), name, version)
    with disk_errors(target), only_writer(target.parent):
        if _is_finished(target, plan, overwrite):
            return target
        check_dataset_replaceable(target, inputs)
        partial = _partial(target)
        shards = _write_shards(partial, plan, format, episodes, executor, on_progress or (lambda done, total: None))
        format.describe(partial, plan, shards)
        write_manifest(partial, plan.to_json(), shards)
        if finish is not None:
            finish(partial)
        _publish(partial, target)
    return target


def check_dataset_replaceable(target: Path, inputs: Sequence[Path] = ()) -> None:
    """Raises `UserError` where a folder, or one with the name of its unfinished or old version, is not ours to replace.

    Args:
      target: folder of a dataset that is to be written.
      inputs: files and folders that it is made from.
    """
    for folder in (target, _partial(target), _old(target)):
        manifest = read_record(folder / MANIFEST)
        files = manifest["plan"]["files"] if is_manifest(manifest) else ()
        entries = [entry for file in map(str, files) for entry in (file, f"{parts_folder(Path(file)).as_posix()}/*")]
        check_replaceable(folder, DATASET, inputs=inputs, entries=entries)


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def split_evenly(total: int, parts: int) -> list[int]:
    """Returns the lengths of `parts` shards of `total` episodes; no shard is empty."""
    parts = max(1, min(parts, total))
    return [(index + 1) * total // parts - index * total // parts for index in range(parts)]


def _check_arguments(name: str, version: str, size: int, lengths: Sequence[int]) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"{name!r} is no dataset name; use lower-case letters, digits and underscores")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise UserError(f"{version!r} is no version; use three numbers such as 1.0.0")
    if not 1 <= size <= LARGEST_SIDE:
        raise UserError(f"images of {size} pixels: expected 1 to {LARGEST_SIDE}")
    if not lengths or min(lengths) < 1:
        raise UserError(f"{name}: no episodes to export; collect some first")


def _is_finished(target: Path, plan: DatasetPlan, overwrite: bool) -> bool:
    old = _old(target)
    if not target.exists() and DATASET.owns(old):  # killed between the two renames of `_publish`
        old.rename(target)
    if not target.exists():
        return False
    finished = finished_shards(target, plan) if plan.fingerprint else []
    if len(intact(target, finished)) == len(plan.lengths):
        return True
    if not overwrite and DATASET.owns(target):
        raise UserError(f"{target}: a dataset exists already; pass --overwrite to replace it or choose another folder")
    return False


def _write_shards(
    partial: Path,
    plan: DatasetPlan,
    format: Format,
    episodes: Iterable,
    executor: Executor | None,
    on_progress: OnProgress,
) -> list[Shard]:
    """Writes the shards that are not finished yet; returns all of them in order."""
    finished = resume(partial, plan)
    take, total, steps = _taker(episodes), sum(plan.lengths), 0
    starts = [0, *accumulate(plan.lengths)]
    for file, length, start in zip(plan.files, plan.lengths, starts, strict=False):
        if file not in finished:
            kept = format.kept(partial / file) if isinstance(format, KeepsParts) else 0
            chosen = _counted(take(start + kept, length - kept), start + kept, total, on_progress)
            if format.encoded:
                together = format.encode if isinstance(format, EncodesEpisodes) else None
                chosen = encode_ahead(chosen, plan.size, executor, together)
            shard = format.write(partial / file, chosen, plan, ShardStart(start, steps))
            if shard.episodes != length:
                (partial / file).unlink(missing_ok=True)
                raise UserError(f"{partial}: the episodes end at {start + shard.episodes} of {total}")
            finished[file] = shard
            write_manifest(partial, plan.to_json(), finished.values())
            remove(parts_folder(partial / file))
        steps += finished[file].steps
        on_progress(start + length, total)
    return [finished[file] for file in plan.files]


def _taker(episodes: Iterable) -> Callable[[int, int], Iterator]:
    """Returns a function that iterates over `length` episodes from `start`; called with rising `start`."""
    if isinstance(episodes, Sequence) or hasattr(episodes, "__getitem__"):
        return lambda start, length: (episodes[index] for index in range(start, start + length))
    stream = enumerate(episodes)

    def take(start: int, length: int) -> Iterator:
        wanted = (episode for index, episode in stream if index >= start)
        return islice(wanted, length)

    return take


def _counted(episodes: Iterable, start: int, total: int, on_progress: OnProgress) -> Iterator:
    for index, episode in enumerate(episodes, start):
        on_progress(index, total)
        yield episode


def _publish(partial: Path, target: Path) -> None:
    old = _old(target)
    remove(old)
    sync_folder(partial)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    sync_folder(target.parent)
    remove(old)


AHEAD = 2  # episodes that are encoded while another one is written


def encode_ahead(
    episodes: Iterable[DatasetEpisode],
    size: int,
    executor: Executor | None = None,
    together: Callable[[Images], Any] | None = None,
) -> Iterator[DatasetEpisode]:
    """Yields the same episodes, checked and with encoded images.

    Args:
      episodes: with arrays or encoded images; encoded ones are passed through.
      size: expected width and height of the images, pixels.
      executor: its threads encode up to `AHEAD` further episodes while the caller uses one.
      together: encodes the images of one camera in an episode; by default each of them becomes a JPEG.

    Raises:
      UserError: an episode does not fit the schema.
    """
    ahead: deque[tuple[DatasetEpisode, Callable[[], Any], Callable[[], Any]]] = deque()
    for episode in episodes:
        check_dataset_episode(episode, size)
        if executor is None:
            encode = together or encode_frames
            yield replace(episode, image=encode(episode.image), wrist_image=encode(episode.wrist_image))
            continue
        cameras = episode.image, episode.wrist_image
        if together is None:
            image, wrist_image = (start_encoding(images, executor) for images in cameras)
        else:
            image, wrist_image = (executor.submit(together, images).result for images in cameras)
        ahead.append((episode, image, wrist_image))
        if len(ahead) > AHEAD:
            yield _encoded(*ahead.popleft())
    while ahead:
        yield _encoded(*ahead.popleft())


def _encoded(episode: DatasetEpisode, image: Callable[[], Any], wrist_image: Callable[[], Any]) -> DatasetEpisode:
    return replace(episode, image=image(), wrist_image=wrist_image())
