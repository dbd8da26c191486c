"""The LeRobot 3.0 format: parquet files with the images in them or in videos, and descriptions in `meta/`.

Layout and names are those that lerobot 0.4 to 0.6 read (`LeRobotDataset`, codebase version v3.0): `data/` holds the
steps, `meta/` the episodes, tasks, statistics and `info.json`. Images are of type `image`, the JPEG bytes of the other
formats, or of type `video`, one file for each camera and parquet file. `joint_state` is not named `observation.*`, so
policies do not use it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from rlgen.core.files import atomic_path
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.lerobot.meta import video_path, write_meta
from rlgen.data.formats.lerobot.reader import read_shards
from rlgen.data.formats.lerobot.table import IMAGES, LEROBOT, episode_table, table_schema
from rlgen.data.formats.lerobot.video import EncodedVideo, VideoCodec, encode_video, joined_videos
from rlgen.data.images import FrameSequence
from rlgen.data.index import write_index
from rlgen.data.shards import DatasetPlan, Shard, file_sha256
from rlgen.data.writer import Format, ShardStart

FILES_PER_CHUNK = 1000


class LeRobotFormat(Format):
    """Shards are parquet files with one row group for each episode."""

    name = LEROBOT
    encoded = True

    def __init__(self, prompts: Sequence[str]):
        """Takes the prompts of all episodes; the position of a prompt among the distinct ones is its `task_index`."""
        self._tasks = {prompt: index for index, prompt in enumerate(dict.fromkeys(prompts))}
        self._codec: VideoCodec | None = None

    def folder(self, directory: Path, name: str, version: str) -> Path:
        """Returns the folder of a dataset; arguments as of `Format.folder`."""
        return directory / self.name / name / version

    def files(self, name: str, lengths: Sequence[int]) -> list[str]:
        """Returns the paths of the parquet files."""
        return [
            "data/chunk-{:03d}/file-{:03d}.parquet".format(*divmod(i, FILES_PER_CHUNK)) for i in range(len(lengths))
        ]

    def write(self, path: Path, episodes: Iterator[DatasetEpisode], plan: DatasetPlan, start: ShardStart) -> Shard:
        """Writes a parquet file; arguments as of `Format.write`."""
        import pyarrow.parquet as parquet

        index, step, schema = start.episode, start.step, table_schema(images=self._codec is None)
        with (
            atomic_path(path) as temporary,
            open(temporary, "wb") as file,
            parquet.ParquetWriter(file, schema, compression="snappy", write_page_checksum=True) as writer,
        ):
            for episode in episodes:
                writer.write_table(episode_table(episode, index, step, self._tasks))
                index, step = index + 1, step + len(episode)
        name = path.relative_to(path.parents[2]).as_posix()
        return Shard(name, index - start.episode, step - start.step, path.stat().st_size, file_sha256(path))

    def describe(self, folder: Path, plan: DatasetPlan, shards: Sequence[Shard]) -> None:
        """Writes the index and LeRobot's `meta` folder; arguments as of `Format.describe`."""
        write_index(folder, plan, shards, read_shards(folder, shards, plan.size))
        write_meta(folder, plan, shards, self._tasks, self._codec)


class LeRobotVideoFormat(LeRobotFormat):
    """Shards are parquet files with one row group for each episode, and a video of each camera beside them."""

    def __init__(self, prompts: Sequence[str], codec: VideoCodec):
        """Takes the prompts of all episodes, and how videos are encoded."""
        super().__init__(prompts)
        self.name, self._codec = f"{LEROBOT}_{codec.name}", codec

    def encode(self, images: UInt8[np.ndarray, "T h w 3"] | FrameSequence) -> EncodedVideo:
        """Returns the images of one camera in an episode as a video."""
        return encode_video(images, self._codec)

    def write(self, path: Path, episodes: Iterator[Any], plan: DatasetPlan, start: ShardStart) -> Shard:
        """Writes a parquet file and its videos; arguments as of `Format.write`."""
        videos = [video_path(path, camera) for camera in IMAGES]
        with ExitStack() as stack:
            writers = []
            for video in videos:
                file = stack.enter_context(open(stack.enter_context(atomic_path(video)), "wb"))
                writers.append(stack.enter_context(joined_videos(file)))

            def without_videos() -> Iterator[Any]:
                for episode in episodes:
                    for writer, images in zip(writers, (episode.image, episode.wrist_image), strict=True):
                        writer.add(images)
                    yield episode

            shard = super().write(path, without_videos(), plan, start)
        folder = path.parents[2]
        beside = tuple((video.relative_to(folder).as_posix(), file_sha256(video)) for video in videos)
        return replace(shard, beside=beside)
