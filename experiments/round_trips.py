"""Every format into every other one: what is equal afterwards, and how near the images of videos are.

Command:  uv run --extra video python experiments/round_trips.py DATASET [--json FILE]
Cost:     four minutes for two episodes of 256².
Expected: numbers, prompts and names equal in all; images the same bytes between formats that keep them encoded; where
          they are encoded anew (out of HDF5, into and out of a video) some 35 dB and more.

DATASET is an HDF5 export, which alone can become all the others (`rlgen data export RUN --format hdf5`). It is merged
into each format, each of these into each format that needs no physics states.
"""

import argparse
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.core.files import write_json
from rlgen.curation.merge import MergeOptions, merge_datasets
from rlgen.curation.selection import SelectionRule
from rlgen.data.dataset import ENCODED_FORMATS, VIDEO_FORMATS, open_dataset

TARGETS = (*ENCODED_FORMATS, *VIDEO_FORMATS)
NUMBERS = ("state", "joint_state", "action")
TEXTS = ("language_instruction", "file_path")
CAMERAS = ("image", "wrist_image")
RESULT = Path(__file__).resolve().parent / "results" / "dataset" / "trips.json"


def main() -> None:
    """Merges, compares and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_json(arguments.json, round_trips(arguments.dataset, Path(folder)))


def round_trips(dataset: Path, folder: Path, targets: Sequence[str] = TARGETS) -> dict[str, Any]:
    """Returns what is equal and how near images are, by `source to target`.

    Args:
      dataset: an HDF5 export.
      folder: for everything that is written.
      targets: formats that it becomes, each of which becomes each other one.
    """
    made = {"hdf5": dataset} | {target: merged(dataset, folder / target, target) for target in targets}
    trips = {f"hdf5 to {target}": compared(dataset, made[target]) for target in targets}
    for source, target in product(targets, targets):
        if source != target:
            then = merged(made[source], folder / f"{source}-{target}", target)
            trips[f"{source} to {target}"] = compared(made[source], then)
    episodes = open_dataset(dataset)
    size = int(np.asarray(episodes[0].image[0]).shape[0])
    return {"episodes": len(episodes), "steps": sum(len(one) for one in episodes), "image_size": size, "trips": trips}


def merged(dataset: Path, out: Path, target: str) -> Path:
    """Merges a dataset into another format, and returns the folder of the result."""
    options = MergeOptions(out, formats=(target,), shards=1, selection=SelectionRule(duplicates=True))
    [made] = merge_datasets([dataset], options, lambda *_: None)
    return made


def compared(before: Path, after: Path) -> dict[str, Any]:
    """Returns whether numbers, texts and images of two datasets are equal, and the images' PSNR where they are not."""
    pairs = list(zip(open_dataset(before), open_dataset(after), strict=True))
    images = [(getattr(one, camera), getattr(other, camera)) for one, other in pairs for camera in CAMERAS]
    result = {
        "numbers": all(
            np.array_equal(getattr(one, name), getattr(other, name)) for one, other in pairs for name in NUMBERS
        ),
        "texts": all(getattr(one, name) == getattr(other, name) for one, other in pairs for name in TEXTS),
        "bytes": all(_encoded(one) is not None and _encoded(one) == _encoded(other) for one, other in images),
    }
    pixels = [(np.asarray(one[:]), np.asarray(other[:])) for one, other in images]
    result["pixels"] = all(np.array_equal(one, other) for one, other in pixels)
    return result if result["pixels"] else result | {"psnr_db": round(min(psnr(*pair) for pair in pixels), 2)}


def _encoded(images: Any) -> list[bytes] | None:
    """Returns encoded images; None where a format has pixels or a video."""
    data = getattr(images, "data", None)
    return list(data) if isinstance(data, list | tuple) else None


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the peak signal-to-noise ratio of the images of an episode, dB."""
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


if __name__ == "__main__":
    main()
