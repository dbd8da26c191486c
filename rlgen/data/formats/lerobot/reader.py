"""Reading LeRobot 3.0 datasets: those that this project wrote; `foreign.py` has those of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rlgen.core.errors import UserError, first_line
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.lerobot.meta import videos_of
from rlgen.data.formats.lerobot.table import (
    COLUMNS,
    IMAGES,
    LEROBOT,
    TEXTS,
    Footers,
    floats_of,
    images_of,
    read_group,
    text_of,
)
from rlgen.data.formats.lerobot.video import AV1, FPS, H264
from rlgen.data.formats.lerobot.video_frames import VideoFrames, VideoReader
from rlgen.data.images import EncodedFrames
from rlgen.data.index import IndexedDataset, damaged_record
from rlgen.data.shards import MANIFEST, Shard, file_sha256, open_manifest

if TYPE_CHECKING:
    import pyarrow


class LeRobotDataset(IndexedDataset):
    """Episodes of a LeRobot dataset that this project wrote; images stay encoded."""

    format = LEROBOT
    noun = "a LeRobot dataset"

    def read_episode(self, index: int) -> DatasetEpisode:
        """Reads the row group of an episode."""
        entry = self.entries[index]
        path = self.directory / entry.file
        return episode_of_group(path, entry.record, self.size, name=entry.name, footers=self._footers)

    @cached_property
    def _footers(self) -> Footers:
        return {}


class LeRobotVideoDataset(LeRobotDataset):
    """Episodes of a LeRobot dataset with videos that this project wrote; images are decoded when they are asked for.

    A video is compared with its hash before the first image of it is decoded: most damage to it would only be seen.

    Attributes:
      fps: images a second of the videos (of the class).
    """

    fps: ClassVar[int] = FPS

    def read_episode(self, index: int) -> DatasetEpisode:
        """Reads the rows of an episode, and finds its images in the videos."""
        episode = super().read_episode(index)
        videos = self.videos(index, len(episode))
        for video in videos.values():
            self._check(video.path)
        image, wrist_image = (videos[camera] for camera in IMAGES)
        return replace(episode, image=image, wrist_image=wrist_image)

    def videos(self, index: int, steps: int) -> dict[str, VideoFrames]:
        """Returns the images of an episode, by their column.

        Args:
          index: of the episode.
          steps: their number.
        """
        table = self.directory / self.entries[index].file
        return videos_of(self.reader, table, self._first_steps[index], steps, self.size)

    @cached_property
    def reader(self) -> VideoReader:
        """Returns the decoder of its videos."""
        return VideoReader(self.fps)

    @cached_property
    def _first_steps(self) -> list[int]:
        """Returns the position of each episode's first step in its shard."""
        firsts, first, file = [], 0, ""
        for entry in self.entries:
            first, file = (first if entry.file == file else 0), entry.file
            firsts.append(first)
            first += entry.steps
        return firsts

    @cached_property
    def _unchecked(self) -> dict[Path, str]:
        """Returns the hashes of the videos that have not been compared yet."""
        _, shards = open_manifest(self.directory, self.format, self.noun)
        return {self.directory / file: sha256 for shard in shards for file, sha256 in shard.beside}

    def _check(self, video: Path) -> None:
        expected = self._unchecked.get(video)
        if expected is None:
            return
        if not video.is_file():
            raise UserError(f"{video}: no such video; fetch or export the dataset again")
        if file_sha256(video) != expected:
            raise UserError(f"{video}: not the video that {MANIFEST} lists; fetch or export the dataset again")
        self._unchecked.pop(video, None)


class LeRobotAv1Dataset(LeRobotVideoDataset):
    """Episodes of a LeRobot dataset with videos as AV1."""

    format = f"{LEROBOT}_{AV1.name}"


class LeRobotH264Dataset(LeRobotVideoDataset):
    """Episodes of a LeRobot dataset with videos as H.264."""

    format = f"{LEROBOT}_{H264.name}"


def read_shards(folder: Path, shards: Sequence[Shard], size: int) -> Iterator[DatasetEpisode]:
    """Yields the episodes of finished shards, without those of their images that are in videos.

    Args:
      folder: of the dataset.
      shards: in order.
      size: width and height of the images, pixels.
    """
    for shard in shards:
        footers: Footers = {}
        for record in range(shard.episodes):
            yield episode_of_group(folder / shard.file, record, size, footers=footers)


def episode_of_group(
    path: Path,
    record: int,
    size: int,
    *,
    name: str = "",
    footers: Footers | None = None,
    read: Callable[[Path, int, Footers], pyarrow.Table] = read_group,
) -> DatasetEpisode:
    """Reads the episode of a row group, without those of its images that are in videos.

    Args:
      path: of the file.
      record: index of the group.
      size: width and height of the images, pixels.
      name: of the episode, for messages.
      footers: those of files that were read before, as long as the rest of small groups.
      read: as `read_group`, where the columns have other names in the file.

    Raises:
      UserError: the group is missing or damaged.
    """
    import pyarrow

    try:
        table = read(path, record, {} if footers is None else footers)
        columns = {field: floats_of(table, column) for field, column in COLUMNS.items()}
        stored = IMAGES[0] in table.column_names
        image, wrist_image = (
            EncodedFrames(images_of(table, column), (size, size)) if stored else None for column in IMAGES
        )
        prompt, file_path = (text_of(table, column) for column in TEXTS)
    except UserError:
        raise
    except (OSError, pyarrow.ArrowException, LookupError, TypeError, ValueError) as error:
        raise damaged_record(path, record, name, first_line(error)) from error
    return DatasetEpisode(
        image=image, wrist_image=wrist_image, **columns, language_instruction=prompt, file_path=file_path
    )
