"""The schema of the community's `*_no_noops` LIBERO datasets, and the two JSON files that tensorflow_datasets reads.

tensorflow_datasets takes two seconds to import (without TensorFlow, which nothing here loads), so it is imported inside
the functions that need it. The texts of the features are stored in datasets.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlgen.core.actions import ACTION_SIZE
from rlgen.core.types import ARM_JOINTS, ROBOT_STATE_SIZE
from rlgen.data.episode import DatasetEpisode
from rlgen.data.shards import DatasetPlan

if TYPE_CHECKING:
    from tensorflow_datasets.core.features import FeaturesDict

SPLIT = "train"


def libero_features(size: int) -> FeaturesDict:
    """Returns the features of one episode, with images of `size` pixels a side."""
    import tensorflow_datasets as tfds

    kinds = tfds.features

    def image(doc: str) -> Any:
        return kinds.Image(shape=(size, size, 3), dtype=np.uint8, encoding_format="jpeg", doc=doc)

    def vector(length: int, doc: str) -> Any:
        return kinds.Tensor(shape=(length,), dtype=np.float32, doc=doc)

    observation = {
        "image": image("Front camera, rotated by 180 degrees."),
        "wrist_image": image("Camera in the hand, rotated by 180 degrees."),
        "state": vector(ROBOT_STATE_SIZE, "End-effector position (m) and axis-angle (rad), two finger joints (m)."),
        "joint_state": vector(ARM_JOINTS, "Arm joint positions (rad)."),
    }
    step = {
        "observation": kinds.FeaturesDict(observation),
        "action": vector(ACTION_SIZE, "Change of position and axis-angle in [-1, 1]; gripper -1 opens, 1 closes."),
        "discount": kinds.Scalar(dtype=np.float32, doc="Always 1."),
        "reward": kinds.Scalar(dtype=np.float32, doc="1 on the last step, else 0."),
        "is_first": kinds.Scalar(dtype=np.bool_, doc="Whether this is the first step."),
        "is_last": kinds.Scalar(dtype=np.bool_, doc="Whether this is the last step."),
        "is_terminal": kinds.Scalar(dtype=np.bool_, doc="Whether the task ended here: true on the last step."),
        "language_instruction": kinds.Text(doc="The instruction, as the task's file name words it."),
    }
    metadata = {"file_path": kinds.Text(doc="Where the episode came from.")}
    return kinds.FeaturesDict({"steps": kinds.Dataset(step), "episode_metadata": kinds.FeaturesDict(metadata)})


def shard_names(name: str, file_format: str, count: int) -> list[str]:
    """Returns the file names of the shards as tensorflow_datasets expects them.

    Args:
      name: of the dataset.
      file_format: of tensorflow_datasets, `tfrecord` or `array_record`.
      count: number of shards.
    """
    return [f"{name}-{SPLIT}.{file_format}-{index:05d}-of-{count:05d}" for index in range(count)]


def write_tfds_info(
    folder: Path, plan: DatasetPlan, features: FeaturesDict, file_format: str, shards: Sequence[tuple[int, int]]
) -> None:
    """Writes `features.json` and `dataset_info.json`, which tensorflow_datasets opens a dataset by.

    Args:
      folder: of the shards.
      plan: name, version and description of the dataset.
      features: of one record.
      file_format: of tensorflow_datasets, `tfrecord` or `array_record`.
      shards: number of records and their total bytes (without framing), for each shard.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.dataset_info import DatasetIdentity

    identity = DatasetIdentity(plan.name, tfds.core.Version(plan.version), str(folder), module_name="rlgen")
    info = tfds.core.DatasetInfo(builder=identity, features=features, description=plan.description)
    info.set_file_format(file_format)
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=plan.name, split=SPLIT, filetype_suffix=file_format
    )
    split = tfds.core.SplitInfo(
        name=SPLIT,
        shard_lengths=[records for records, _ in shards],
        num_bytes=sum(size for _, size in shards),
        filename_template=template,
    )
    info.set_splits(tfds.core.splits.SplitDict([split]))
    info.write_to_directory(folder)


class EpisodeSerializer:
    """A function from an episode to the bytes of its `tf.Example` record; equal episodes give equal bytes."""

    def __init__(self, size: int):
        """Takes the width and height of the images in pixels."""
        from tensorflow_datasets.core.example_serializer import ExampleSerializer

        self._serializer = ExampleSerializer(libero_features(size).get_serialized_info())

    def __call__(self, episode: DatasetEpisode) -> bytes:
        """Returns the record of an episode that was checked, with encoded images."""
        example = self._serializer.get_tf_example(_columns(episode))
        return example.SerializeToString(deterministic=True)


def _columns(episode: DatasetEpisode) -> dict[str, Any]:
    steps = len(episode)
    last = np.arange(steps) == steps - 1
    return {
        "steps": {
            "observation": {
                "image": episode.image.data,
                "wrist_image": episode.wrist_image.data,
                "state": episode.state,
                "joint_state": episode.joint_state,
            },
            "action": episode.action,
            "discount": np.ones(steps, np.float32),
            "reward": last.astype(np.float32),
            "is_first": np.arange(steps) == 0,
            "is_last": last,
            "is_terminal": last,
            "language_instruction": [episode.language_instruction] * steps,
        },
        "episode_metadata": {"file_path": episode.file_path},
    }
