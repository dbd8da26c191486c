"""Double precision within programs of single precision.

Near a singular pose the torque has the rounding errors of the arm's Jacobian times its condition, and times that again:
in single precision 0.5 N m was seen. What the error starts from is computed in double precision instead. Arrays that
enter or leave a program stay of single precision: a number is kept as two, itself and what rounding took from it.

    parts = split(np.array([0.1, 0.3]))
    with jax.enable_x64(True):
        numbers = join(parts)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Parts(NamedTuple):
    """A pytree of double precision as two of single precision, whose sum it is to 48 bits."""

    main: Any
    rest: Any


def split(tree: Any) -> Parts:
    """Returns a pytree of arrays of double precision as two of single precision.

    Args:
      tree: arrays of NumPy, or of a program where double precision is enabled.
    """
    with jax.enable_x64(True):
        main = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)
        rest = jax.tree.map(lambda leaf, part: jnp.asarray(leaf - part.astype(leaf.dtype), jnp.float32), tree, main)
    return Parts(main, rest)


def join(parts: Parts) -> Any:
    """Returns the sums; only where double precision is enabled (`jax.enable_x64`)."""
    return jax.tree.map(lambda main, rest: main.astype(jnp.float64) + rest.astype(jnp.float64), *parts)
