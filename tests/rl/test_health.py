"""Faults put in on purpose: what is named is what went first."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rl.test_ppo import CONFIG, CRITIC, DIFFUSION, ENVIRONMENTS, make_state
from rl.worlds import PointPool

from rlgen.rl import ppo
from rlgen.rl.numerics import QUANTITIES, NonFiniteError, first_nonfinite


def spoil(tree, value: float):
    """One number of a tree's first leaf replaced."""
    leaves, shape = jax.tree.flatten(tree)
    first = jnp.asarray(leaves[0])
    leaves[0] = first.at[(0,) * first.ndim].set(value)
    return jax.tree.unflatten(shape, leaves)


def broken(state, config=CONFIG) -> str:
    with pytest.raises(NonFiniteError) as raised:
        ppo.iterate(DIFFUSION, CRITIC, config, state, PointPool(ENVIRONMENTS), seed=5)
    assert "\n" not in str(raised.value)
    return raised.value.quantity


def test_what_the_policy_and_the_critic_say_is_checked_before_it_is_used():
    state = make_state()
    assert broken(state.replace(net=spoil(state.net, np.nan))) == "sampled_actions"
    assert broken(state.replace(critic=spoil(state.critic, np.inf))) == "value"
    bad = state.scaler.replace(variance=jnp.float32(np.nan))
    assert broken(state.replace(scaler=bad)) == "scaled_reward"


def test_a_rate_that_is_far_too_high_is_told_by_what_explodes():
    config = dataclasses.replace(CONFIG, critic_warmup=0, actor_rate=1e30, critic_rate=1e-3, target_kl=None)
    assert broken(make_state(config=config), config) in ("log_prob", "ratio", "policy_parameters")


def test_the_first_in_the_order_of_causes_is_named():
    fine = {name: jnp.ones(3) for name in QUANTITIES}
    assert int(first_nonfinite(fine)) == 0
    for place, name in enumerate(QUANTITIES):
        later = {other: jnp.full(3, np.nan) for other in QUANTITIES[place:]}
        assert QUANTITIES[int(first_nonfinite(fine | later)) - 1] == name
    assert QUANTITIES[int(first_nonfinite(fine | {"value_loss": jnp.float32(1e9)})) - 1] == "value_loss"
