"""Gradients of a large batch in equal parts, one after the other."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree


def value_and_grad_in_parts(
    loss: Callable[[Any, Any], tuple[Array, Any]],
    params: PyTree,
    batch: PyTree,
    parts: int,
    *,
    divisor: int | Float[Array, ""] | None = None,
    interleaved: bool = False,
) -> tuple[tuple[Array, Any], PyTree]:
    """Computes value, measurements and gradient of a loss, summed over parts of the batch and divided.

    For a loss that is a mean over its batch, the default divisor, the number of parts, gives the mean over the whole
    batch: (1 / parts) sum_i grad loss(part i). For a loss that is a weighted sum, the divisor is the weight of the
    whole batch. Either equals the result of the whole batch up to rounding. Parts need less memory, and on a CPU they
    are faster: what a few hundred samples need stays in the cache.

    Args:
      loss: a function of parameters and batch that returns its value and a pytree of measurements, both of which add
        up over parts.
      params: the pytree to differentiate by.
      batch: a pytree of arrays with one leading axis, which `parts` divides.
      parts: number of parts.
      divisor: of all sums; the number of parts by default.
      interleaved: whether part i takes every `parts`-th row from row i on, so that a device that holds some rows of the
        batch holds its share of every part; by default the parts are slices.

    Raises:
      ValueError: the batch does not divide.
    """
    size = jax.tree.leaves(batch)[0].shape[0]
    if parts < 1 or size % parts:
        raise ValueError(f"a batch of {size} in {parts} parts: expected a divisor of the batch")
    gradient = jax.value_and_grad(loss, has_aux=True)
    if parts == 1:
        total = gradient(params, batch)
        return total if divisor is None else jax.tree.map(lambda leaf: leaf / divisor, total)
    total = _sum_over_parts(gradient, params, jax.tree.map(lambda x: _split(x, parts, interleaved), batch))
    return jax.tree.map(lambda leaf: leaf / (parts if divisor is None else divisor), total)


def _split(array: Array, parts: int, interleaved: bool) -> Array:
    """Returns an array `[B, ...]` as `[parts, B / parts, ...]`."""
    array, size = jnp.asarray(array), len(array) // parts
    if interleaved:
        return array.reshape(size, parts, *array.shape[1:]).swapaxes(0, 1)
    return array.reshape(parts, size, *array.shape[1:])


def _sum_over_parts(gradient: Callable[[Any, Any], Any], params: PyTree, batches: PyTree) -> PyTree:
    first = jax.tree.map(lambda array: array[0], batches)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(gradient, params, first))

    def add(total: PyTree, part: PyTree) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, gradient(params, part)), None

    return jax.lax.scan(add, zeros, batches)[0]


def parts_of(batch: int, largest: int) -> int:
    """Returns the fewest equal parts of a batch with `largest` samples or fewer in each."""
    return next(parts for parts in range(1, batch + 1) if batch % parts == 0 and batch // parts <= largest)
