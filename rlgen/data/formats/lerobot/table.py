"""The columns of LeRobot's parquet files: their description, their schema, and the rows of an episode."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rlgen.core.actions import ACTION_SIZE
from rlgen.core.types import ARM_JOINTS, ROBOT_STATE_SIZE
from rlgen.data.episode import DatasetEpisode
from rlgen.data.images import EncodedFrames
from rlgen.data.metrics.smoothness import CONTROL_STEP

if TYPE_CHECKING:
    import pyarrow


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


def features(size: int) -> dict[str, Any]:
    """Returns the description of the columns in `info.json`, with images of `size` pixels a side."""
    image = {"dtype": "image", "shape": [size, size, 3], "names": ["height", "width", "channel"]}
    vectors = {
        name: {"dtype": "float32", "shape": [width], "names": {"motors": _NAMES[name]}}
        for name, width in VECTORS.items()
    }
    texts = {name: {"dtype": "string", "shape": [1], "names": None} for name in TEXTS}
    scalars = {name: {"dtype": kind, "shape": [1], "names": None} for name, kind in SCALARS.items()}
    return {**dict.fromkeys(IMAGES, image), **vectors, **texts, **scalars}


def table_schema() -> pyarrow.Schema:
    """Returns the columns for arrow, with the metadata that the `datasets` library keeps in a schema."""
    import pyarrow

    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    fields = [pyarrow.field(name, image) for name in IMAGES]
    fields += [pyarrow.field(name, pyarrow.list_(pyarrow.float32(), width)) for name, width in VECTORS.items()]
    fields += [pyarrow.field(name, pyarrow.string()) for name in TEXTS]
    fields += [pyarrow.field(name, kind) for name, kind in SCALARS.items()]
    described = {name: {"_type": "Image"} for name in IMAGES}
    described |= {
        name: {"feature": {"dtype": "float32", "_type": "Value"}, "length": width, "_type": "List"}
        for name, width in VECTORS.items()
    }
    described |= {name: {"dtype": "string", "_type": "Value"} for name in TEXTS}
    described |= {name: {"dtype": kind, "_type": "Value"} for name, kind in SCALARS.items()}
    return pyarrow.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


def episode_table(episode: DatasetEpisode, index: int, first_step: int, tasks: Mapping[str, int]) -> pyarrow.Table:
    """Returns the rows of an episode.

    Args:
      episode: with encoded images.
      index: position of the episode in the dataset.
      first_step: position of its first step in the dataset.
      tasks: index of each prompt.
    """
    import pyarrow

    steps = np.arange(len(episode))
    columns = [_images(frames) for frames in (episode.image, episode.wrist_image)]
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
    return pyarrow.Table.from_arrays(columns, schema=table_schema())


def _images(frames: EncodedFrames) -> pyarrow.StructArray:
    import pyarrow

    paths = pyarrow.array([None] * len(frames), pyarrow.string())
    return pyarrow.StructArray.from_arrays([pyarrow.array(frames.data, pyarrow.binary()), paths], ["bytes", "path"])
