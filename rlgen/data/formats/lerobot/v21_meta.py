"""The places of a LeRobot 2.1 dataset, and its folder `meta/`: `info.json`, tasks, episodes, and their statistics."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlgen.core.files import write_bytes, write_json
from rlgen.data.formats.lerobot.meta import IMAGES_SAMPLED, column_statistics, images_in, sampled_columns
from rlgen.data.formats.lerobot.table import IMAGES, features
from rlgen.data.formats.lerobot.video import VideoCodec
from rlgen.data.formats.lerobot.video_frames import VideoFrames, VideoReader
from rlgen.data.images import FrameSequence
from rlgen.data.shards import DatasetPlan

if TYPE_CHECKING:
    import pyarrow

VERSION = "v2.1"
DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
INFO, EPISODES, TASKS, EPISODES_STATISTICS = (
    f"meta/{name}" for name in ("info.json", "episodes.jsonl", "tasks.jsonl", "episodes_stats.jsonl")
)
EPISODES_PER_CHUNK = 1000
FPS = 10
# The names in openpi's converter of the columns of LeRobot 3.0; the others are called the same.
NAMES = {**dict(zip(IMAGES, ("image", "wrist_image"), strict=True)), "observation.state": "state", "action": "actions"}
_STATISTICS = ("min", "max", "mean", "std", "count")


def episode_path(index: int, per_chunk: int = EPISODES_PER_CHUNK) -> str:
    """Returns the path of the table of an episode.

    Args:
      index: of the episode.
      per_chunk: episodes in a folder.
    """
    return DATA_PATH.format(episode_chunk=index // per_chunk, episode_index=index)


def video_path(index: int, key: str, per_chunk: int = EPISODES_PER_CHUNK) -> str:
    """Returns the path of the video of a camera in an episode.

    Args:
      index: of the episode.
      key: name of the camera's column.
      per_chunk: episodes in a folder.
    """
    return VIDEO_PATH.format(episode_chunk=index // per_chunk, video_key=key, episode_index=index)


def videos_of(reader: VideoReader, folder: Path, index: int, count: int, size: int) -> dict[str, VideoFrames]:
    """Returns the images of an episode that are in videos, by their column in the names of LeRobot 3.0.

    Args:
      reader: decodes them.
      folder: of the dataset.
      index: of the episode.
      count: its number of steps.
      size: width and height of the images, pixels.
    """
    paths = {name: folder / video_path(index, NAMES[name]) for name in IMAGES}
    return {name: VideoFrames(reader, path, 0, count, (size, size)) for name, path in paths.items()}


def write_meta(
    folder: Path,
    plan: DatasetPlan,
    tables: Iterable[pyarrow.Table],
    tasks: Mapping[str, int],
    codec: VideoCodec | None = None,
) -> None:
    """Writes `meta/`.

    Args:
      folder: of the dataset.
      plan: of the dataset.
      tables: of the episodes, in order, with the columns in the names of LeRobot 3.0; iterated over once.
      tasks: index of each prompt.
      codec: of the videos; None where the images are in the tables.
    """
    episodes, statistics, reader = [], [], VideoReader(FPS)
    for index, table in enumerate(tables):
        if codec is None:
            cameras = images_in(table, plan.size)
        else:
            cameras = videos_of(reader, folder, index, table.num_rows, plan.size)
        episodes.append({"episode_index": index, "tasks": [table["prompt"][0].as_py()], "length": table.num_rows})
        statistics.append({"episode_index": index, "stats": _statistics(table, cameras)})
    _write_lines(folder / EPISODES, episodes)
    _write_lines(folder / EPISODES_STATISTICS, statistics)
    _write_lines(folder / TASKS, [{"task_index": index, "task": task} for task, index in tasks.items()])
    write_json(folder / INFO, _info(plan, episodes, len(tasks), codec))


def _info(plan: DatasetPlan, episodes: list[dict[str, Any]], tasks: int, codec: VideoCodec | None) -> dict[str, Any]:
    described = features(plan.size, codec, FPS)
    return {
        "codebase_version": VERSION,
        "robot_type": "panda",
        "total_episodes": len(episodes),
        "total_frames": sum(episode["length"] for episode in episodes),
        "total_tasks": tasks,
        "total_videos": 0 if codec is None else len(IMAGES) * len(episodes),
        "total_chunks": -(-len(episodes) // EPISODES_PER_CHUNK),
        "chunks_size": EPISODES_PER_CHUNK,
        "fps": FPS,
        "splits": {"train": f"0:{len(episodes)}"},
        "data_path": DATA_PATH,
        "video_path": None if codec is None else VIDEO_PATH,
        "features": {NAMES.get(name, name): feature for name, feature in described.items()},
    }


def _statistics(table: pyarrow.Table, cameras: Mapping[str, FrameSequence]) -> dict[str, dict[str, Any]]:
    """Returns the statistics of an episode by column; those of images count images, as lerobot's do."""
    found = {}
    for name, values in sampled_columns(table, cameras).items():
        of_column = column_statistics(values, name)
        if name in IMAGES:
            of_column["count"] = [min(IMAGES_SAMPLED, table.num_rows)]
        found[NAMES.get(name, name)] = {key: of_column[key] for key in _STATISTICS}
    return found


def _write_lines(path: Path, values: Iterable[Any]) -> None:
    write_bytes(path, "".join(json.dumps(value, allow_nan=False) + "\n" for value in values).encode())
