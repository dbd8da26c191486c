"""LIBERO's HDF5 as a format of datasets: one file a task, with pictures as the benchmark's files have them."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.types import Episode
from rlgen.data.episode import DatasetEpisode, pair_episode
from rlgen.data.formats.hdf5.layout import Demo, DemoFileInfo, DemoImages
from rlgen.data.formats.hdf5.reader import read_demos, read_images, read_robot_states
from rlgen.data.formats.hdf5.writer import stream_demos
from rlgen.data.images import rotate_180
from rlgen.data.index import IndexEntry, read_index, write_index
from rlgen.data.shards import Shard, file_sha256, read_plan
from rlgen.data.writer import Place, Plan

ENDING = "_demo.hdf5"


class Hdf5Format:
    """Shards are the tasks' files. Episodes are `Demo`s, in the order of the tasks."""

    name = "hdf5"

    def __init__(self, tasks: Sequence[str], info: Callable[[str], DemoFileInfo]):
        """Tasks (`<suite>/<name>`) in their order, and what their files say of them."""
        self._tasks, self._info = tuple(tasks), info

    def folder(self, directory: Path, name: str, version: str) -> Path:
        """By the suite alone, as LIBERO's own readers look for it."""
        return directory / "hdf5" / name.removesuffix("_no_noops")

    def files(self, name: str, lengths: Sequence[int]) -> list[str]:
        return [f"{task.rpartition('/')[2]}{ENDING}" for task in self._tasks]

    def write(self, path: Path, episodes: Iterator[Demo], plan: Plan, place: Place) -> Shard:
        task, steps = self._tasks[plan.files.index(path.name)], 0

        def counted() -> Iterator[Demo]:
            nonlocal steps
            for demo in episodes:
                if demo.episode.task != task:
                    raise ValueError(f"{path}: an episode of {demo.episode.task}, expected {task}")
                steps += len(demo.episode)
                yield demo

        count = stream_demos(path, counted(), self._info(task))
        return Shard(path.name, count, steps, path.stat().st_size, file_sha256(path))

    def describe(self, folder: Path, plan: Plan, shards: Sequence[Shard]) -> None:
        write_index(folder, plan, shards, _episodes(folder, [shard.file for shard in shards]))


@dataclass(frozen=True)
class Hdf5Dataset(Sequence[DatasetEpisode]):
    """Episodes of a folder of HDF5 files of ours, with pictures decoded when they are asked for."""

    directory: Path
    entries: list[IndexEntry]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, number: int) -> DatasetEpisode:
        if not 0 <= number < len(self):
            raise IndexError(f"episode {number} of {len(self)}")
        entry = self.entries[number]
        path, name = self.directory / entry.file, f"demo_{entry.record}"
        try:
            [episode] = read_demos(path, only=(name,))
            [robot] = read_robot_states(path, only=(name,))
            return pair_episode(episode, robot, *_rotated(path, name), entry.name)
        except UserError as error:
            raise UserError(f"{error} (episode {entry.name})") from error


def read_hdf5(directory: Path) -> Hdf5Dataset:
    """Opens an HDF5 export of this project; `UserError` where it is none or damaged."""
    directory = Path(directory)
    read_plan(directory, Hdf5Format.name, "an HDF5 export")
    return Hdf5Dataset(directory, read_index(directory))


def episode_name(episode: Episode) -> str:
    """What an export calls an episode: task, actor, and where it began.

    Where that is none of the benchmark's states, as in recordings of people, a hash of its beginning and its actions
    tells it apart.
    """
    begun = f"{episode.initial_index}-{episode.seed}"
    if episode.initial_index < 0:
        content = np.asarray(episode.initial_state).tobytes() + np.asarray(episode.actions, np.float32).tobytes()
        begun = hashlib.sha256(content).hexdigest()[:16]
    return f"{episode.task}/{episode.source}/{episode.split}-{begun}"


def _episodes(folder: Path, files: Sequence[str]) -> Iterator[DatasetEpisode]:
    """What an index needs; pictures are not looked at."""
    for file in files:
        episodes, robots = read_demos(folder / file), read_robot_states(folder / file)
        for episode, robot in zip(episodes, robots, strict=True):
            none = np.zeros((len(episode), 0, 0, 3), np.uint8)
            yield pair_episode(episode, robot, none, none, episode_name(episode))


def _rotated(path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the stored images of both cameras in the orientation of datasets."""
    images: DemoImages = read_images(path, name)
    return rotate_180(images.agentview), rotate_180(images.eye_in_hand)
