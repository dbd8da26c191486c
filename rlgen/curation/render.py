"""Episodes whose pictures are drawn when they are asked for, of several tasks one after the other."""

from collections.abc import Callable, Iterator, Sequence
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

Raw = UInt8[np.ndarray, "T cameras h w 3"]
SceneOf = Callable[[Task], Scene]


@dataclass(frozen=True)
class RenderOptions:
    """How pictures are drawn.

    Attributes:
      view: `fast`, or the benchmark's own.
      size: pixels a side.
      workers: threads.
    """

    view: RendererName = "fast"
    size: int = 256
    workers: int = 1


class Episodes(Protocol):
    """Episodes with the scene that each happens in."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int) -> Episode: ...
    def scene(self, number: int) -> Scene: ...
    def task(self, number: int) -> Task: ...


@dataclass(frozen=True)
class OfOneScene:
    """Episodes of a single scene, as they are."""

    only: Scene
    episodes: Sequence[Episode]

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, number: int) -> Episode:
        return self.episodes[number]

    def scene(self, number: int) -> Scene:
        return self.only

    def task(self, number: int) -> Task:
        return self.only.task


class Prepared:
    """The chosen episodes as they are exported; the episodes of one file in memory at a time."""

    def __init__(self, candidates: Sequence[Candidate], checker: Validator, scene_of: SceneOf):
        self._candidates, self._checker, self._scene_of = list(candidates), checker, scene_of
        self._open: tuple[EpisodeFile, dict[str, Episode]] | None = None
        self._scene: tuple[Task, Scene] | None = None

    def __len__(self) -> int:
        return len(self._candidates)

    def scene(self, number: int) -> Scene:
        """The scene of an episode."""
        task = self._candidates[number].file.task
        if self._scene is None or self._scene[0] != task:
            self._scene = (task, self._scene_of(task))
        return self._scene[1]

    def task(self, number: int) -> Task:
        """The task of an episode."""
        return self._candidates[number].file.task

    def __getitem__(self, number: int) -> Episode:
        candidate = self._candidates[number]
        if self._open is None or self._open[0] is not candidate.file:
            self._open = (candidate.file, dict(candidate.file.read()))
        episode = self._open[1].get(candidate.name)
        if episode is None:
            raise UserError(f"{candidate.file.path}: no episode {candidate.name} any more; export again")
        return self._checker.prepared(self.scene(number), episode, candidate.verdict)


class RenderedEpisodes(Sequence[DatasetEpisode]):
    """Pairs of observation and action with pictures, cheapest in rising order."""

    def __init__(self, episodes: Episodes, drawing: RenderOptions):
        self._episodes, self._drawing = episodes, drawing
        self._next, self._drawn = -1, iter(())

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, number: int) -> DatasetEpisode:
        episode, robot, images = self.demo_parts(number)
        turned = rotate_180(images)
        return pair_episode(episode, robot, turned[:, 0], turned[:, 1], episode_name(episode))

    def demo_parts(self, number: int) -> tuple[Episode, RobotState, Raw]:
        """Episode, robot along it, and raw pictures."""
        if not 0 <= number < len(self):
            raise IndexError(f"episode {number} of {len(self)}")
        if number != self._next:
            self._drawn = self._draw_from(number)
        episode, images = next(self._drawn)
        self._next = number + 1
        if self._next < len(self) and self._episodes.task(self._next) != self._episodes.task(number):
            self._next = -1  # another scene: begin there anew
        observer = Observer(self._episodes.scene(number))
        return episode, observer(episode.states).robot, images

    def _draw_from(self, number: int) -> Iterator[tuple[Episode, Raw]]:
        """Renders the episodes of one task from `number` on, one at a time."""
        task, drawing = self._episodes.task(number), self._drawing
        scene = self._episodes.scene(number)
        with RenderPool(scene, drawing.view, image_size=drawing.size, workers=drawing.workers) as pool:
            for index in range(number, len(self)):
                if self._episodes.task(index) != task:
                    return
                episode = self._episodes[index]
                yield episode, pool.render(episode.states[:-1])


class RenderedDemos(Sequence[Demo]):
    """The same as HDF5 files have them: raw pictures, and the physics."""

    def __init__(self, drawn: RenderedEpisodes):
        self._drawn = drawn

    def __len__(self) -> int:
        return len(self._drawn)

    def __getitem__(self, number: int) -> Demo:
        episode, robot, images = self._drawn.demo_parts(number)
        return Demo(episode, robot, DemoImages(images[:, 0], images[:, 1]))


class DemosWithStoredImages(Sequence[Demo]):
    """Demonstrations with the pictures of a dataset that is there already, so that none is drawn twice."""

    def __init__(self, episodes: Episodes, dataset: Sequence[DatasetEpisode]):
        self._episodes, self._dataset = episodes, dataset

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, number: int) -> Demo:
        episode, shown = self._episodes[number], self._dataset[number]
        if episode_name(episode) != shown.file_path:
            raise ValueError(f"episode {number} is {episode_name(episode)}, its pictures are of {shown.file_path}")
        robot = Observer(self._episodes.scene(number))(episode.states).robot
        views = (rotate_180(np.asarray(view)) for view in (shown.image, shown.wrist_image))
        return Demo(episode, robot, DemoImages(*views))
