"""Reads an RLDS or array_record dataset with tensorflow_datasets: `python read_tfds.py DATASET OUT ...`."""

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds


def main(folder: str, out: str) -> None:
    """Reads the steps of all episodes, in order."""
    builder = tfds.builder_from_directory(folder)
    if any(Path(folder).glob("*.array_record*")):
        steps = list(builder.as_data_source(split="train"))
    else:
        config = tfds.ReadConfig(interleave_cycle_length=1)  # shard after shard
        dataset = builder.as_dataset(split="train", shuffle_files=False, read_config=config)
        steps = [step for episode in dataset for step in tfds.as_numpy(episode["steps"])]
    starts = [index for index, step in enumerate(steps) if step["is_first"]]
    first = {
        f"first_{name}": np.stack([steps[start]["observation"][name] for start in starts])
        for name in ("image", "wrist_image")
    }
    np.savez(
        out,
        version=f"tensorflow_datasets {version('tensorflow-datasets')}, tensorflow {version('tensorflow-cpu')}",
        lengths=np.diff([*starts, len(steps)]),
        prompts=[steps[start]["language_instruction"].decode() for start in starts],
        actions=np.stack([step["action"] for step in steps]),
        states=np.stack([step["observation"]["state"] for step in steps]),
        **first,
    )


if __name__ == "__main__":
    for given, written in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        main(given, written)
