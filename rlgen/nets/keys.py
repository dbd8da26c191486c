"""Randomness for fresh parameters."""

import jax
from jaxtyping import PRNGKeyArray


def init_key(key: PRNGKeyArray) -> PRNGKeyArray:
    """A key of the generator that is quick to compile, from a key of JAX's default kind.

    XLA's CPU compiler takes up to a second for every tensor that the default generator fills.
    """
    data = jax.random.key_data(key)
    return jax.random.wrap_key_data(jax.numpy.concatenate([data, data]), impl="rbg")
