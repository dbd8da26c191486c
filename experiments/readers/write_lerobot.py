"""Writes episodes with lerobot itself, and reads them: `python write_lerobot.py EPISODES DATASET video|image OUT`."""

import sys

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from read_lerobot import CAMERAS
from read_lerobot import main as read

NAMES = ["x", "y", "z", "axis_angle1", "axis_angle2", "axis_angle3", "gripper"]


def main(episodes: str, folder: str, kind: str, out: str) -> None:
    """Writes every episode with its images, then reads what was written."""
    with np.load(episodes) as stored:
        given = dict(stored)
    size = given["image"].shape[1]
    image = {"dtype": kind, "shape": (size, size, 3), "names": ["height", "width", "channels"]}
    features = {
        **dict.fromkeys(CAMERAS.values(), image),
        "observation.state": {"dtype": "float32", "shape": (8,), "names": [*NAMES, "gripper2"]},
        "action": {"dtype": "float32", "shape": (7,), "names": NAMES},
    }
    dataset = LeRobotDataset.create(
        "somebody/dataset", fps=20, features=features, root=folder, robot_type="panda", use_videos=kind == "video"
    )
    step = 0
    for length, prompt in zip(given["lengths"], given["prompts"], strict=True):
        for _ in range(length):
            images = dict(zip(CAMERAS.values(), (given["image"][step], given["wrist_image"][step]), strict=True))
            numbers = {"observation.state": given["states"][step], "action": given["actions"][step]}
            dataset.add_frame({**images, **numbers, "task": str(prompt)})
            step += 1
        dataset.save_episode()
    dataset.finalize()
    read(folder, "pyav", out)


if __name__ == "__main__":
    main(*sys.argv[1:])
