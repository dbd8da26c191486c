"""Injected failures: the quantity that is named is the one that went first."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rl.test_ppo import CONFIG, CRITIC, DIFFUSION, ENVIRONMENTS, make_state
from rl.worlds import PointEnv

from rlgen.rl import ppo
from rlgen.rl.numerics import QUANTITIES, NonFiniteError, first_nonfinite


def spoil(tree, value: float):
    """One number of a tree's first leaf replaced."""
    leaves, shape = jax.tree.flatten(tree)
    first = jnp.asarray(leaves[0])
    leaves[0] = first.at[(0,) * first.ndim].set(value)
    return jax.tree.unflatten(shape, leaves)


def first_failure(state, config=CONFIG) -> str:
    with pytest.raises(NonFiniteError) as raised:
        ppo.iterate(DIFFUSION, CRITIC, config, state, PointEnv(ENVIRONMENTS), seed=5)
    assert "\n" not in str(raised.value)
    return raised.value.quantity


def test_what_the_policy_and_the_critic_say_is_checked_before_it_is_used():
    state = make_state()
    assert first_failure(state.replace(net=spoil(state.net, np.nan))) == "sampled_actions"
    assert first_failure(state.replace(critic=spoil(state.critic, np.inf))) == "value"
    bad = state.scaler.replace(variance=jnp.float32(np.nan))
    assert first_failure(state.replace(scaler=bad)) == "scaled_reward"


def test_a_rate_that_is_far_too_high_is_told_by_what_explodes():
    config = dataclasses.replace(CONFIG, critic_warmup=0, critic_learning_rate=1e-3, target_kl=None)
    object.__setattr__(config, "actor_learning_rate", 1e30)  # which the command line refuses
    assert first_failure(make_state(config=config), config) in ("log_prob", "ratio", "policy_parameters")


def test_the_first_in_the_order_of_causes_is_named():
    fine = {name: jnp.ones(3) for name in QUANTITIES}
    assert int(first_nonfinite(fine)) == 0
    for index, name in enumerate(QUANTITIES):
        later = {other: jnp.full(3, np.nan) for other in QUANTITIES[index:]}
        assert QUANTITIES[int(first_nonfinite(fine | later)) - 1] == name
    assert QUANTITIES[int(first_nonfinite(fine | {"value_loss": jnp.float32(1e9)})) - 1] == "value_loss"
