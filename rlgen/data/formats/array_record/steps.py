"""The schema of one step, and its conversion to and from the bytes of a record.

It is the schema of RLDS (`rlgen.data.formats.rlds.schema`) with two indices added, so tensorflow_datasets opens such a
dataset as a data source of steps: `tfds.builder_from_directory(...).as_data_source(split="train")`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.rlds.schema import libero_features

if TYPE_CHECKING:
    from tensorflow_datasets.core.features import FeaturesDict

FILE_PATH, STEP_INDEX = "episode_metadata/file_path", "step_index"
CAMERAS = ("observation/image", "observation/wrist_image")


def step_features(size: int) -> FeaturesDict:
    """Returns the features of one step, with images of `size` pixels a side."""
    import tensorflow_datasets as tfds

    kinds = tfds.features
    of_episode = libero_features(size)
    step = dict(of_episode["steps"].feature)
    indices = {
        "episode_index": kinds.Scalar(dtype=np.int64, doc="Number of the episode in the dataset."),
        "step_index": kinds.Scalar(dtype=np.int64, doc="Number of the step in the episode."),
    }
    return kinds.FeaturesDict({**step, "episode_metadata": of_episode["episode_metadata"], **indices})


@dataclass(frozen=True)
class Step:
    """One step of an episode, as `DatasetEpisode` has T of them; images are encoded."""

    image: bytes
    wrist_image: bytes
    state: Float[np.ndarray, " 8"]
    joint_state: Float[np.ndarray, " 7"]
    action: Float[np.ndarray, " 7"]
    language_instruction: str
    file_path: str
    step_index: int


class StepSerializer:
    """A function from an episode to the records of its steps, each a `tf.Example`; equal steps give equal bytes."""

    def __init__(self, size: int):
        """Takes the width and height of the images in pixels."""
        from tensorflow_datasets.core.example_serializer import ExampleSerializer

        self._serializer = ExampleSerializer(step_features(size).get_serialized_info())

    def __call__(self, episode: DatasetEpisode, index: int) -> Iterator[bytes]:
        """Yields the records of an episode that was checked, with encoded images; `index` is its position."""
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
                "episode_index": np.int64(index),
                "step_index": np.int64(step),
            }
            yield self._serializer.get_tf_example(example).SerializeToString(deterministic=True)


class StepParser:
    """A function from a record to a `Step`, much faster than tensorflow_datasets' parser of nested features."""

    def __init__(self) -> None:
        from tensorflow_datasets.proto import tf_example_pb2

        self._example = tf_example_pb2.Example

    def is_first(self, record: bytes, where: str = "") -> bool:
        """Returns whether the step is the first of its episode; `where` is the beginning of an error's message."""
        with _named(where):
            return bool(self._features(record)["is_first"].int64_list.value[0])

    def images(self, record: bytes, episode: str, step: int, where: str = "") -> tuple[bytes, bytes]:
        """Returns the encoded images of both cameras.

        Args:
          record: of a step.
          episode: its name.
          step: its position in the episode.
          where: beginning of an error's message.

        Raises:
          UserError: the record is another one.
        """
        with _named(where):
            feature = self._features(record)
            found = (_text(feature, FILE_PATH), int(feature[STEP_INDEX].int64_list.value[0]))
            if found != (episode, step):
                raise UserError(
                    f"{where}: the record is step {found[1]} of {found[0]}, expected step {step}; export the dataset "
                    "again"
                )
            return _image(feature, CAMERAS[0]), _image(feature, CAMERAS[1])

    def __call__(self, record: bytes, where: str = "") -> Step:
        """Parses a record; `where` is the beginning of an error's message.

        Raises:
          UserError: it is no step.
        """
        with _named(where):
            feature = self._features(record)
            return Step(
                image=_image(feature, CAMERAS[0]),
                wrist_image=_image(feature, CAMERAS[1]),
                state=_floats(feature, "observation/state"),
                joint_state=_floats(feature, "observation/joint_state"),
                action=_floats(feature, "action"),
                language_instruction=_text(feature, "language_instruction"),
                file_path=_text(feature, FILE_PATH),
                step_index=int(feature[STEP_INDEX].int64_list.value[0]),
            )

    def _features(self, record: bytes) -> Any:
        return self._example.FromString(record).features.feature


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Turns the errors of a record that is no step into a `UserError`."""
    from google.protobuf.message import DecodeError

    try:
        yield
    except UserError:
        raise
    except (DecodeError, LookupError, ValueError) as error:
        raise UserError(f"{where}: a record that lacks features of a step; export the dataset again") from error


def _image(feature: Any, name: str) -> bytes:
    return feature[name].bytes_list.value[0]


def _text(feature: Any, name: str) -> str:
    return feature[name].bytes_list.value[0].decode()


def _floats(feature: Any, name: str) -> Float[np.ndarray, " D"]:
    return np.array(feature[name].float_list.value, np.float32)
