"""Linear algebra of the arm's small matrices, in single precision, written out.

Sums of a few products are written out as such: accelerators would compute small matrix products in TF32, and XLA fuses
what is written out with its surroundings, but neither matrix products nor reductions.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def dot(first: Float[Array, "*#B n"], second: Float[Array, "*#B n"]) -> Float[Array, "*B"]:
    """Returns the scalar products of vectors."""
    products = first * second
    return sum((products[..., k] for k in range(1, products.shape[-1])), start=products[..., 0])


def cross(first: Float[Array, "*#B 3"], second: Float[Array, "*#B 3"]) -> Float[Array, "*B 3"]:
    """Returns the vector products of vectors."""
    turned = [first[..., a] * second[..., b] - first[..., b] * second[..., a] for a, b in ((1, 2), (2, 0), (0, 1))]
    return jnp.stack(turned, axis=-1)


def product(first: Float[Array, "*#B i k"], second: Float[Array, "*#B k j"]) -> Float[Array, "*B i j"]:
    """Returns the products of small matrices."""
    terms = (first[..., :, k, None] * second[..., k, None, :] for k in range(second.shape[-2]))
    return sum(terms, start=jnp.zeros((), first.dtype))


def whiten(mass: Float[Array, "n n"], columns: Float[Array, "n m"]) -> tuple[Float[Array, "n n"], Float[Array, "n m"]]:
    """Computes the lower Cholesky factor L of a positive definite matrix, and L^-1 times some columns.

    Args:
      mass: the matrix.
      columns: what L^-1 is applied to.
    """
    size, factor, rows = len(mass), [], []
    for step in range(size):
        scale = 1.0 / jnp.sqrt(mass[0, 0])
        column, row = mass[:, 0] * scale, columns[0] * scale
        factor.append(jnp.pad(column, (step, 0)))
        rows.append(row)
        below = column[1:, None]
        mass, columns = mass[1:, 1:] - below * column[None, 1:], columns[1:] - below * row[None]
    return jnp.stack(factor, axis=-1), jnp.stack(rows)


def least_norm(columns: Float[Array, "n m"], right: Float[Array, " m"]) -> Float[Array, " n"]:
    """Returns the shortest x with columns^T x = right, W (W^T W)^-1 right, by the modified Gram-Schmidt process.

    The error grows with the condition of `columns`; through W^T W it would grow with its square.

    Args:
      columns: W, of full rank.
      right: the right side.
    """
    rows, found = columns.T, jnp.zeros_like(columns[:, 0])
    for _ in range(len(right)):
        length = _length(rows[0])
        unit, value = rows[0] / length, right[0] / length
        found = found + unit * value
        shares = dot(rows[1:], unit)
        rows, right = rows[1:] - shares[:, None] * unit, right[1:] - shares * value
    return found


def without(columns: Float[Array, "n m"], vector: Float[Array, " n"]) -> Float[Array, " n"]:
    """Returns what is left of a vector that is orthogonal to some columns, (1 - W (W^T W)^-1 W^T) vector.

    Args:
      columns: W, of full rank.
      vector: the vector.
    """
    rows, units = columns.T, []
    for _ in range(len(rows)):
        units.append(rows[0] / _length(rows[0]))
        rows = rows[1:] - dot(rows[1:], units[-1])[:, None] * units[-1]
    # Twice, because these units are orthogonal to each other but for rounding times the condition of the columns.
    for unit in units * 2:
        vector = vector - dot(vector, unit) * unit
    return vector


def _length(vector: Float[Array, " n"]) -> Float[Array, ""]:
    return jnp.sqrt(jnp.maximum(dot(vector, vector), 1e-30))
