"""Timing: warm-up, repetitions, median and spread, and what it was timed on."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
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


SIDE = 1024


def describe() -> dict[str, Any]:
    """What the device is, and the versions that decide its speed."""

    found = machine()
    device = jax.devices()[0]
    name = found["processor"] if device.platform == "cpu" else device.device_kind
    cores = f", {found['cores']} cores" if device.platform == "cpu" else ""
    versions = {"jax": jax.__version__, "numpy": found["versions"]["numpy"]}
    return {"device": f"{name}{cores}", "platform": device.platform, "python": found["python"], "versions": versions}


def seconds_of(work: Callable[[], Any], repetitions: int, warmup: int = 1) -> dict[str, float]:
    """Median, least and most seconds of `work`, whose result is waited for."""
    for _ in range(warmup):
        jax.block_until_ready(work())
    seen = []
    for _ in range(repetitions):
        start = time.perf_counter()
        jax.block_until_ready(work())
        seen.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seen), "low": min(seen), "high": max(seen)}


def matmul_gflops(repetitions: int) -> float:
    """Billions of operations a second of a plain float32 product of two 1024 x 1024 matrices, by the median."""
    a, b = (jax.random.normal(jax.random.key(seed), (SIDE, SIDE)) for seed in (0, 1))
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST))
    return 2 * SIDE**3 / seconds_of(lambda: product(a, b), max(5, repetitions))["seconds"] / 1e9


def operations(function: Callable[..., Any], *inputs: Any) -> float:
    """Floating-point operations of one call, as XLA counts them in the program as it is written."""
    cost = jax.jit(function).lower(*inputs).cost_analysis()
    return float(cost["flops"])
