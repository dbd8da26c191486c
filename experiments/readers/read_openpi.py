"""Converts RLDS to LeRobot 2.1 as openpi does and reads that: `python read_openpi.py DATASET OUT ...`.

The features, their names and the calls are those that openpi's converter makes of the lerobot that it pins.
"""

import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from lerobot.common.datasets.lerobot_dataset import LeRobotDataset

IMAGE = {"dtype": "image", "shape": (256, 256, 3), "names": ["height", "width", "channel"]}
FEATURES = {
    "image": IMAGE,
    "wrist_image": IMAGE,
    "state": {"dtype": "float32", "shape": (8,), "names": ["state"]},
    "actions": {"dtype": "float32", "shape": (7,), "names": ["actions"]},
}


def main(folder: str, out: str) -> None:
    """Converts, opens the result and goes through every frame."""
    root = Path(out).with_suffix(".lerobot")
    shutil.rmtree(root, ignore_errors=True)
    convert(folder, root)
    dataset = LeRobotDataset("somebody/dataset", root=root)
    items = [dataset[index] for index in range(len(dataset))]
    firsts = [item for item in items if int(item["frame_index"]) == 0]
    first = {
        f"first_{name}": np.stack([(item[name].numpy().transpose(1, 2, 0) * 255).round() for item in firsts])
        for name in ("image", "wrist_image")
    }
    np.savez(
        out,
        version=f"lerobot {version('lerobot')}, tensorflow_datasets {version('tensorflow-datasets')}",
        lengths=np.bincount([int(item["episode_index"]) for item in items]),
        prompts=[item["task"] for item in firsts],
        actions=np.stack([item["actions"].numpy() for item in items]),
        states=np.stack([item["state"].numpy() for item in items]),
        **{name: images.astype(np.uint8) for name, images in first.items()},
    )


def convert(folder: str, root: Path) -> None:
    """Writes the episodes of an RLDS dataset with lerobot."""
    dataset = LeRobotDataset.create(
        repo_id="somebody/dataset", root=root, robot_type="panda", fps=10, features=FEATURES, image_writer_threads=2
    )
    config = tfds.ReadConfig(interleave_cycle_length=1)
    builder = tfds.builder_from_directory(folder)
    for episode in builder.as_dataset(split="train", shuffle_files=False, read_config=config):
        for step in tfds.as_numpy(episode["steps"]):
            observation = step["observation"]
            frame = {name: observation[name] for name in ("image", "wrist_image", "state")}
            task = step["language_instruction"].decode()
            dataset.add_frame({**frame, "actions": step["action"], "task": task})
        dataset.save_episode()


if __name__ == "__main__":
    for given, written in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        main(given, written)
