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


@pytest.mark.parametrize("kind", ["still", "rare", "jitter", "far away"])
def test_what_hardly_varies_stays_small_and_comes_back(kind):
    observation, action = (values.astype(np.float32) for values in data())
    for values in (observation, action):
        values[:, 0] *= {"still": 0, "rare": 0, "jitter": 1e-6, "far away": 1e-6}[kind]
    observation[:, 0] += {"far away": 1e4}.get(kind, 0)
    if kind == "rare":
        observation[7, 0] = action[7, 0] = 0.3
    normalizer = fit_normalizer(observation, action)
    assert np.abs(normalize_observation(normalizer, observation)).max() <= 5
    scaled = normalize_action(normalizer, action)
    assert np.abs(scaled).max() <= 1 + 1e-6
    np.testing.assert_allclose(unnormalize_action(normalizer, scaled), action, atol=1e-6)
    # What an episode does that no demonstration did.
    assert np.abs(normalize_action(normalizer, action + 0.3)).max() <= 15


def test_identity_changes_nothing():
    normalizer, values = identity_normalizer(4, 3), np.array([[0.5, -2.0, 4.0, 0.0]])
    np.testing.assert_array_equal(normalize_observation(normalizer, values), values)
    np.testing.assert_array_equal(unnormalize_action(normalizer, values[:, :3]), values[:, :3])


def test_data_that_cannot_be_fitted_is_refused():
    observation, action = data()
    with pytest.raises(UserError, match="0 observations"):
        fit_normalizer(observation[:0], action)
    with pytest.raises(UserError, match="not finite in column 2"):
        fit_normalizer(np.where(np.arange(4) == 2, 1e300, observation), action)
    action[3, 1] = np.nan
    with pytest.raises(UserError, match="not finite in column 1"):
        fit_normalizer(observation, action)
