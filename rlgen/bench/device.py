"""The device that programs are timed on, and what it reaches on plain matrix products."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

SIDE = 1024


def describe() -> dict[str, Any]:
    """What the device is, and the versions that decide its speed."""
    from rlgen.bench.timing import machine

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
