"""LIBERO's HDF5 as a format of datasets: one file for each task, with raw images and physics states."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.types import Episode
from rlgen.data.episode import DatasetEpisode, pair_episode
from rlgen.data.formats.hdf5.layout import Demo, DemoFileInfo
from rlgen.data.formats.hdf5.parts import DemoParts
from rlgen.data.formats.hdf5.reader import read_demo, read_demos, read_robot_states
from rlgen.data.images import rotate_180
from rlgen.data.index import IndexedDataset, write_index
from rlgen.data.shards import DatasetPlan, Shard, file_sha256
from rlgen.data.writer import Format, ShardStart

ENDING = "_demo.hdf5"


class Hdf5Format(Format):
    """Shards are the files of the tasks. Episodes are given as `Demo`s, in the order of the tasks."""

    name = "hdf5"
    encoded = False

    def __init__(self, tasks: Sequence[str], info: Callable[[str], DemoFileInfo]):
        """Takes the tasks (`<suite>/<name>`) in order, and a function that returns the description of a task's file."""
        self._tasks, self._info = tuple(tasks), info

    def folder(self, directory: Path, name: str, version: str) -> Path:
        """Returns the folder of a dataset; arguments as of `Format.folder`."""
        # Named by the suite alone, as LIBERO's own readers look for it.
        return directory / self.name / name.removesuffix("_no_noops")

    def files(self, name: str, lengths: Sequence[int]) -> list[str]:
        """Returns the names of the tasks' files."""
        return [f"{task.rpartition('/')[2]}{ENDING}" for task in self._tasks]

    def kept(self, path: Path) -> int:
        """Returns how many demonstrations of an unfinished file there are; arguments as of `KeepsParts.kept`."""
        return len(DemoParts(path).files)

    def write(self, path: Path, episodes: Iterator[Demo], plan: DatasetPlan, start: ShardStart) -> Shard:
        """Writes the file of one task; arguments as of `Format.write`."""
        task, parts = self._tasks[plan.files.index(path.name)], DemoParts(path)
        info = self._info(task)
        for demo in episodes:
            if demo.episode.task != task:
                raise ValueError(f"{path}: an episode of {demo.episode.task}, expected {task}")
            parts.append(demo, info)
        steps = parts.join()
        return Shard(path.name, len(parts.files), steps, path.stat().st_size, file_sha256(path))

    def describe(self, folder: Path, plan: DatasetPlan, shards: Sequence[Shard]) -> None:
        """Writes the index; arguments as of `Format.describe`."""
        write_index(folder, plan, shards, _without_images(folder, shards))


class Hdf5Dataset(IndexedDataset):
    """Episodes of a folder of HDF5 files that this project wrote; images are arrays."""

    format = Hdf5Format.name
    noun = "an HDF5 export"

    def read_episode(self, index: int) -> DatasetEpisode:
        """Reads an episode and turns its images upright."""
        demo = self.read_demo(index)
        assert demo.images is not None
        images = rotate_180(demo.images.agentview), rotate_180(demo.images.eye_in_hand)
        return pair_episode(demo.episode, demo.robot, *images, self.entries[index].name)

    def read_demo(self, index: int) -> Demo:
        """Reads an episode with its physics states and raw images.

        Raises:
          UserError: as `read_episode`.
        """
        entry = self.entries[index]
        path, name = self.directory / entry.file, f"demo_{entry.record}"
        try:
            episode, robot, raw = read_demo(path, name)
            shape = (len(episode), self.size, self.size, 3)
            if not raw.agentview.shape == raw.eye_in_hand.shape == shape:
                raise UserError(f"{path}: {name}: images {raw.agentview.shape}, expected {shape}; export it again")
        except UserError as error:
            raise UserError(f"{error} (episode {entry.name})") from error
        if episode_name(episode) != entry.name:
            raise UserError(f"{path}: name is {episode_name(episode)!r}, not {entry.name!r} as the index lists it")
        return Demo(episode, robot, raw)


def read_hdf5(directory: Path) -> Hdf5Dataset:
    """Opens an HDF5 export of this project.

    Raises:
      UserError: there is none, or it is damaged.
    """
    return Hdf5Dataset.open(directory)


def episode_name(episode: Episode) -> str:
    """Returns the name of a recorded episode in a dataset: task, actor, and initial state.

    Where the initial state is none of the benchmark's, as in human demonstrations, a hash of it and of the actions
    identifies the episode.
    """
    start = f"{episode.initial_index}-{episode.seed}"
    if episode.initial_index < 0:
        content = np.asarray(episode.initial_state).tobytes() + np.asarray(episode.actions, np.float32).tobytes()
        start = hashlib.sha256(content).hexdigest()[:16]
    return f"{episode.task}/{episode.source}/{episode.split}-{start}"


def _without_images(folder: Path, shards: Sequence[Shard]) -> Iterator[DatasetEpisode]:
    """Yields the episodes of finished shards, with empty images."""
    for shard in shards:
        episodes, robots = read_demos(folder / shard.file), read_robot_states(folder / shard.file)
        for episode, robot in zip(episodes, robots, strict=True):
            empty = np.zeros((len(episode), 0, 0, 3), np.uint8)
            yield pair_episode(episode, robot, empty, empty, episode_name(episode))
