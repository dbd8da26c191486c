"""Our side of `rlgen bench dataset`."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rlgen.bench.dataset_episodes import episodes
from rlgen.data.formats.array_record.format import ArrayRecordFormat
from rlgen.data.formats.rlds.writer import RldsFormat
from rlgen.data.frames import RecordFrames
from rlgen.data.loader import Loader, LoaderOptions
from rlgen.data.writer import split_evenly, write_dataset

NAME = "bench_no_noops"


class Ours:
    """Writes RLDS, and loads from array_record."""

    def __init__(self, folder: Path, setup: dict[str, Any]):
        self._folder, self._setup = folder, setup
        self._episodes = list(episodes(setup["episodes"], setup["steps"], setup["size"]))
        self._loaders: dict[str, Loader] = {}

    def prepare(self) -> None:
        """Writes the dataset that is loaded from."""
        self._write(ArrayRecordFormat, self._folder / "load")

    def write(self) -> int:
        """Writes the dataset as RLDS; steps."""
        self._write(RldsFormat, self._folder / "written")
        return self._setup["episodes"] * self._setup["steps"]

    def load(self, kind: str) -> int:
        """Takes the batches of one repetition; frames. `cached` keeps decoded pictures, `cold` and others decode."""
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
        threads = os.cpu_count() or 1
        return Loader(frames, LoaderOptions(setup["batch"], setup["horizon"], threads=threads, ahead=4))

    def _write(self, layout: type, folder: Path) -> None:
        setup = self._setup
        lengths = split_evenly(setup["episodes"], setup["shards"])
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            write_dataset(
                folder, NAME, self._episodes, layout(pool), lengths=lengths, size=setup["size"], overwrite=True
            )
