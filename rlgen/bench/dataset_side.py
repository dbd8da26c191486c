"""One side of `rlgen bench dataset`, ours or TensorFlow's, in a process of its own.

`python -m rlgen.bench.dataset_side SIDE FOLDER SETUP` answers requests: each line on standard input is a JSON list of
a method of `Side` and its arguments, each line on standard output how long it took. Each side has its own process,
because the memory of both is reported, and because TensorFlow takes threads and memory for itself.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TextIO

import cv2
import numpy as np
from jaxtyping import UInt8

from rlgen.core.process import end_with_parent
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.array_record.format import ArrayRecordFormat
from rlgen.data.formats.rlds.format import RldsFormat
from rlgen.data.frames import RecordFrames
from rlgen.data.loader import Loader, LoaderOptions
from rlgen.data.writer import Format, split_evenly, write_dataset

PROMPTS = ("put the bowl on the plate", "open the top drawer", "turn on the stove")
NAME = "bench_no_noops"


def synthetic_episodes(count: int, steps: int, image_size: int) -> Iterator[DatasetEpisode]:
    """Yields episodes whose images have edges, gradients and a little noise, so that JPEG has its usual work.

    Args:
      count: number of episodes.
      steps: of each.
      image_size: height and width of the images of both cameras, pixels.
    """
    for index in range(count):
        random = np.random.default_rng(index)
        images = [_moving_camera(random, steps, image_size) for _ in range(2)]
        action = random.uniform(-1, 1, (steps, 7)).astype(np.float32)
        action[:, 6] = np.where(np.arange(steps) < steps // 2, -1, 1)
        state, joints = random.normal(size=(steps, 8)), random.normal(size=(steps, 7))
        yield DatasetEpisode(
            *images,
            state.astype(np.float32),
            joints.astype(np.float32),
            action,
            PROMPTS[index % len(PROMPTS)],
            f"bench/{index}",
        )


def _moving_camera(random: np.random.Generator, steps: int, size: int) -> UInt8[np.ndarray, "T h w 3"]:
    """Returns images of a camera that moves along a scene of colored boxes over a gradient."""
    wide = 2 * size
    rows, columns = np.mgrid[0:size, 0:wide]
    scene = np.stack([rows * 120 / size + 60, columns * 90 / wide + 70, (rows + columns) * 40 / wide + 90], axis=2)
    scene = np.ascontiguousarray(scene.astype(np.uint8))
    for _ in range(24):
        corner = random.integers(0, (wide, size))
        side = random.integers(size // 16, size // 4, 2)
        color = tuple(int(value) for value in random.integers(20, 236, 3))
        cv2.rectangle(scene, corner.tolist(), (corner + side).tolist(), color, -1)
    scene = np.clip(scene + random.normal(0, 2, scene.shape), 0, 255).astype(np.uint8)
    starts = np.linspace(0, size - 1, steps).astype(int)
    return np.stack([scene[:, start : start + size] for start in starts])


class Side(Protocol):
    """One side of the comparison."""

    def prepare(self) -> None:
        """Writes the dataset that is loaded from."""

    def write(self) -> int:
        """Writes the dataset anew, and returns the number of steps."""

    def load(self, kind: str) -> int:
        """Loads the batches of one repetition, and returns the number of frames.

        Args:
          kind: how: `lanczos3` and `linear` decode and resize every frame, with `_cached` decoded images are kept.
        """


class Ours:
    """Our side: writes RLDS, and loads from array_record."""

    def __init__(self, folder: Path, setup: dict[str, Any], episodes: Sequence[DatasetEpisode]):
        """Makes the side.

        Args:
          folder: of its datasets.
          setup: as `rlgen.bench.dataset.SETUP`.
          episodes: to write.
        """
        self._folder, self._setup, self._episodes = folder, setup, episodes
        self._loaders: dict[str, Loader] = {}

    def prepare(self) -> None:
        """Writes the dataset that is loaded from, as array_record."""
        self._write(ArrayRecordFormat(), self._folder / "load")

    def write(self) -> int:
        """Writes the dataset as RLDS, and returns the number of steps."""
        self._write(RldsFormat(), self._folder / "written")
        return self._setup["episodes"] * self._setup["steps"]

    def load(self, kind: str) -> int:
        """Loads the batches of one repetition, and returns the number of frames."""
        if kind not in self._loaders:
            self._loaders.clear()  # one at a time: their threads and buffers would stay
            self._loaders[kind] = self._loader(kind)
            for _ in range(self._setup["epoch"] if kind.endswith("cached") else 2):
                next(self._loaders[kind])
        for _ in range(self._setup["batches"]):
            next(self._loaders[kind])
        return self._setup["batches"] * self._setup["batch"]

    def _loader(self, kind: str) -> Loader:
        setup = self._setup
        frames = RecordFrames(
            self._folder / "load" / "array_record" / NAME / "1.0.0",
            size=setup["resized"],
            kernel="lanczos3" if "lanczos3" in kind else "linear",
            cache=(1 << 30) if kind.endswith("cached") else 0,
        )
        workers = os.cpu_count() or 1
        return Loader(frames, LoaderOptions(setup["batch"], setup["horizon"], workers=workers))

    def _write(self, format: Format, folder: Path) -> None:
        setup = self._setup
        lengths = split_evenly(setup["episodes"], setup["shards"])
        options = {"lengths": lengths, "size": setup["size"], "overwrite": True}
        with ThreadPoolExecutor(os.cpu_count() or 1) as executor:
            write_dataset(folder, NAME, self._episodes, format, executor=executor, **options)


def make_side(name: str, folder: Path, setup: dict[str, Any]) -> Side:
    """Makes a side, and imports only what it needs.

    Args:
      name: `ours` or `tfds`.
      folder: of its datasets.
      setup: as `rlgen.bench.dataset.SETUP`.
    """
    episodes = list(synthetic_episodes(setup["episodes"], setup["steps"], setup["size"]))
    if name == "ours":
        return Ours(folder, setup, episodes)
    from rlgen.bench.dataset_tensorflow import TensorFlow

    return TensorFlow(folder, setup, episodes)


def serve(side: Side, answers: TextIO) -> None:
    """Answers each request with seconds, units of work and the most memory so far."""
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        start, cpu = time.perf_counter(), time.process_time()
        units = getattr(side, method)(*arguments)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        answer = {"seconds": seconds, "cpu_seconds": time.process_time() - cpu, "units": units, "peak_mb": peak}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    end_with_parent()
    # What libraries print to standard output must not be taken for an answer.
    stdout, sys.stdout = sys.stdout, sys.stderr
    serve(make_side(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])), stdout)
