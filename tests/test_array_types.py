import importlib

import jax.numpy as jnp
import pytest
from array_types import CHECKED
from jaxtyping import TypeCheckError

from rlgen.configs.schema import PPOConfig
from rlgen.rl.losses import value_loss


def test_a_wrong_shape_is_an_error():
    with pytest.raises(TypeCheckError, match="value_old"):
        value_loss(jnp.zeros(3), jnp.zeros(2), jnp.zeros(3), PPOConfig())


def test_a_wrong_type_is_an_error():
    with pytest.raises(TypeCheckError, match="returns"):
        value_loss(jnp.zeros(3), jnp.zeros(3), jnp.zeros(3, int), PPOConfig())


@pytest.mark.parametrize("name", CHECKED)
def test_rooms_that_are_checked_are_there(name):
    importlib.import_module(name)
