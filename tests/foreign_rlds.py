"""RLDS datasets as somebody else writes them, to be changed before they are written.

dataset = Foreign()
dataset.records[1]["steps/action"][3, 2] = np.nan
folder = dataset.write(tmp_path)
"""

import json
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rlgen.data.formats.rlds.tfrecord import frame

NAME, PROMPT, SIDE, STEPS = "libero_object_no_noops", "pick up the butter", 8, 5
CLASSES = "tensorflow_datasets.core.features"


def node(kind: str, **content: Any) -> dict[str, Any]:
    """Returns a feature as `features.json` has it; `kind` is its module and class."""
    return {"pythonClassName": f"{CLASSES}.{kind}", **content}


def shape(*sizes: int | None) -> dict[str, list[str]]:
    return {"dimensions": ["-1" if size is None else str(size) for size in sizes]}


def image(height: int | None, width: int | None) -> dict[str, Any]:
    content = {"shape": shape(height, width, 3), "dtype": "uint8", "encodingFormat": "png"}
    return node("image_feature.Image", image=content)


def vector(width: int) -> dict[str, Any]:
    return node("tensor_feature.Tensor", tensor={"shape": shape(width), "dtype": "float32", "encoding": "none"})


def text() -> dict[str, Any]:
    return node("text_feature.Text", text={})


def nested(**features: Any) -> dict[str, Any]:
    return node("features_dict.FeaturesDict", featuresDict={"features": features})


def png(seed: int, side: int = SIDE) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return cv2.imencode(".png", noise)[1].tobytes()


def claiming_jpeg(side: int) -> bytes:
    """Returns a small JPEG whose header says that it has `side` pixels along each side."""
    data = bytearray(cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", side, side)
    return bytes(data)


def claiming_png(side: int) -> bytes:
    """Returns a PNG without rows whose header says that it has `side` pixels along each side."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def record(index: int, steps: int, action: int, state: int) -> dict[str, Any]:
    random = np.random.default_rng(index)
    actions = random.uniform(-0.9, 0.9, (steps, action)).astype(np.float32)
    actions[:, -1] = 1
    return {
        "steps/observation/image": [png(100 * index + step) for step in range(steps)],
        "steps/observation/wrist_image": [png(100 * index + step + 50) for step in range(steps)],
        "steps/observation/state": random.normal(size=(steps, state)).astype(np.float32),
        "steps/observation/joint_state": random.normal(size=(steps, 7)).astype(np.float32),
        "steps/action": actions,
        "steps/is_first": np.arange(steps) == 0,
        "steps/language_instruction": [PROMPT.encode()] * steps,
        "episode_metadata/file_path": [f"somewhere/{index}".encode()],
    }


@dataclass
class Foreign:
    """A dataset of noise.

    Attributes:
      action: width of an action.
      state: width of a state.
      split: name of its split.
      records: of its episodes, by the path of each feature.
      step: features of a step.
      observation: features of an observation.
      info: `dataset_info.json` without the splits.
    """

    action: int = 7
    state: int = 8
    split: str = "train"
    records: list[dict[str, Any]] = field(default_factory=list)
    step: dict[str, Any] = field(default_factory=dict)
    observation: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=lambda: {"episode_metadata": nested(file_path=text())})
    info: dict[str, Any] = field(default_factory=lambda: {"name": NAME, "version": "1.0.0", "fileFormat": "tfrecord"})

    def __post_init__(self) -> None:
        self.records = [record(index, STEPS, self.action, self.state) for index in range(3)]
        self.observation = {name: image(SIDE, SIDE) for name in ("image", "wrist_image")}
        self.observation |= {"state": vector(self.state), "joint_state": vector(7)}
        self.step = {"action": vector(self.action), "language_instruction": text()}

    def drop(self, path: str) -> None:
        """Removes a feature from records and features."""
        name = path.rpartition("/")[2]
        for part in (self.step, self.observation, self.metadata):
            part.pop(name, None)
        for each in self.records:
            each.pop(path)

    def write(self, folder: Path) -> Path:
        """Writes the dataset below a folder and returns its own."""
        at = folder / NAME / "1.0.0"
        at.mkdir(parents=True)
        file = f"{NAME}-{self.split}.tfrecord-00000-of-00001"
        with open(at / file, "wb") as out:
            for values in self.records:
                data = example(values)
                header, footer = frame(data)
                out.write(header + data + footer)
        split = {"name": self.split, "shardLengths": [str(len(self.records))], "numBytes": "1"}
        info = {**self.info, "splits": [{**split, **self.info.get("split", {})}]}
        (at / "dataset_info.json").write_text(json.dumps(info))
        steps = nested(observation=nested(**self.observation), **self.step)
        dataset = node("dataset_feature.Dataset", sequence={"feature": steps, "length": "-1"})
        (at / "features.json").write_text(json.dumps(nested(steps=dataset, **self.metadata)))
        return at


def example(values: dict[str, Any]) -> bytes:
    """Returns the bytes of a `tf.Example`."""
    from tensorflow_datasets.proto import tf_example_pb2

    message = tf_example_pb2.Example()
    for path, value in values.items():
        feature = message.features.feature[path]
        if isinstance(value, list):
            feature.bytes_list.value.extend(value)
        elif value.dtype.kind == "f":
            feature.float_list.value.extend(value.ravel().tolist())
        else:
            feature.int64_list.value.extend(value.ravel().astype(int).tolist())
    return message.SerializeToString(deterministic=True)
