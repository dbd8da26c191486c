"""Timing: warm-up, repetitions, median and spread, and what it was timed on."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rate:
    """Units of work a second over the repetitions.

    Attributes:
      median, low, high: of the repetitions.
    """

    median: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Work:
    """Something to time.

    Attributes:
      begin: makes ready; not timed.
      run: does the work once and says how many units that was.
    """

    begin: Callable[[], object]
    run: Callable[[], int]


def rates(works: dict[str, Work], *, warmup: int, repetitions: int) -> dict[str, Rate]:
    """Times several things in turn, so that what else the machine does hits all of them alike.

    Args:
      works: by name.
      warmup: rounds that do not count.
      repetitions: rounds that do.
    """
    seen: dict[str, list[float]] = {name: [] for name in works}
    for round_ in range(warmup + repetitions):
        for name, work in works.items():
            work.begin()
            start = time.perf_counter()
            units = work.run()
            if round_ >= warmup:
                seen[name].append(units / (time.perf_counter() - start))
    return {name: Rate(float(np.median(s)), min(s), max(s)) for name, s in seen.items()}


def machine() -> dict[str, Any]:
    """The processor, its cores that are ours, and the versions that decide the speed."""
    packages = ("mujoco", "numba", "numpy", "robosuite", "hf-libero")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in packages},
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
