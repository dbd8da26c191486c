"""Detection of the first quantity of a PPO iteration that is no longer a sensible value."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from rlgen.core.arrays import AnyArray

# In the order in which they follow from one another within a minibatch.
QUANTITIES = (
    "log_prob",
    "ratio",
    "policy_loss",
    "value",
    "value_loss",
    "actor_grad_norm",
    "critic_grad_norm",
    "policy_parameters",
    "critic_parameters",
)
# Sizes that no healthy run comes near; scaled rewards are at most 10, log densities of an entry are clamped.
LIMITS = {"policy_loss": 1e4, "value_loss": 1e6, "ratio": 1e4}


class NonFiniteError(Exception):
    """A quantity that is not finite or far too large, so that training cannot go on.

    Attributes:
      quantity: name of the first such quantity.
      problem: what is wrong with it.
    """

    def __init__(self, quantity: str, problem: str = "is not finite"):
        super().__init__(f"{quantity} {problem}")
        self.quantity, self.problem = quantity, problem


def first_nonfinite(values: dict[str, Array]) -> Int[Array, ""]:
    """Returns 0, or one more than the index of the first quantity that is not finite or too large.

    Args:
      values: an array for each name of `QUANTITIES`.
    """
    bad = []
    for name in QUANTITIES:
        fine = jnp.isfinite(values[name])
        if name in LIMITS:
            fine &= jnp.abs(values[name]) < LIMITS[name]
        bad.append(~fine.all())
    bad = jnp.stack(bad)
    return jnp.where(bad.any(), 1 + jnp.argmax(bad), 0).astype(jnp.int32)


def check_update(nonfinite: int, minibatch: int) -> None:
    """Raises `NonFiniteError` for what `first_nonfinite` found.

    Args:
      nonfinite: its result.
      minibatch: minibatches of the iteration that were fine before.
    """
    if nonfinite:
        name = QUANTITIES[nonfinite - 1]
        limit = f" or above {LIMITS[name]:.0e}" if name in LIMITS else ""
        raise NonFiniteError(name, f"is not finite{limit} in minibatch {minibatch} of the update")


def check_finite(**arrays: AnyArray) -> None:
    """Raises `NonFiniteError` for the first array, in order, that is not finite."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise NonFiniteError(name)
