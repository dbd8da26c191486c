"""The schema of datasets with a record for every step: what random access over frames needs.

tensorflow_datasets opens it as a data source of steps (`tfds.builder_from_directory(...).as_data_source`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.rlds.schema import SPLIT, libero_features, write_description

if TYPE_CHECKING:
    from tensorflow_datasets.core.features import FeaturesDict


def step_features(size: int) -> FeaturesDict:
    """The features of one step: those of RLDS, and which step of which episode it is."""
    import tensorflow_datasets as tfds

    kinds = tfds.features
    of_episode = libero_features(size)
    step = dict(of_episode["steps"].feature)
    place = {
        "episode_index": kinds.Scalar(dtype=np.int64, doc="Number of the episode in the dataset."),
        "step_index": kinds.Scalar(dtype=np.int64, doc="Number of the step in the episode."),
    }
    return kinds.FeaturesDict({**step, "episode_metadata": of_episode["episode_metadata"], **place})


def write_step_info(
    directory: Path, name: str, version: str, size: int, description: str, shards: Sequence[tuple[int, int]]
) -> None:
    """Writes `features.json` and `dataset_info.json`; `shards` are steps and bytes of each."""
    write_description(directory, name, version, step_features(size), "array_record", description, shards)


def step_shard_name(name: str, index: int, count: int) -> str:
    """File name of shard `index` of `count`."""
    return f"{name}-{SPLIT}.array_record-{index:05d}-of-{count:05d}"


@dataclass(frozen=True)
class Step:
    """One step; pictures encoded."""

    image: bytes
    wrist_image: bytes
    state: Float[np.ndarray, " 8"]
    joint_state: Float[np.ndarray, " 7"]
    action: Float[np.ndarray, " 7"]
    language_instruction: str
    file_path: str


class StepSerializer:
    """Turns an episode into the bytes of its steps, `tf.Example` each; equal steps give equal bytes."""

    def __init__(self, size: int):
        """Pictures are `size` pixels a side."""
        from tensorflow_datasets.core.example_serializer import ExampleSerializer

        self._serializer = ExampleSerializer(step_features(size).get_serialized_info())

    def __call__(self, episode: DatasetEpisode, number: int) -> Iterator[bytes]:
        """The records of an episode that was checked, with its pictures encoded."""
        last = len(episode) - 1
        for step in range(len(episode)):
            example = {
                "observation": {
                    "image": episode.image.data[step],
                    "wrist_image": episode.wrist_image.data[step],
                    "state": episode.state[step],
                    "joint_state": episode.joint_state[step],
                },
                "action": episode.action[step],
                "discount": np.float32(1),
                "reward": np.float32(step == last),
                "is_first": np.bool_(step == 0),
                "is_last": np.bool_(step == last),
                "is_terminal": np.bool_(step == last),
                "language_instruction": episode.language_instruction,
                "episode_metadata": {"file_path": episode.file_path},
                "episode_index": np.int64(number),
                "step_index": np.int64(step),
            }
            yield self._serializer.get_tf_example(example).SerializeToString(deterministic=True)


class StepParser:
    """Reads records by their own names, without tensorflow_datasets' parser of nested features."""

    def __init__(self) -> None:
        from tensorflow_datasets.proto import tf_example_pb2

        self._example = tf_example_pb2.Example

    def is_first(self, record: bytes) -> bool:
        """Whether an episode begins with this step."""
        return bool(self._example.FromString(record).features.feature["is_first"].int64_list.value[0])

    def images(self, record: bytes, where: str = "") -> tuple[bytes, bytes]:
        """The encoded pictures of both cameras."""
        feature = self._features(record, where)
        names = ("observation/image", "observation/wrist_image")
        return tuple(feature[name].bytes_list.value[0] for name in names)  # type: ignore[return-value]

    def __call__(self, record: bytes, where: str = "") -> Step:
        feature = self._features(record, where)

        def text(name: str) -> str:
            return feature[name].bytes_list.value[0].decode()

        def numbers(name: str) -> np.ndarray:
            return np.array(feature[name].float_list.value, np.float32)

        try:
            return Step(
                image=feature["observation/image"].bytes_list.value[0],
                wrist_image=feature["observation/wrist_image"].bytes_list.value[0],
                state=numbers("observation/state"),
                joint_state=numbers("observation/joint_state"),
                action=numbers("action"),
                language_instruction=text("language_instruction"),
                file_path=text("episode_metadata/file_path"),
            )
        except IndexError as error:
            raise UserError(f"{where}: a record that lacks features of a step; export the dataset again") from error

    def _features(self, record: bytes, where: str):
        from google.protobuf.message import DecodeError

        try:
            return self._example.FromString(record).features.feature
        except DecodeError as error:
            raise UserError(f"{where}: a record that is no step; export the dataset again") from error
