"""Timing of work: warm-up, repetitions, median and range, and the machine that it ran on."""

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
    """Units of work per second over the repetitions.

    Attributes:
      median: of the repetitions.
      low: least of them.
      high: largest of them.
    """

    median: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Returns the fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class TimedWork:
    """Something to time.

    Attributes:
      prepare: called before each run; not timed.
      run: does the work once and returns the number of units.
    """

    prepare: Callable[[], object]
    run: Callable[[], int]


def rates(works: dict[str, TimedWork], *, warmup: int, repetitions: int) -> dict[str, Rate]:
    """Times several works in turn, so that other load on the machine hits all of them alike.

    Args:
      works: by name.
      warmup: rounds that do not count.
      repetitions: rounds that do.
    """
    measured: dict[str, list[float]] = {name: [] for name in works}
    for round_ in range(warmup + repetitions):
        for name, work in works.items():
            work.prepare()
            start = time.perf_counter()
            units = work.run()
            if round_ >= warmup:
                measured[name].append(units / (time.perf_counter() - start))
    return {name: Rate(float(np.median(s)), min(s), max(s)) for name, s in measured.items()}


def machine() -> dict[str, Any]:
    """Returns the processor, the cores that this process may use, and the versions that decide the speed."""
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


MATRIX_SIZE = 1024


def describe() -> dict[str, Any]:
    """Returns jax's device, and the versions that decide its speed."""
    host = machine()
    device = jax.devices()[0]
    name = host["processor"] if device.platform == "cpu" else device.device_kind
    cores = f", {host['cores']} cores" if device.platform == "cpu" else ""
    versions = {"jax": jax.__version__, "numpy": host["versions"]["numpy"]}
    return {"device": f"{name}{cores}", "platform": device.platform, "python": host["python"], "versions": versions}


def seconds_of(work: Callable[[], Any], repetitions: int, warmup: int = 1) -> dict[str, float]:
    """Returns median, least and most seconds of a function of jax.

    Args:
      work: the function; its result is waited for.
      repetitions: timed calls, at least 1.
      warmup: calls before them.
    """
    for _ in range(warmup):
        jax.block_until_ready(work())
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds), "low": min(seconds), "high": max(seconds)}


def matmul_gflops(repetitions: int) -> float:
    """Returns 10⁹ operations per second of a float32 product of two 1024 x 1024 matrices, the median of repetitions."""
    a, b = (jax.random.normal(jax.random.key(seed), (MATRIX_SIZE, MATRIX_SIZE)) for seed in (0, 1))
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST))
    return 2 * MATRIX_SIZE**3 / seconds_of(lambda: product(a, b), max(5, repetitions))["seconds"] / 1e9


def operations(function: Callable[..., Any], *inputs: Any) -> float:
    """Returns the floating-point operations of one call, as XLA counts them in the program before it is optimized."""
    cost = jax.jit(function).lower(*inputs).cost_analysis()
    return float(cost["flops"])
