"""Recorded episodes of one task after the other, with images that are rendered when an episode is accessed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from rlgen.core.errors import UserError
from rlgen.core.types import Episode, RobotState
from rlgen.curation.sources import EpisodeFile
from rlgen.curation.validate import Candidate, Validator
from rlgen.data.episode import DatasetEpisode, pair_episode
from rlgen.data.formats.hdf5.format import episode_name
from rlgen.data.formats.hdf5.layout import Demo, DemoImages
from rlgen.data.images import rotate_180
from rlgen.libero.envs.observations import Observer
from rlgen.libero.rendering.pool import RenderPool
from rlgen.libero.rendering.renderer import RendererName
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.tasks.suites import Task

RawImages = UInt8[np.ndarray, "T cameras h w 3"]
SceneOf = Callable[[Task], Scene]


@dataclass(frozen=True)
class RenderOptions:
    """Settings of rendering.

    Attributes:
      renderer: `fast` or `benchmark`.
      image_size: width and height, pixels.
      workers: number of threads.
    """

    renderer: RendererName = "fast"
    image_size: int = 256
    workers: int = 1


class Episodes(Protocol):
    """A sequence of episodes, with the task and the scene of each."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Episode: ...
    def scene(self, index: int) -> Scene:
        """Returns the scene of an episode."""
        ...

    def task(self, index: int) -> Task:
        """Returns the task of an episode."""
        ...


class PreparedEpisodes:
    """The candidates of an export as they are exported, with the episodes of one file in memory at a time."""

    def __init__(self, candidates: Sequence[Candidate], validator: Validator, scene_of: SceneOf):
        """Takes the candidates, the validator that prepares them, and a function that loads the scene of a task."""
        self._candidates, self._validator, self._scene_of = list(candidates), validator, scene_of
        self._open: tuple[EpisodeFile, dict[str, Episode]] | None = None
        self._scene: tuple[Task, Scene] | None = None

    def __len__(self) -> int:
        return len(self._candidates)

    def __getitem__(self, index: int) -> Episode:
        candidate = self._candidates[index]
        if self._open is None or self._open[0] is not candidate.file:
            self._open = (candidate.file, dict(candidate.file.read()))
        episode = self._open[1].get(candidate.name)
        if episode is None:
            raise UserError(f"{candidate.file.path}: no episode {candidate.name} any more; export again")
        return self._validator.prepare(self.scene(index), episode, candidate.validation)

    def scene(self, index: int) -> Scene:
        """Returns the scene of an episode."""
        task = self._candidates[index].file.task
        if self._scene is None or self._scene[0] != task:
            self._scene = (task, self._scene_of(task))
        return self._scene[1]

    def task(self, index: int) -> Task:
        """Returns the task of an episode."""
        return self._candidates[index].file.task


class RenderedEpisodes(Sequence[DatasetEpisode]):
    """Episodes with rendered images; a context manager, since it keeps the renderers of the present task open."""

    def __init__(self, episodes: Episodes, options: RenderOptions):
        """Takes the episodes, and the settings of rendering."""
        self._episodes, self._options = episodes, options
        self._pool: RenderPool | None = None
        self._pool_task: Task | None = None

    def __enter__(self) -> "RenderedEpisodes":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the renderers; the next access makes new ones."""
        if self._pool is not None:
            self._pool.close()
        self._pool = None

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, index: int) -> DatasetEpisode:
        episode, robot, raw = self.parts(index)
        images = rotate_180(raw)
        return pair_episode(episode, robot, images[:, 0], images[:, 1], episode_name(episode))

    def parts(self, index: int) -> tuple[Episode, RobotState, RawImages]:
        """Returns the episode, the robot along it, and the raw images before each action."""
        if not 0 <= index < len(self):
            raise IndexError(f"episode {index} of {len(self)}")
        scene = self._episodes.scene(index)
        pool = self._pool_of(self._episodes.task(index), scene)
        episode = self._episodes[index]
        images = pool.render(episode.states[:-1], fixtures=episode.fixtures)
        return episode, Observer(scene)(episode.states).robot, images

    def _pool_of(self, task: Task, scene: Scene) -> RenderPool:
        if self._pool is None or self._pool_task != task:
            self.close()
            options = self._options
            self._pool = RenderPool(scene, options.renderer, image_size=options.image_size, workers=options.workers)
            self._pool_task = task
        return self._pool


class RenderedDemos(Sequence[Demo]):
    """The same episodes for HDF5 files: with raw images and physics states."""

    def __init__(self, rendered: RenderedEpisodes):
        self._rendered = rendered

    def __len__(self) -> int:
        return len(self._rendered)

    def __getitem__(self, index: int) -> Demo:
        episode, robot, images = self._rendered.parts(index)
        return Demo(episode, robot, DemoImages(images[:, 0], images[:, 1]))


class DemosWithStoredImages(Sequence[Demo]):
    """Episodes for HDF5 files, with the images of a dataset that exists already, so that none is rendered twice."""

    def __init__(self, episodes: Episodes, dataset: Sequence[DatasetEpisode]):
        """Takes the episodes, and a dataset of the same ones in the same order."""
        self._episodes, self._dataset = episodes, dataset

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, index: int) -> Demo:
        episode, stored = self._episodes[index], self._dataset[index]
        if episode_name(episode) != stored.file_path:
            raise ValueError(f"episode {index} is {episode_name(episode)}, its images are of {stored.file_path}")
        robot = Observer(self._episodes.scene(index))(episode.states).robot
        raw = (rotate_180(np.asarray(images)) for images in (stored.image, stored.wrist_image))
        return Demo(episode, robot, DemoImages(*raw))
