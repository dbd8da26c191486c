"""The files in the `meta/` folder of a LeRobot 3.0 dataset: `info.json`, tasks, episodes, statistics."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from rlgen.core.files import write_bytes, write_json
from rlgen.data.formats.lerobot.table import IMAGES, SCALARS, VECTORS, features
from rlgen.data.formats.lerobot.video import FPS, VideoCodec
from rlgen.data.formats.lerobot.video_frames import VideoFrames, VideoReader
from rlgen.data.images import EncodedFrames, FrameSequence
from rlgen.data.shards import DatasetPlan, Shard

VERSION = "v3.0"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
# Statistics of images are taken from a sample: images of each camera and episode, pixels along each side of an image.
IMAGES_SAMPLED, PIXELS_SAMPLED = 4, 32


def write_meta(
    folder: Path,
    plan: DatasetPlan,
    shards: Sequence[Shard],
    tasks: Mapping[str, int],
    codec: VideoCodec | None = None,
) -> None:
    """Writes `meta/` from the finished shards.

    Args:
      folder: of the dataset.
      plan: of the dataset.
      shards: in order.
      tasks: index of each prompt.
      codec: of the videos; None where the images are in the tables.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    reader = VideoReader(FPS)
    rows: list[dict[str, Any]] = []
    columns: dict[str, list[np.ndarray]] = {name: [] for name in (*IMAGES, *VECTORS, *SCALARS)}
    for shard in shards:
        chunk, file = (int(part.split("-")[1].split(".")[0]) for part in shard.file.split("/")[1:])
        source, first = parquet.ParquetFile(folder / shard.file), 0
        for group in range(source.num_row_groups):
            table = source.read_row_group(group)
            cameras = images_in(table, plan.size)
            location: dict[str, Any] = {"data/chunk_index": chunk, "data/file_index": file}
            if codec is not None:
                cameras = videos_of(reader, folder / shard.file, first, table.num_rows, plan.size)
                location |= _video_location(chunk, file, first, table.num_rows)
            values = sampled_columns(table, cameras)
            first += table.num_rows
            for name, parts in columns.items():
                parts.append(values[name])
            rows.append(_episode_row(table, values, rows, location))
    statistics = {name: column_statistics(np.concatenate(parts), name) for name, parts in columns.items()}
    _write_parquet(folder / "meta/episodes/chunk-000/file-000.parquet", pyarrow.Table.from_pylist(rows))
    _write_parquet(folder / "meta/tasks.parquet", _tasks_table(tasks))
    write_json(folder / "meta/stats.json", statistics)
    write_json(folder / "meta/info.json", _info(plan, rows, tasks, codec))


def _info(
    plan: DatasetPlan, rows: Sequence[Mapping[str, Any]], tasks: Mapping[str, int], codec: VideoCodec | None
) -> dict[str, Any]:
    return {
        "codebase_version": VERSION,
        "robot_type": "panda",
        "total_episodes": len(rows),
        "total_frames": sum(row["length"] for row in rows),
        "total_tasks": len(tasks),
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": FPS,
        "splits": {"train": f"0:{len(rows)}"},
        "data_path": DATA_PATH,
        "video_path": None if codec is None else VIDEO_PATH,
        "features": features(plan.size, codec),
    }


def _episode_row(table: Any, values: Mapping[str, np.ndarray], before: Sequence[Mapping], location: Mapping) -> dict:
    """Returns the row of an episode in `meta/episodes/`, given the rows of the episodes before it."""
    first = before[-1]["dataset_to_index"] if before else 0
    row = {
        "episode_index": len(before),
        "tasks": [table["prompt"][0].as_py()],
        "length": table.num_rows,
        **location,
        "dataset_from_index": first,
        "dataset_to_index": first + table.num_rows,
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
    }
    statistics = {name: column_statistics(column, name) for name, column in values.items()}
    return row | {f"stats/{name}/{key}": part for name, of in statistics.items() for key, part in of.items()}


def images_in(table: Any, size: int) -> dict[str, FrameSequence]:
    """Returns the images of an episode that are in its table, of `size` pixels a side, by their column."""
    columns = [name for name in IMAGES if name in table.column_names]
    data = {name: tuple(row["bytes"] for row in table[name].to_pylist()) for name in columns}
    return {name: EncodedFrames(encoded, (size, size)) for name, encoded in data.items()}


def videos_of(reader: VideoReader, table: Path, first: int, count: int, size: int) -> dict[str, VideoFrames]:
    """Returns the images of an episode that are in the videos beside a table, by their column.

    Args:
      reader: decodes them.
      table: path of the table.
      first: position of the episode's first step in the table.
      count: its number of steps.
      size: width and height of the images, pixels.
    """
    return {name: VideoFrames(reader, video_path(table, name), first, count, (size, size)) for name in IMAGES}


def video_path(table: Path, camera: str) -> Path:
    """Returns the path of the video of a camera that belongs to the table at a path."""
    return table.parents[2] / "videos" / camera / table.parent.name / f"{table.stem}.mp4"


def _video_location(chunk: int, file: int, first: int, count: int) -> dict[str, Any]:
    """Returns where the videos of an episode are: file, and time of its first and behind its last image, seconds."""
    place = {"chunk_index": chunk, "file_index": file}
    place |= {"from_timestamp": first / FPS, "to_timestamp": (first + count) / FPS}
    return {f"videos/{name}/{key}": value for name in IMAGES for key, value in place.items()}


def sampled_columns(table: Any, cameras: Mapping[str, FrameSequence]) -> dict[str, Float[np.ndarray, "N D"]]:
    """Returns the numeric columns of an episode, and for each camera a sample of pixels, `[N, 3]` in [0, 1]."""
    sampled = np.unique(np.linspace(0, table.num_rows - 1, IMAGES_SAMPLED).astype(int))
    values: dict[str, np.ndarray] = {}
    for name in IMAGES:
        images = np.stack([cameras[name][int(row)] for row in sampled])
        stride = max(1, images.shape[1] // PIXELS_SAMPLED)
        values[name] = images[:, ::stride, ::stride].reshape(-1, 3) / 255
    for name in (*VECTORS, *SCALARS):
        values[name] = np.array(table[name].to_pylist(), np.float64).reshape(table.num_rows, -1)
    return values


def column_statistics(values: Float[np.ndarray, "N D"], name: str) -> dict[str, Any]:
    """Returns the statistics of a column of `sampled_columns` by its name, as LeRobot's files have them."""
    parts = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    parts |= {key: np.quantile(values, fraction, axis=0) for key, fraction in QUANTILES.items()}
    if name in IMAGES:  # one number for each channel, in the shape of an image with the channel first
        parts = {key: part[:, None, None] for key, part in parts.items()}
    return {**{key: part.tolist() for key, part in parts.items()}, "count": [len(values)]}


def _tasks_table(tasks: Mapping[str, int]) -> Any:
    """Returns the table of tasks. Its index in pandas is the prompt, by which LeRobot finds a task."""
    import pyarrow

    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
        for name, kind, numpy in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    names = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object"}
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [{**names, "metadata": {"encoding": "UTF-8"}}],
        "columns": columns,
        "creator": {"library": "pyarrow", "version": pyarrow.__version__},
        "pandas_version": "2.0.0",
    }
    table = pyarrow.table({"task_index": list(tasks.values()), "task": list(tasks)})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _write_parquet(path: Path, table: Any) -> None:
    import pyarrow.parquet as parquet

    out = io.BytesIO()
    parquet.write_table(table, out, compression="snappy")
    write_bytes(path, out.getvalue())
