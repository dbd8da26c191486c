"""What benchmarks count and say about the machine."""

from importlib.metadata import PackageNotFoundError

import jax
import jax.numpy as jnp
import pytest
from jax import Array

from rlgen.bench import timing
from rlgen.nets.conv1d import convolve

A, B = jnp.zeros((3, 5)), jnp.zeros((5, 7))
PRODUCT = 2 * 3 * 5 * 7
IMAGES, KERNEL = jnp.zeros((2, 8, 8, 6)), jnp.zeros((3, 3, 3, 4))


def repeated(a: Array) -> Array:
    return jax.lax.scan(lambda carry, _: (carry @ jnp.zeros((5, 5)), None), a, length=4)[0]


def grouped(images: Array, kernel: Array) -> Array:
    """Two groups of three channels, two outputs each, on the inner 6 x 6 places."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "VALID", dimension_numbers=numbers, feature_group_count=2
    )


@pytest.mark.parametrize(
    ("function", "inputs", "count"),
    [
        (jnp.matmul, (A, B), PRODUCT),
        (lambda a, b: jnp.tanh(a) @ b + 1, (A, B), PRODUCT),
        (jax.jit(jnp.matmul), (A, B), PRODUCT),
        (jax.vmap(jnp.matmul, (None, 0)), (A, jnp.zeros((4, 5, 7))), 4 * PRODUCT),
        (jax.grad(lambda a, b: (a @ b).sum(), (0, 1)), (A, B), 3 * PRODUCT),
        (repeated, (A,), 4 * 2 * 3 * 5 * 5),
        (lambda a, b: jax.lax.cond(a.sum() > 0, lambda: a @ b, lambda: (a @ b) @ b.T @ b), (A, B), 3 * PRODUCT),
        (grouped, (IMAGES, KERNEL), 2 * (2 * 6 * 6 * 4) * (3 * 3 * 3)),
        # Zeros around the chunk count as well.
        (convolve, (jnp.zeros((2, 6, 4)), jnp.zeros((5, 4, 7))), 2 * 2 * 6 * 7 * 5 * 4),
    ],
)
def test_products_are_counted_in_the_traced_program(function, inputs, count):
    assert timing.operations(function, *inputs) == count
    assert timing.operations(function, *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs)) == count


def test_networks_are_timed_where_the_benchmark_is_not_installed(monkeypatch):
    def version(name: str) -> str:
        if name in ("robosuite", "hf-libero"):
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(timing, "version", version)
    assert timing.machine()["versions"]["robosuite"] is None
    assert timing.describe()["versions"]["numpy"] == "1.0"
