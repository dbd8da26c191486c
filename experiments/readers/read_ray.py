"""Reads a LeRobot dataset with Ray Data: `python read_ray.py DATASET OUT ...`."""

import sys
from importlib.metadata import version

import numpy as np
import ray

CAMERAS = {"first_image": "observation.images.image", "first_wrist_image": "observation.images.image2"}


def main(folder: str, out: str) -> None:
    """Takes all rows, and sorts them, for they come in any order."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    rows = sorted(ray.data.read_lerobot(folder).take_all(), key=lambda row: int(row["index"]))
    firsts = [row for row in rows if int(row["frame_index"]) == 0]
    first = {name: np.stack([image(row[key]) for row in firsts]) for name, key in CAMERAS.items()}
    lengths = np.bincount([int(row["episode_index"]) for row in rows])
    columns = {"actions": "action", "states": "observation.state"}
    arrays = {name: np.stack([np.asarray(row[key]) for row in rows]) for name, key in columns.items()}
    prompts = [row["task"] for row in firsts]
    np.savez(out, version=f"ray {version('ray')}", lengths=lengths, prompts=prompts, **arrays, **first)


def image(value: np.ndarray) -> np.ndarray:
    """Returns an image with the channels last."""
    value = np.asarray(value)
    return value.transpose(1, 2, 0) if value.shape[0] == 3 else value


if __name__ == "__main__":
    for given, written in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        main(given, written)
