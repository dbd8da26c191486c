"""Loads a LeRobot dataset as lerobot does for its training: `python load_lerobot.py DATASET`, asked by `loading.py`."""

import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.utils.import_utils import get_safe_default_video_backend
from turns import BATCH, HORIZON, serve, timed_epochs

FOLDER = Path(sys.argv[1])
CAMERAS = {"image": "observation.images.image", "wrist_image": "observation.images.image2"}


def loader(workers: int, backend: str | None) -> torch.utils.data.DataLoader:
    """Opens the dataset with the options of lerobot's training, but for processes that are forked.

    Its training starts them anew (`spawn`), which takes seconds more.
    """
    fps = json.loads((FOLDER / "meta/info.json").read_text())["fps"]
    dataset = LeRobotDataset(
        "somebody/dataset",
        root=FOLDER,
        delta_timestamps={"action": [step / fps for step in range(HORIZON)]},
        video_backend=backend,
        return_uint8=True,
    )
    options = {"prefetch_factor": 4, "persistent_workers": True, "multiprocessing_context": "fork"}
    return torch.utils.data.DataLoader(
        dataset, BATCH, shuffle=True, num_workers=workers, **(options if workers else {})
    )


def batches(batches: torch.utils.data.DataLoader) -> Iterator[int]:
    """Yields the number of frames of each batch of an epoch."""
    for batch in batches:
        yield len(batch[CAMERAS["image"]])


def answer(kind: str, workers: int = 0, backend: str | None = None, epochs: int = 1) -> dict[str, Any]:
    """Answers a request: `load`, `content` or `versions`."""
    if kind == "versions":
        names = ("lerobot", "torch", "torchcodec", "av", "datasets")
        python = ".".join(map(str, sys.version_info[:3]))
        default = get_safe_default_video_backend()
        return {"python": python, **{name: version(name) for name in names}, "default backend": default}
    if kind == "content":
        return content(loader(workers, backend))
    return timed_epochs(lambda: [batches(opened) for opened in [loader(workers, backend)] * epochs])


def content(batches: torch.utils.data.DataLoader) -> dict[str, float]:
    """Returns means over all that an epoch gives, whatever its order."""
    sums, frames = dict.fromkeys((*CAMERAS, "state", "action_chunks"), 0.0), 0
    for batch in batches:
        frames += len(batch["action"])
        for name, key in {**CAMERAS, "state": "observation.state", "action_chunks": "action"}.items():
            sums[name] += float(batch[key].double().flatten(1).mean(1).sum())
    return {"frames": frames, **{name: value / frames for name, value in sums.items()}}


if __name__ == "__main__":
    serve(answer)
