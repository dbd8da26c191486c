"""`rlgen bench dataset`: writing and loading of datasets, compared with tensorflow_datasets and tf.data.

Our side writes RLDS and loads from array_record; the other side writes and loads with tensorflow_datasets. Each has a
process of its own on the same cores. They work in turns, so that other load on the machine hits both alike, and the
one that waits is stopped, so that it loads nothing ahead meanwhile. `MEANING`, which is part of the report, says what
is compared.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.bench.dataset_tensorflow import check_tensorflow
from rlgen.bench.timing import machine
from rlgen.core.process import start_child

SETUP = {"episodes": 16, "steps": 125, "size": 256, "resized": 224, "horizon": 8, "batch": 32, "batches": 60}
SETUP |= {"shards": 4, "warmup": 1, "repetitions": 5}
# The kinds of loading that are compared, ours and theirs: see `Side.load`.
LOADS = {
    "load": ("lanczos3", "lanczos3"),
    "load_linear": ("linear", "linear"),
    "load_plain": ("linear", "plain"),
    "load_later_epochs": ("lanczos3_cached", "lanczos3"),
    "load_both_cached": ("linear_cached", "linear_cached"),
}
MEANING = {
    "write": "steps/s; RLDS of two cameras as JPEG; tfds is its own GeneratorBasedBuilder",
    "load": "frames/s; both decode and resize every frame; tfds is a tf.data pipeline in the order of Octo's and "
    "OpenVLA's: chunks, shuffle, late parallel decoding, lanczos3, batches, 4 of which are prefetched; ours reads as "
    "many ahead as it does by default, 2",
    "load_linear": "frames/s; the same with antialiased linear resizing on both sides",
    "load_later_epochs": "frames/s; ours by default, decoded images kept in memory, after the first epoch; tfds as "
    "in `load`, which decodes again",
    "load_plain": "frames/s; every frame decoded, tfds by its own as_dataset; linear",
    "load_both_cached": "frames/s; both sides keep decoded images (tf.data's cache()), after the first epoch; linear",
    "x_cpu": "the ratio of `cpu_ms`, theirs over ours",
    "load_average": "processes that ran or waited at the end of each comparison, by the system's mean over a minute; "
    "where there are more of them than cores, the side with more threads gets more of the machine",
    "cpu_ms": "processor time of a unit, which other load on the machine changes less than the rate",
    "memory_mb": "the most memory that each side's process held until the end of that comparison",
}
SIDES = ("ours", "tfds")


class Process:
    """The process of one side."""

    def __init__(self, name: str, folder: Path, setup: dict[str, Any]):
        """Starts the process.

        Args:
          name: of the side, one of `SIDES`.
          folder: of its datasets; its log lies beside them.
          setup: as `SETUP`.
        """
        command = [sys.executable, "-P", "-m", "rlgen.bench.dataset_side", name, str(folder), json.dumps(setup)]
        log = open(folder / f"{name}.log", "w")  # noqa: SIM115 - lives as long as the process
        self._log = folder / f"{name}.log"
        pipe = subprocess.PIPE
        self._process = start_child(command, stdin=pipe, stdout=pipe, stderr=log, text=True)

    def request(self, *message: str) -> dict[str, float]:
        """Sends a method and its arguments, and waits for the answer; the process runs only meanwhile."""
        assert self._process.stdin and self._process.stdout
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        self._process.send_signal(signal.SIGSTOP)
        if not answer:
            lines = self._log.read_text(errors="replace").strip().splitlines() or ["no output"]
            raise RuntimeError(f"{' '.join(message)} failed: {lines[-1]}")
        return json.loads(answer)

    def close(self) -> None:
        """Ends the process."""
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        self._process.wait()


def run(setup: dict[str, Any], log: Callable[[str], None]) -> dict[str, Any]:
    """Runs all comparisons, and returns the report as JSON values.

    Args:
      setup: sizes and repetitions, with the keys of `SETUP`.
      log: called with a line after each comparison.

    Raises:
      UserError: TensorFlow is not installed.
    """
    check_tensorflow()
    setup = {**setup, "epoch": -(-setup["episodes"] * setup["steps"] // setup["batch"]) + 1}
    with tempfile.TemporaryDirectory() as name:
        folders = {side: Path(name) / side for side in SIDES}
        for folder in folders.values():
            folder.mkdir()
        report: dict[str, Any] = {"machine": machine(), "setup": setup, "meaning": MEANING}
        report |= {"memory_mb": {}, "load_average": {}}
        for requests in ({"write": ()}, LOADS):
            with _processes(folders, setup) as processes:
                for key, kinds in requests.items():
                    both = [("write",)] * 2 if key == "write" else [("load", kind) for kind in kinds]
                    report[key], report["memory_mb"][key] = _compare(processes, setup, *both)
                    report["load_average"][key] = os.getloadavg()[0]
                    log(f"{key}: ours {report[key]['ours']:.0f}/s, tfds {report[key]['tfds']:.0f}/s")
    return report


@contextmanager
def _processes(folders: dict[str, Path], setup: dict[str, Any]) -> Iterator[dict[str, Process]]:
    """Starts both sides, with the datasets that they load from."""
    processes = {side: Process(side, folders[side], setup) for side in SIDES}
    try:
        for process in processes.values():
            process.request("prepare")
        yield processes
    finally:
        for process in processes.values():
            process.close()


def _compare(
    processes: dict[str, Process], setup: dict[str, Any], ours: tuple[str, ...], theirs: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, float]]:
    """Returns medians and ranges of the rates, how many times theirs ours is, and the most memory of each so far."""
    requests = dict(zip(SIDES, (ours, theirs), strict=True))
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    cpu: dict[str, list[float]] = {side: [] for side in SIDES}
    peaks: dict[str, float] = {}
    for round_ in range(setup["warmup"] + setup["repetitions"]):
        for side, process in processes.items():
            answer = process.request(*requests[side])
            peaks[side] = answer["peak_mb"]
            if round_ >= setup["warmup"]:
                rates[side].append(answer["units"] / answer["seconds"])
                cpu[side].append(1000 * answer["cpu_seconds"] / answer["units"])
    medians = {side: float(np.median(values)) for side, values in rates.items()}
    ranges = {side: {"low": min(values), "high": max(values)} for side, values in rates.items()}
    processor = {side: float(np.median(values)) for side, values in cpu.items()}
    ratio = medians["ours"] / medians["tfds"]
    x_cpu = processor["tfds"] / processor["ours"]
    return {**medians, "x": ratio, "x_cpu": x_cpu, "spread": ranges, "cpu_ms": processor}, peaks
