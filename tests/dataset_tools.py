"""Datasets for tests: writing RLDS in one call, and episodes that all happen in one scene."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlgen.core.types import Episode
from rlgen.data.formats.rlds.format import RldsFormat
from rlgen.data.writer import split_evenly, write_dataset
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.tasks.suites import Task


def write_rlds(
    directory: Path, name: str, episodes, *, size: int, shards: int, count: int | None = None, **options
) -> Path:
    """Writes an RLDS dataset with evenly filled shards.

    Args:
      directory: folder for datasets.
      name: of the dataset.
      episodes: to write.
      size: width and height of the images, pixels.
      shards: number of files.
      count: number of episodes; by default `len(episodes)`.
      **options: of `write_dataset`.
    """
    lengths = split_evenly(len(episodes) if count is None else count, shards)
    return write_dataset(directory, name, episodes, RldsFormat(), lengths=lengths, size=size, **options)


@dataclass(frozen=True)
class EpisodesOfScene:
    """Recorded episodes of one scene, as `RenderedEpisodes` takes them."""

    of: Scene
    episodes: Sequence[Episode]

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, index: int) -> Episode:
        return self.episodes[index]

    def scene(self, index: int) -> Scene:
        return self.of

    def task(self, index: int) -> Task:
        return self.of.task
