"""TensorFlow's side of `rlgen bench dataset`: tensorflow_datasets' own writer, and a tf.data pipeline over it.

The pipeline does what Octo's and OpenVLA's loaders do, each step where they have it: images stay encoded until chunks
are cut and frames shuffled, are then decoded and resized by several threads, and batched. This is the only module that
imports TensorFlow, and it does so only where it is used.
"""

import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlgen.core.errors import missing_extra
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.rlds.schema import libero_features

SHUFFLE_BUFFER = 1000  # frames
METHODS = {"linear": "bilinear", "lanczos3": "lanczos3"}


def check_tensorflow() -> None:
    """Raises a `UserError` that names the extra if TensorFlow is not installed."""
    if importlib.util.find_spec("tensorflow") is None:
        raise missing_extra("TensorFlow", "tensorflow", "tensorflow-cpu", "leave the comparison with it out")


class TensorFlow:
    """The other side: writes with a `GeneratorBasedBuilder`, and loads with tf.data."""

    def __init__(self, folder: Path, setup: dict[str, Any], episodes: Sequence[DatasetEpisode]):
        """Makes the side.

        Args:
          folder: of its datasets.
          setup: as `rlgen.bench.dataset.SETUP`.
          episodes: to write.

        Raises:
          UserError: TensorFlow is not installed.
        """
        check_tensorflow()
        self._folder, self._setup = folder, setup
        self._builder = make_builder(episodes, setup["size"])  # its name can be registered only once
        self._pipelines: dict[str, Any] = {}

    def prepare(self) -> None:
        """Writes the dataset that is loaded from."""
        self._build(self._folder / "load")

    def write(self) -> int:
        """Writes the dataset anew, and returns the number of steps."""
        shutil.rmtree(self._folder / "written", ignore_errors=True)
        self._build(self._folder / "written")
        return self._setup["episodes"] * self._setup["steps"]

    def load(self, kind: str) -> int:
        """Loads the batches of one repetition, and returns the number of frames.

        Args:
          kind: as of `Side.load`; `plain` decodes as tensorflow_datasets does by itself.
        """
        if kind not in self._pipelines:
            self._pipelines.clear()  # one at a time: their threads and buffers would stay
            self._pipelines[kind] = iter(self._pipeline(kind))
            for _ in range(self._setup["epoch"] if kind.endswith("cached") else 2):
                next(self._pipelines[kind])
        for _ in range(self._setup["batches"]):
            batch = next(self._pipelines[kind])
        return self._setup["batches"] * int(batch["state"].shape[0])

    def _build(self, folder: Path) -> None:
        self._builder(data_dir=str(folder)).download_and_prepare()

    def _pipeline(self, kind: str) -> Any:
        import tensorflow as tf
        import tensorflow_datasets as tfds

        setup = self._setup
        builder = tfds.builder_from_directory(next((self._folder / "load").glob("*/1.0.0")))
        late = {"image": tfds.decode.SkipDecoding(), "wrist_image": tfds.decode.SkipDecoding()}
        decoders = None if kind.startswith("plain") else {"steps": {"observation": late}}
        method = METHODS["lanczos3" if "lanczos3" in kind else "linear"]
        data = builder.as_dataset(split="train", decoders=decoders, shuffle_files=True)
        data = data.map(lambda episode: _frames(episode, setup["horizon"]), tf.data.AUTOTUNE).unbatch()

        def images(frame: dict[str, Any]) -> dict[str, Any]:
            return {
                **frame,
                **{name: _image(frame[name], setup["resized"], method) for name in ("image", "wrist_image")},
            }

        if kind.endswith("cached"):
            data = data.map(images, tf.data.AUTOTUNE).cache().repeat().shuffle(SHUFFLE_BUFFER, seed=0)
        else:
            data = data.repeat().shuffle(SHUFFLE_BUFFER, seed=0).map(images, tf.data.AUTOTUNE)
        return data.batch(setup["batch"], drop_remainder=True).prefetch(4)


def _frames(episode: dict[str, Any], horizon: int) -> dict[str, Any]:
    """Returns the frames of an episode, each with the chunk of actions from there on."""
    import tensorflow as tf

    steps = episode["steps"].batch(100_000).get_single_element()
    action = steps["action"]
    count = tf.shape(action)[0]
    index = tf.range(count)[:, None] + tf.range(horizon)[None]
    observation = steps["observation"]
    return {
        "image": observation["image"],
        "wrist_image": observation["wrist_image"],
        "state": observation["state"],
        "action_chunks": tf.gather(action, tf.minimum(index, count - 1)),
        "chunk_mask": index < count,
        "prompt": steps["language_instruction"],
    }


def _image(image: Any, size: int, method: str) -> Any:
    import tensorflow as tf

    if image.dtype == tf.string:
        image = tf.io.decode_jpeg(image, channels=3)
    resized = tf.image.resize(image, (size, size), method, antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)


def make_builder(episodes: Sequence[DatasetEpisode], size: int) -> type:
    """Returns a builder of these episodes with images of `size` pixels, as the community writes one."""
    import tensorflow_datasets as tfds

    class BenchNoNoops(tfds.core.GeneratorBasedBuilder):
        """Episodes that are already in memory."""

        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = Path(os.devnull).parent

        def _info(self) -> Any:
            return self.dataset_info_from_configs(features=libero_features(size))

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for index, episode in enumerate(episodes):
                yield str(index), _example(episode)

    return BenchNoNoops


def _example(episode: DatasetEpisode) -> dict[str, Any]:
    last = len(episode) - 1
    steps = [
        {
            "observation": {
                "image": episode.image[step],
                "wrist_image": episode.wrist_image[step],
                "state": episode.state[step],
                "joint_state": episode.joint_state[step],
            },
            "action": episode.action[step],
            "discount": 1.0,
            "reward": float(step == last),
            "is_first": step == 0,
            "is_last": step == last,
            "is_terminal": step == last,
            "language_instruction": episode.language_instruction,
        }
        for step in range(len(episode))
    ]
    return {"steps": steps, "episode_metadata": {"file_path": episode.file_path}}
