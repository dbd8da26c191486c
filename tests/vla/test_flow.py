import jax
import jax.numpy as jnp
import numpy as np
import pytest
from vla.openpi import FAMILIES, arrays

from rlgen.vla.model import pi0


def test_time_runs_from_data_to_noise():
    actions, noise = jnp.full((2, 3, 4), 5.0), jnp.full((2, 3, 4), -1.0)
    np.testing.assert_array_equal(pi0.noisy_actions(actions, noise, jnp.zeros(2)), actions)
    np.testing.assert_array_equal(pi0.noisy_actions(actions, noise, jnp.ones(2)), noise)
    step = pi0.noisy_actions(actions, noise, jnp.full(2, 0.5)) - pi0.noisy_actions(actions, noise, jnp.full(2, 0.25))
    np.testing.assert_allclose(step / 0.25, pi0.flow_target(actions, noise))


def test_euler_integrates_a_straight_flow_exactly_from_noise_to_data():
    key = jax.random.key(0)
    actions, noise = jax.random.normal(key, (2, 2, 3, 4))
    times = []

    def velocity(x, t):
        jax.debug.callback(lambda t: times.append(float(t)), t)
        # At (x, t) on the line to `actions` the slope is the distance from them, over the time left.
        return (x - actions) / t

    reached = pi0.euler(velocity, noise, 7)
    jax.effects_barrier()
    np.testing.assert_allclose(reached, actions, atol=1e-5)
    np.testing.assert_allclose(times, 1 - np.arange(7) / 7, atol=1e-6)


def test_training_times_follow_their_distribution():
    uniform = np.sort(np.random.default_rng(3).random(20_000))
    t = pi0.training_time(uniform)
    assert t[0] >= 0.001 and t[-1] <= 1
    # Beta(1.5, 1) has mean 0.6 and variance 0.068571.
    np.testing.assert_allclose([np.mean(t), np.var(t)], [0.6004, 0.06843], atol=4e-3)


@pytest.mark.parametrize("part", FAMILIES)
def test_training_times_of_draws_are_the_references(part):
    given = arrays("inputs", part)
    # A Beta draw b comes from the uniform number b ** 1.5.
    np.testing.assert_allclose(pi0.training_time(given["time_beta"] ** 1.5), given["time"], rtol=1e-6)
