"""Most of these tests' time is the compiler's: it is told not to try hard."""

from collections.abc import Iterator

import jax
import pytest

EFFORT = "jax_disable_most_optimizations"


@pytest.fixture(autouse=True, scope="package")
def compiles_quickly() -> Iterator[None]:
    """Lowest effort for this folder alone."""
    before = jax.config.values[EFFORT]
    jax.config.update(EFFORT, True)
    yield
    jax.config.update(EFFORT, before)
