"""Reads LeRobot 2.1 as openpi's loader does: `python read_lerobot_v21.py DATASET OUT ...`.

With lerobot 0.3.x, or with the commit that openpi pins, whose modules are elsewhere. Actions are asked for as chunks of
`HORIZON`, by times, and the prompt is looked up by the index of the task. Cameras and columns have openpi's names, or
LeRobot's own.
"""

import sys
from importlib.metadata import version

import numpy as np

try:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset, LeRobotDatasetMetadata
except ImportError:
    from lerobot.common.datasets.lerobot_dataset import LeRobotDataset, LeRobotDatasetMetadata

HORIZON = 3
NAMES = {
    "image": "observation.images.image",
    "wrist_image": "observation.images.image2",
    "state": "observation.state",
    "actions": "action",
}


def main(folder: str, out: str) -> None:
    """Goes through every frame, images too."""
    described = LeRobotDatasetMetadata("somebody/dataset", root=folder)
    names = {name: name if name in described.features else other for name, other in NAMES.items()}
    times = [step / described.fps for step in range(HORIZON)]
    dataset = LeRobotDataset("somebody/dataset", root=folder, delta_timestamps={names["actions"]: times})
    items = [dataset[index] for index in range(len(dataset))]
    chunks = np.stack([item[names["actions"]].numpy() for item in items])
    ends = dataset.episode_data_index["to"].numpy()
    for index, item in enumerate(items):
        rows = np.minimum(index + np.arange(HORIZON), ends[int(item["episode_index"])] - 1)
        if not np.array_equal(chunks[index], chunks[rows, 0]):
            raise ValueError(f"the chunk of frame {index} is not that of the actions of its episode")
    firsts = [item for item in items if int(item["frame_index"]) == 0]
    first = {
        f"first_{name}": np.stack([(item[names[name]].numpy().transpose(1, 2, 0) * 255).round() for item in firsts])
        for name in ("image", "wrist_image")
    }
    np.savez(
        out,
        version=f"lerobot {version('lerobot')}",
        lengths=np.bincount([int(item["episode_index"]) for item in items]),
        prompts=[described.tasks[int(item["task_index"])] for item in firsts],
        actions=chunks[:, 0],
        states=np.stack([item[names["state"]].numpy() for item in items]),
        statistics_mean=described.stats[names["actions"]]["mean"],
        **{name: images.astype(np.uint8) for name, images in first.items()},
    )


if __name__ == "__main__":
    for given, written in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        main(given, written)
