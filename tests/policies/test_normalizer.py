import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.policies.normalizer import (
    fit_normalizer,
    identity_normalizer,
    normalize_action,
    normalize_observation,
    unnormalize_action,
)


def data():
    random = np.random.default_rng(0)
    observation = random.normal(3.0, 2.0, (500, 4))
    observation[:, 2] = 0.7
    action = random.uniform(-0.4, 1.0, (500, 3))
    action[:, 1] = 0.25
    return observation, action


def test_observations_come_out_with_mean_zero_and_deviation_one():
    observation, action = data()
    scaled = normalize_observation(fit_normalizer(observation, action), observation, clip=100)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=2e-5)
    np.testing.assert_allclose(scaled.std(0), [1, 1, 0, 1], atol=1e-4)


def test_what_was_constant_is_not_blown_up():
    observation, action = data()
    normalizer = fit_normalizer(observation, action)
    moved = observation[0] + np.array([0, 0, 0.01, 0])
    shift = normalize_observation(normalizer, moved) - normalize_observation(normalizer, observation[0])
    np.testing.assert_allclose(shift, [0, 0, 1, 0], atol=1e-3)
    assert np.abs(normalize_observation(normalizer, observation[0] + 1e6)).max() == 5


def test_actions_fill_the_range_and_come_back():
    observation, action = data()
    normalizer = fit_normalizer(observation, action)
    scaled = normalize_action(normalizer, action)
    np.testing.assert_allclose(scaled.min(0), [-1, 0, -1], atol=1e-6)
    np.testing.assert_allclose(scaled.max(0), [1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(unnormalize_action(normalizer, scaled), action, atol=1e-6)
    plain = fit_normalizer(observation, action, action_floor=None)
    np.testing.assert_array_equal(normalize_action(plain, action), action)


def test_identity_changes_nothing():
    normalizer, values = identity_normalizer(4, 3), np.array([[0.5, -2.0, 4.0, 0.0]])
    np.testing.assert_array_equal(normalize_observation(normalizer, values), values)
    np.testing.assert_array_equal(unnormalize_action(normalizer, values[:, :3]), values[:, :3])


def test_data_that_cannot_be_fitted_is_refused():
    observation, action = data()
    with pytest.raises(UserError, match="0 observations"):
        fit_normalizer(observation[:0], action)
    action[3, 1] = np.nan
    with pytest.raises(UserError, match="not finite in column 1"):
        fit_normalizer(observation, action)
