"""Gradients of a large batch in equal parts, one after the other."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree


def value_and_grad_in_parts(
    loss: Callable[[Any, Any], tuple[Array, Any]], params: PyTree, batch: PyTree, parts: int
) -> tuple[tuple[Array, Any], PyTree]:
    """Value, measurements and gradient of a mean loss, averaged over `parts` slices of the batch.

    The result is that of the whole batch up to rounding. It needs less memory, and on a CPU it is faster: what a few
    hundred samples need stays in the cache.

    Args:
      loss: a mean over its batch, and measurements that are means too, as a function of parameters and batch.
      params: what to differentiate by.
      batch: a pytree of arrays with one leading axis, which `parts` divides.
      parts: number of slices.

    Raises:
      ValueError: the batch does not divide.
    """
    size = jax.tree.leaves(batch)[0].shape[0]
    if parts < 1 or size % parts:
        raise ValueError(f"a batch of {size} in {parts} parts: expected a divisor of the batch")
    gradient = jax.value_and_grad(loss, has_aux=True)
    if parts == 1:
        return gradient(params, batch)
    slices = jax.tree.map(lambda array: jnp.asarray(array).reshape(parts, size // parts, *array.shape[1:]), batch)
    blank = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(gradient, params, jax.tree.map(lambda array: array[0], slices)),
    )

    def add(total, part):
        return jax.tree.map(jnp.add, total, gradient(params, part)), None

    total, _ = jax.lax.scan(add, blank, slices)
    return jax.tree.map(lambda leaf: leaf / parts, total)


def parts_of(batch: int, largest: int) -> int:
    """The fewest equal parts of a batch with `largest` samples or fewer in each."""
    return next(parts for parts in range(1, batch + 1) if batch % parts == 0 and batch // parts <= largest)
