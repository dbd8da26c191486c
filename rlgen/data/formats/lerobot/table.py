"""The columns of LeRobot's parquet files: their description, their schema, and the rows of episodes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Float

from rlgen.core.actions import ACTION_SIZE
from rlgen.core.foreign.archives import is_bomb
from rlgen.core.types import ARM_JOINTS, ROBOT_STATE_SIZE
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.lerobot.video import FPS, VideoCodec, video_info
from rlgen.data.images import EncodedFrames
from rlgen.data.metrics.smoothness import CONTROL_STEP

if TYPE_CHECKING:
    import pyarrow

BATCH = 256  # rows that are read at once
Footers: TypeAlias = "dict[Path, pyarrow.parquet.FileMetaData]"
"""The ends of files that were read before: they are as long as the rest of small files."""

LEROBOT = "lerobot"
# The columns of an episode's numbers, by the names of its fields.
COLUMNS = {"state": "observation.state", "joint_state": "joint_state", "action": "action"}
# The order of these constants is the order of the columns.
IMAGES = ("observation.images.image", "observation.images.image2")
VECTORS = {"observation.state": ROBOT_STATE_SIZE, "joint_state": ARM_JOINTS, "action": ACTION_SIZE}
TEXTS = ("prompt", "file_path")
SCALARS = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64"}
SCALARS |= {"task_index": "int64"}
_NAMES = {
    "observation.state": ["x", "y", "z", "axis_angle1", "axis_angle2", "axis_angle3", "gripper", "gripper"],
    "joint_state": [f"joint{joint}" for joint in range(1, ARM_JOINTS + 1)],
    "action": ["x", "y", "z", "axis_angle1", "axis_angle2", "axis_angle3", "gripper"],
}


def features(size: int, codec: VideoCodec | None = None, fps: int = FPS) -> dict[str, Any]:
    """Returns the description of the columns in `info.json`.

    Args:
      size: width and height of the images, pixels.
      codec: of the videos; None where the images are in the table.
      fps: images a second of the videos.
    """
    image: dict[str, Any] = {"dtype": "image", "shape": [size, size, 3], "names": ["height", "width", "channel"]}
    if codec is not None:
        image |= {"dtype": "video", "info": video_info(size, codec, fps)}
    vectors = {
        name: {"dtype": "float32", "shape": [width], "names": {"motors": _NAMES[name]}}
        for name, width in VECTORS.items()
    }
    texts = {name: {"dtype": "string", "shape": [1], "names": None} for name in TEXTS}
    scalars = {name: {"dtype": kind, "shape": [1], "names": None} for name, kind in SCALARS.items()}
    return {**dict.fromkeys(IMAGES, image), **vectors, **texts, **scalars}


def table_schema(*, images: bool = True) -> pyarrow.Schema:
    """Returns the columns for arrow, with the metadata that the `datasets` library keeps in a schema.

    Args:
      images: whether they are in the table, and not in videos.
    """
    import pyarrow

    cameras = IMAGES if images else ()
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    fields = [pyarrow.field(name, image) for name in cameras]
    fields += [pyarrow.field(name, pyarrow.list_(pyarrow.float32(), width)) for name, width in VECTORS.items()]
    fields += [pyarrow.field(name, pyarrow.string()) for name in TEXTS]
    fields += [pyarrow.field(name, kind) for name, kind in SCALARS.items()]
    described: dict[str, Any] = {name: {"_type": "Image"} for name in cameras}
    described |= {
        name: {"feature": {"dtype": "float32", "_type": "Value"}, "length": width, "_type": "List"}
        for name, width in VECTORS.items()
    }
    described |= {name: {"dtype": "string", "_type": "Value"} for name in TEXTS}
    described |= {name: {"dtype": kind, "_type": "Value"} for name, kind in SCALARS.items()}
    return pyarrow.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


def episode_table(episode: DatasetEpisode, index: int, first_step: int, tasks: Mapping[str, int]) -> pyarrow.Table:
    """Returns the rows of an episode, with its images unless they are a video.

    Args:
      episode: with encoded images.
      index: position of the episode in the dataset.
      first_step: position of its first step in the dataset.
      tasks: index of each prompt.
    """
    import pyarrow

    steps = np.arange(len(episode))
    cameras = (frames for frames in (episode.image, episode.wrist_image) if isinstance(frames, EncodedFrames))
    columns = [_images(frames) for frames in cameras]
    schema = table_schema(images=bool(columns))
    for name, values in (
        ("observation.state", episode.state),
        ("joint_state", episode.joint_state),
        ("action", episode.action),
    ):
        flat = pyarrow.array(np.ascontiguousarray(values, np.float32).ravel())
        columns.append(pyarrow.FixedSizeListArray.from_arrays(flat, VECTORS[name]))
    columns += [pyarrow.array([text] * len(steps)) for text in (episode.language_instruction, episode.file_path)]
    columns.append(pyarrow.array((steps * CONTROL_STEP).astype(np.float32)))
    task_index = tasks[episode.language_instruction]
    integers = (steps, np.full(len(steps), index), steps + first_step, np.full(len(steps), task_index))
    columns += [pyarrow.array(values.astype(np.int64)) for values in integers]
    return pyarrow.Table.from_arrays(columns, schema=schema)


def _images(frames: EncodedFrames) -> pyarrow.StructArray:
    import pyarrow

    paths = pyarrow.array([None] * len(frames), pyarrow.string())
    return pyarrow.StructArray.from_arrays([pyarrow.array(frames.data, pyarrow.binary()), paths], ["bytes", "path"])


def read_group(path: Path, group: int, footers: Footers) -> pyarrow.Table:
    """Reads a row group.

    Args:
      path: of the file.
      group: its index.
      footers: gets that of the file.

    Raises:
      ValueError: the file has no such group, it has no rows, or more than it can.
    """
    footer = _footer(path, footers)
    if group >= footer.num_row_groups:
        raise ValueError(f"the file has {footer.num_row_groups}")
    return _read_groups(path, [group], None, footer)


def read_rows(path: Path, first: int, count: int, columns: Sequence[str], footers: Footers) -> pyarrow.Table:
    """Reads some rows of a file, whatever its row groups are.

    Args:
      path: of the file.
      first: index of the first one.
      count: their number.
      columns: that are read.
      footers: gets that of the file.

    Raises:
      ValueError: the file has not so many rows, or more than it can.
    """
    footer, groups, before, start = _footer(path, footers), [], 0, 0
    for group in range(footer.num_row_groups):
        end = start + footer.row_group(group).num_rows
        if end <= first:
            before = end
        elif start < first + count:
            groups.append(group)
        start = end
    if not groups or start < first + count:
        raise ValueError(f"the file has {start} rows, not those from {first} to {first + count - 1}")
    return _read_groups(path, groups, columns, footer).slice(first - before, count)


def read_table(path: Path, columns: Sequence[str]) -> pyarrow.Table:
    """Reads some columns of a file; `ValueError` where they have more than they can."""
    footer = _footer(path, {})
    return _read_groups(path, list(range(footer.num_row_groups)), columns, footer)


def _footer(path: Path, footers: Footers) -> pyarrow.parquet.FileMetaData:
    import pyarrow.parquet as parquet

    if path not in footers:
        footers[path] = parquet.read_metadata(path)
    return footers[path]


def _read_groups(
    path: Path, groups: list[int], columns: Sequence[str] | None, footer: pyarrow.parquet.FileMetaData
) -> pyarrow.Table:
    """Reads row groups, in parts: what they claim to hold may be far more than what is stored."""
    import pyarrow
    import pyarrow.parquet as parquet

    batches, total, stored = [], 0, path.stat().st_size
    with parquet.ParquetFile(path, metadata=footer, page_checksum_verification=True) as file:
        for batch in file.iter_batches(BATCH, row_groups=groups, columns=columns):
            total += batch.nbytes
            if is_bomb(total, stored):
                raise ValueError(f"more than {total} bytes in a file of {stored}")
            batches.append(batch)
    if not batches:
        raise ValueError("it has no rows")
    return pyarrow.Table.from_batches(batches)


def floats_of(table: pyarrow.Table, column: str) -> Float[np.ndarray, "T D"]:
    """Returns a column of lists of numbers; `ValueError` where they have different lengths."""
    values = np.array(table[column].to_pylist(), np.float32)
    if values.ndim != 2:
        raise ValueError(f"{column} has shape {values.shape}")
    return values


def images_of(table: pyarrow.Table, column: str) -> tuple[bytes, ...]:
    """Returns a column of encoded images; `ValueError` where one is not in the table."""
    data = tuple(row["bytes"] for row in table[column].to_pylist())
    if not all(isinstance(part, bytes) for part in data):
        raise ValueError(f"{column} has rows without an image")
    return data


def text_of(table: pyarrow.Table, column: str) -> str:
    """Returns the first text of a column."""
    text = table[column][0].as_py()
    if not isinstance(text, str):
        raise ValueError(f"{column} is {text!r}")
    return text
