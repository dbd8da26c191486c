"""Most of these tests' time is the compiler's: it is told not to try hard."""

from collections.abc import Iterator

import jax
import pytest

EFFORT = "jax_disable_most_optimizations"


@pytest.fixture(autouse=True, scope="module")
def compiles_quickly() -> Iterator[None]:
    """Lowest effort for the files of this folder alone.

    What was compiled is forgotten: without optimization sums differ in the last digits, which tests of other folders
    would see in the functions that both call.
    """
    before = jax.config.values[EFFORT]
    jax.config.update(EFFORT, True)
    yield
    jax.config.update(EFFORT, before)
    jax.clear_caches()
