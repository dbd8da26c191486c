"""Timing of work: warm-up, repetitions, median and range, and the machine that it ran on."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from math import prod
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
    """Returns the processor, the cores that this process may use, and the versions that decide the speed.

    A package that is not installed, such as the benchmark on a machine that times networks alone, has the version None.
    """
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: _installed(name) for name in ("mujoco", "numba", "numpy", "robosuite", "hf-libero")},
    }


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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


def operations(function: Callable[..., Any], *inputs: Any) -> int:
    """Returns the floating-point operations of the matrix products and convolutions of one call.

    They are counted in the traced program, two for each multiplication and addition, because not every device has
    costs to tell. A loop whose length is not known counts as one round, a branch as its most expensive case.

    Args:
      function: of arrays.
      *inputs: its arguments, or their shapes.
    """
    return _products(jax.make_jaxpr(function)(*inputs).jaxpr)


def _products(program: Any) -> int:
    return sum(_products_of(step) for step in program.eqns)


def _products_of(step: Any) -> int:
    name, params, output = step.primitive.name, step.params, step.outvars[0].aval if step.outvars else None
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2 * prod(output.shape) * prod(step.invars[0].aval.shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        # Each output is a sum over the kernel's window and the input channels of its group.
        kernel = step.invars[1].aval.shape
        features = kernel[params["dimension_numbers"].rhs_spec[0]]
        return 2 * prod(output.shape) * prod(kernel) // features
    if name == "cond":
        return max(_products(branch.jaxpr) for branch in params["branches"])
    inner = [getattr(value, "jaxpr", value) for value in params.values()]
    return params.get("length", 1) * sum(_products(value) for value in inner if hasattr(value, "eqns"))
