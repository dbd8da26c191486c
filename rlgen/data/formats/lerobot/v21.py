"""The LeRobot 2.1 format: a parquet file for each episode, with the images in it or a video of each camera beside it.

lerobot reads it up to 0.3.3, and so does the commit of it that openpi trains with. Columns have the names that openpi's
converter for LIBERO gives them, and 10 frames a second, as there, so that openpi's settings for LIBERO take these
datasets as they are; steps are 0.05 s apart all the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from rlgen.core.files import atomic_path, write_bytes
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.lerobot.format import LeRobotFormat
from rlgen.data.formats.lerobot.reader import LeRobotDataset, LeRobotVideoDataset, episode_of_group
from rlgen.data.formats.lerobot.table import IMAGES, LEROBOT, Footers, episode_table, read_group, table_schema
from rlgen.data.formats.lerobot.v21_meta import FPS, NAMES, episode_path, video_path, videos_of, write_meta
from rlgen.data.formats.lerobot.video import AV1, H264, EncodedVideo, VideoCodec, encode_video
from rlgen.data.formats.lerobot.video_frames import VideoFrames
from rlgen.data.images import FrameSequence
from rlgen.data.index import write_index
from rlgen.data.shards import DatasetPlan, Shard, file_sha256
from rlgen.data.writer import ShardStart

if TYPE_CHECKING:
    import pyarrow

_OWN_NAMES = {theirs: ours for ours, theirs in NAMES.items()}


class LeRobotV21Format(LeRobotFormat):
    """Shards are the files of several episodes, of which the first names the shard and the others are beside it."""

    name = f"{LEROBOT}_v21"

    def files(self, name: str, lengths: Sequence[int]) -> list[str]:
        """Returns the path of the first episode of each shard."""
        return [episode_path(first) for first in accumulate(lengths[:-1], initial=0)]

    def write(self, path: Path, episodes: Iterator[DatasetEpisode], plan: DatasetPlan, start: ShardStart) -> Shard:
        """Writes the files of some episodes; arguments as of `Format.write`."""
        import pyarrow.parquet as parquet

        folder, step, hashes = path.parents[2], start.step, {}
        for index, episode in enumerate(episodes, start.episode):
            file = episode_path(index)
            with atomic_path(folder / file) as temporary:
                table = _episode_table(episode, index, step, self._tasks)
                parquet.write_table(table, temporary, compression="snappy", write_page_checksum=True)
            hashes |= {each: file_sha256(folder / each) for each in (file, *self.write_videos(folder, episode, index))}
            step += len(episode)
        name, count = path.relative_to(folder).as_posix(), sum(map(_is_table, hashes))
        size, sha256 = (path.stat().st_size, hashes.pop(name)) if hashes else (0, "")
        return Shard(name, count, step - start.step, size, sha256, tuple(hashes.items()))

    def write_videos(self, folder: Path, episode: Any, index: int) -> list[str]:
        """Writes the videos of an episode, of which there are none where the images are in its table.

        Args:
          folder: of the dataset.
          episode: with encoded images.
          index: of the episode.

        Returns:
          Their paths.
        """
        return []

    def describe(self, folder: Path, plan: DatasetPlan, shards: Sequence[Shard]) -> None:
        """Writes the index and LeRobot's `meta` folder; arguments as of `Format.describe`."""
        files = [file for shard in shards for file in shard.hashes if _is_table(file)]
        episodes = (episode_of_group(folder / file, 0, plan.size, read=_read_group) for file in files)
        write_index(folder, plan, shards, episodes, files=files)
        write_meta(folder, plan, (_read_group(folder / file, 0, {}) for file in files), self._tasks, self._codec)


class LeRobotV21VideoFormat(LeRobotV21Format):
    """Shards are the files of several episodes: for each a table, and a video of each camera."""

    def __init__(self, prompts: Sequence[str], codec: VideoCodec):
        """Takes the prompts of all episodes, and how videos are encoded."""
        super().__init__(prompts)
        self.name, self._codec = f"{LeRobotV21Format.name}_{codec.name}", codec

    def encode(self, images: UInt8[np.ndarray, "T h w 3"] | FrameSequence) -> EncodedVideo:
        """Returns the images of one camera in an episode as a video."""
        return encode_video(images, self._codec, FPS)

    def write_videos(self, folder: Path, episode: Any, index: int) -> list[str]:
        """Writes the videos of an episode; arguments as of `LeRobotV21Format.write_videos`."""
        videos = dict(zip((NAMES[name] for name in IMAGES), (episode.image, episode.wrist_image), strict=True))
        paths = {video_path(index, key): video for key, video in videos.items()}
        for path, video in paths.items():
            write_bytes(folder / path, video.data)
        return list(paths)


class LeRobotV21Dataset(LeRobotDataset):
    """Episodes of a LeRobot 2.1 dataset that this project wrote; images stay encoded."""

    format = LeRobotV21Format.name

    def read_episode(self, index: int) -> DatasetEpisode:
        """Reads the file of an episode."""
        entry = self.entries[index]
        path = self.directory / entry.file
        return episode_of_group(path, entry.record, self.size, name=entry.name, read=_read_group)


class LeRobotV21VideoDataset(LeRobotVideoDataset, LeRobotV21Dataset):
    """Episodes of a LeRobot 2.1 dataset with videos that this project wrote; images are decoded on request."""

    fps = FPS

    def videos(self, index: int, steps: int) -> dict[str, VideoFrames]:
        """Returns the images of an episode; arguments as of `LeRobotVideoDataset.videos`."""
        return videos_of(self.reader, self.directory, index, steps, self.size)


class LeRobotV21Av1Dataset(LeRobotV21VideoDataset):
    """Episodes of a LeRobot 2.1 dataset with videos as AV1."""

    format = f"{LeRobotV21Format.name}_{AV1.name}"


class LeRobotV21H264Dataset(LeRobotV21VideoDataset):
    """Episodes of a LeRobot 2.1 dataset with videos as H.264."""

    format = f"{LeRobotV21Format.name}_{H264.name}"


def _is_table(file: str) -> bool:
    return file.endswith(".parquet")


def _episode_table(episode: DatasetEpisode, index: int, first_step: int, tasks: dict[str, int]) -> pyarrow.Table:
    """Returns the rows of an episode; arguments as of `episode_table`."""
    import pyarrow

    table = episode_table(episode, index, first_step, tasks)
    times = pyarrow.array((np.arange(len(episode)) / FPS).astype(np.float32))
    table = table.set_column(table.schema.get_field_index("timestamp"), "timestamp", times)
    return _renamed(table, NAMES).replace_schema_metadata(_metadata(IMAGES[0] in table.column_names))


def _read_group(path: Path, group: int, footers: Footers) -> pyarrow.Table:
    """Reads a row group as `read_group` does, with the columns in the names of LeRobot 3.0."""
    return _renamed(read_group(path, group, footers), _OWN_NAMES)


def _renamed(table: pyarrow.Table, names: dict[str, str]) -> pyarrow.Table:
    return table.rename_columns([names.get(name, name) for name in table.column_names])


def _metadata(images: bool) -> dict[bytes, bytes]:
    """Returns what the `datasets` library keeps in a schema, with or without images, in the words before version 4."""
    key = b"huggingface"
    described = json.loads(table_schema(images=images).metadata[key])["info"]["features"]
    lists = {name: {**feature, "_type": "Sequence"} for name, feature in described.items() if "length" in feature}
    features = {NAMES.get(name, name): feature for name, feature in (described | lists).items()}
    return {key: json.dumps({"info": {"features": features}}).encode()}
