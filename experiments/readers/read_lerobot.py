"""Reads a LeRobot dataset with lerobot itself: `python read_lerobot.py BACKEND DATASET OUT ...`."""

import sys
from importlib.metadata import version

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

CAMERAS = {"first_image": "observation.images.image", "first_wrist_image": "observation.images.image2"}


def main(folder: str, backend: str, out: str) -> None:
    """Goes through every frame, images too."""
    dataset = LeRobotDataset("somebody/dataset", root=folder, video_backend=backend)
    lengths = [0] * dataset.num_episodes
    columns, prompts, first = {"actions": [], "states": []}, {}, {name: [] for name in CAMERAS}
    for index in range(len(dataset)):
        item = dataset[index]
        episode = int(item["episode_index"])
        columns["actions"].append(item["action"].numpy())
        columns["states"].append(item["observation.state"].numpy())
        prompts.setdefault(episode, item["task"])
        if lengths[episode] == 0:
            for name, key in CAMERAS.items():
                first[name].append((item[key].numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8))
        lengths[episode] += 1
    arrays = {name: np.stack(values) for name, values in {**columns, **first}.items()}
    texts = [prompts[episode] for episode in range(len(lengths))]
    np.savez(out, version=f"lerobot {version('lerobot')}", lengths=lengths, prompts=texts, **arrays)


if __name__ == "__main__":
    for given, written in zip(sys.argv[2::2], sys.argv[3::2], strict=True):
        main(given, sys.argv[1], written)
