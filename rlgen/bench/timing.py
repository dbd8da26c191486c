"""Timing of work: warm-up, repetitions, median and range, and the machine that it ran on."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
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
    return product_gflops(MATRIX_SIZE, "float32", "highest", max(5, repetitions))["median"]


def product_gflops(side: int, dtype: str, precision: str | None, repetitions: int) -> dict[str, float]:
    """Returns median, least and most 10⁹ operations per second of a product of two square matrices.

    Args:
      side: of the matrices.
      dtype: of operands and result.
      precision: of jax; None is the default, which on an accelerator rounds float32 operands.
      repetitions: timed products.
    """
    a, b = (jax.random.normal(jax.random.key(seed), (side, side), jnp.dtype(dtype)) for seed in (0, 1))
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=precision))
    timing, gflop = seconds_of(lambda: product(a, b), repetitions), 2 * side**3 / 1e9
    return {"median": gflop / timing["seconds"], "low": gflop / timing["high"], "high": gflop / timing["low"]}


@dataclass(frozen=True)
class Product:
    """A matrix product or convolution in a traced program.

    Attributes:
      scope: names of the modules and transformations that it belongs to, joined with `/`.
      batch: number of separate products of this shape.
      rows: of the first operand and of the result.
      columns: of the second operand and of the result; of a convolution, its features.
      terms: products that each entry of the result is a sum of.
      bytes: of both operands and of the result.
      count: how often one call runs it.
    """

    scope: str
    batch: int
    rows: int
    columns: int
    terms: int
    bytes: int
    count: int = 1

    @property
    def operations(self) -> int:
        """Returns multiplications and additions of one call."""
        return 2 * self.batch * self.rows * self.columns * self.terms * self.count


def operations(function: Callable[..., Any], *inputs: Any) -> int:
    """Returns the floating-point operations of the matrix products and convolutions of one call.

    They are counted in the traced program, two for each multiplication and addition, because not every device has
    costs to tell. A loop whose length is not known counts as one round, a branch as its most expensive case.

    Args:
      function: of arrays.
      *inputs: its arguments, or their shapes.
    """
    return sum(product.operations for product in products(function, *inputs))


def products(function: Callable[..., Any], *inputs: Any) -> list[Product]:
    """Returns the matrix products and convolutions of one call; arguments as of `operations`."""
    return list(_products(jax.make_jaxpr(function)(*inputs).jaxpr, ""))


def _products(program: Any, scope: str) -> Iterator[Product]:
    for step in program.eqns:
        yield from _products_of(step, f"{scope}/{step.source_info.name_stack}")


def _products_of(step: Any, scope: str) -> Iterator[Product]:
    name, params = step.primitive.name, step.params
    if name in ("dot_general", "conv_general_dilated"):
        first, second, output = (variable.aval for variable in (*step.invars[:2], step.outvars[0]))
        if name == "dot_general":
            (contracted, _), (together, _) = params["dimension_numbers"]
            batch, terms = (prod(first.shape[axis] for axis in axes) for axes in (together, contracted))
            rows = first.size // (batch * terms)
        else:
            # Each output is a sum over the kernel's window and the input channels of its group.
            features = second.shape[params["dimension_numbers"].rhs_spec[0]]
            batch, rows, terms = 1, output.size // features, second.size // features
        size = sum(array.size * array.dtype.itemsize for array in (first, second, output))
        yield Product(scope, batch, rows, output.size // (batch * rows), terms, size)
    elif name == "cond":
        cases = [list(_products(branch.jaxpr, scope)) for branch in params["branches"]]
        yield from max(cases, key=lambda case: sum(product.operations for product in case))
    else:
        inner = [getattr(value, "jaxpr", value) for value in params.values()]
        for value in inner:
            if hasattr(value, "eqns"):
                for product in _products(value, scope):
                    yield replace(product, count=product.count * params.get("length", 1))
