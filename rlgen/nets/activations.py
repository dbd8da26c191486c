"""Activations by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_jvp
def mish(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """x * tanh(softplus(x)) of Misra (2019).

    With n = e^x (e^x + 2), tanh(log(1 + e^x)) is n / (n + 2): one exponential and one division, and nothing but x is
    kept for the gradient. Above 20 the factor is 1 in float32.
    """
    n, _ = _mish_terms(x)
    return x * (n / (n + 2))


@mish.defjvp
def _mish_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    n, power = _mish_terms(x)
    inverse = 1 / (n + 2)
    gate = n * inverse
    return x * gate, dx * (gate + x * (4 * power * (power + 1)) * inverse * inverse)


def _mish_terms(x):
    power = jnp.exp(jnp.minimum(x, 20))
    return power * (power + 2), power


def activation(name: str) -> Callable[[Array], Array]:
    """The function called `name`: `mish` or `relu`."""
    functions = {"mish": mish, "relu": jax.nn.relu}
    if name not in functions:
        raise ValueError(f"activation {name!r}: expected one of {sorted(functions)}")
    return functions[name]
