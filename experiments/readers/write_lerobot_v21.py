"""Writes episodes as LeRobot 2.1 with lerobot 0.3.x: `python write_lerobot_v21.py EPISODES DATASET video|image OUT`."""

import sys

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from read_lerobot_v21 import NAMES
from read_lerobot_v21 import main as read

WIDTHS = {"state": 8, "actions": 7}


def main(episodes: str, folder: str, kind: str, out: str) -> None:
    """Writes every episode with its images, with LeRobot's names where they are videos, then reads what was written."""
    with np.load(episodes) as stored:
        given = dict(stored)
    names = NAMES if kind == "video" else dict(zip(NAMES, NAMES, strict=True))
    columns = {names[name]: given[{"state": "states"}.get(name, name)] for name in NAMES}
    size = given["image"].shape[1]
    image = {"dtype": kind, "shape": (size, size, 3), "names": ["height", "width", "channel"]}
    features = {names[name]: image for name in ("image", "wrist_image")}
    features |= {
        names[name]: {"dtype": "float32", "shape": (width,), "names": [name]} for name, width in WIDTHS.items()
    }
    dataset = LeRobotDataset.create("somebody/dataset", fps=20, features=features, root=folder, robot_type="panda")
    step = 0
    for length, prompt in zip(given["lengths"], given["prompts"], strict=True):
        for _ in range(length):
            dataset.add_frame({name: column[step] for name, column in columns.items()}, task=str(prompt))
            step += 1
        dataset.save_episode()
    read(folder, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
