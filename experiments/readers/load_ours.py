"""Loads a LeRobot dataset as this project's VLA is trained: `python load_ours.py DATASET`, asked by `loading.py`."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from turns import BATCH, HORIZON, serve, timed_epochs

from rlgen.data.dataset import open_dataset
from rlgen.data.frames import DECODED_BYTES, frames_from_episodes, read_frames
from rlgen.data.loader import Loader, LoaderOptions

FOLDER = Path(sys.argv[1])


def epochs_of(decoded_bytes: int, count: int) -> list[Iterator[int]]:
    """Opens the dataset; returns the numbers of frames of the batches of each epoch.

    Args:
      decoded_bytes: images are kept decoded up to this size.
      count: number of epochs.
    """
    frames = frames_from_episodes(list(open_dataset(FOLDER)), most=decoded_bytes)
    batches = -(-len(frames.table) // BATCH)
    options = LoaderOptions(BATCH, HORIZON, steps=count * batches, workers=os.cpu_count() or 1, ahead=4)
    loader = Loader(frames, options)
    return [(len(next(loader)["image"]) for _ in range(batches)) for _ in range(count)]


def answer(kind: str, epochs: int = 1, decoded: bool = True) -> dict[str, Any]:
    """Answers a request: `load` or `content`."""
    decoded_bytes = DECODED_BYTES if decoded else 0
    if kind == "content":
        return content(decoded_bytes)
    return timed_epochs(lambda: epochs_of(decoded_bytes, epochs))


def content(decoded_bytes: int) -> dict[str, float]:
    """Returns means over all frames, as `load_lerobot.py` does."""
    frames = frames_from_episodes(list(open_dataset(FOLDER)), most=decoded_bytes)
    means: dict[str, list[np.ndarray]] = {name: [] for name in ("image", "wrist_image", "state", "action_chunks")}
    for start in range(0, len(frames.table), BATCH):
        batch = read_frames(frames, np.arange(start, min(start + BATCH, len(frames.table))), HORIZON)
        for name, values in means.items():
            values.append(batch[name].reshape(len(batch[name]), -1).mean(1, dtype=np.float64))
    return {"frames": len(frames.table), **{name: float(np.concatenate(parts).mean()) for name, parts in means.items()}}


if __name__ == "__main__":
    serve(answer)
