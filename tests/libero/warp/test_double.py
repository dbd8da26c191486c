"""Numbers of double precision in programs of single precision."""

import jax
import jax.numpy as jnp
import numpy as np

from rlgen.libero.warp.controller import join, split

NUMBERS = {"thirds": np.array([1.0, -2.0, 1e3]) / 3, "halves": np.array([0.5, -2.5])}


def test_a_number_in_two_parts_is_kept_to_48_bits():
    parts = split(NUMBERS)
    assert {leaf.dtype for leaf in jax.tree.leaves(parts)} == {jnp.dtype("float32")}
    for name, numbers in NUMBERS.items():
        kept = np.asarray(parts.main[name], np.float64) + np.asarray(parts.rest[name], np.float64)
        np.testing.assert_allclose(kept, numbers, rtol=2**-47, atol=0)
    assert not np.asarray(parts.rest["halves"]).any() and np.asarray(parts.rest["thirds"]).all()


def test_a_program_computes_with_the_sums():
    """Also where it is mapped, and in a loop."""

    def change(parts):
        with jax.enable_x64(True):
            return split(jnp.sqrt(join(parts)))

    parts = jax.jit(lambda parts: jax.lax.fori_loop(0, 3, lambda _, row: jax.vmap(change)(row), parts))(
        split(np.array([2.0, 3.0]))
    )
    found = np.asarray(parts.main, np.float64) + np.asarray(parts.rest, np.float64)
    np.testing.assert_allclose(found, np.array([2.0, 3.0]) ** 0.125, rtol=1e-13, atol=0)
