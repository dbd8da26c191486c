"""Quality of paths and actions, compared with values computed by hand."""

import json

import numpy as np
import pytest

from rlgen.core.stats import bootstrap_mean
from rlgen.core.types import RobotState
from rlgen.data.metrics.diversity import action_distribution
from rlgen.data.metrics.quality import Trace, recorded_quality, trace_quality
from rlgen.data.metrics.smoothness import log_dimensionless_jerk, mean_squared_jerk

STEP = 0.05


def _along(distance: np.ndarray, direction=(2.0, -1.0, 2.0)) -> np.ndarray:
    return np.outer(distance, np.array(direction) / 3)


def _robot(position: np.ndarray) -> RobotState:
    rows = len(position)
    return RobotState(position, np.zeros((rows, 3)), np.zeros((rows, 2)), np.zeros((rows, 7)))


def _minimum_jerk(duration: float, amplitude: float, step: float) -> np.ndarray:
    u = np.arange(0, duration + step / 2, step) / duration
    return _along(amplitude * (10 * u**3 - 15 * u**4 + 6 * u**5))


def test_a_cubic_has_constant_jerk_exactly():
    time = np.arange(40) * STEP
    path = _along(0.3 * time**3 - 0.2 * time**2 + 0.1 * time)
    assert mean_squared_jerk(path) == pytest.approx((6 * 0.3) ** 2, rel=1e-6)


def test_constant_acceleration_has_none():
    time = np.arange(40) * STEP
    assert mean_squared_jerk(_along(0.7 * time**2 + time)) == pytest.approx(0, abs=1e-12)


def test_a_minimum_jerk_path_has_its_known_jerk():
    # the integral of the squared jerk is 720 A^2 / D^5
    path = _minimum_jerk(2.0, 0.4, 0.001)
    assert mean_squared_jerk(path, 0.001) == pytest.approx(720 * 0.4**2 / 2.0**6, rel=0.01)
    assert log_dimensionless_jerk(path, 0.001) == pytest.approx(-np.log(720 / 1.875**2), abs=0.01)


def test_dimensionless_jerk_ignores_size_and_speed():
    one = log_dimensionless_jerk(_minimum_jerk(2.0, 0.4, 0.05), 0.05)
    two = log_dimensionless_jerk(3 * _minimum_jerk(2.0, 0.4, 0.05), 0.1)
    assert one == pytest.approx(two, rel=1e-9)
    shaken = _minimum_jerk(2.0, 0.4, 0.05) + np.random.default_rng(0).normal(0, 0.002, (41, 3))
    assert log_dimensionless_jerk(shaken, 0.05) < one


@pytest.mark.parametrize("path", [np.zeros((3, 3)), np.zeros((9, 3))])
def test_undefined_figures_become_none(path):
    quality = trace_quality(Trace(np.zeros((len(path), 7)), path, "push"))
    assert quality.to_json()["log_dimensionless_jerk"] is None


def test_actions_by_hand():
    actions = np.zeros((5, 7))
    actions[:, 1] = [0.5, -0.5, 0, 0, 0]
    actions[:, 6] = [-1, -1, -1, 1, 1]
    quality = trace_quality(Trace(actions, np.zeros((6, 3)), "push"))
    assert quality.action_variation == 1.5
    assert quality.gripper_switches == 1
    assert quality.noops == 2  # the third step and the last; the fourth switches the gripper
    assert quality.length == 5


def test_a_robot_of_the_wrong_length_is_rejected(episode_of):
    with pytest.raises(ValueError, match="rows"):
        recorded_quality([episode_of(steps=5)], [_robot(np.zeros((9, 3)))])


def test_the_standard_deviation_of_actions_does_not_depend_on_length():
    ramps = [np.repeat(np.linspace(0, 1, steps)[:, None], 7, axis=1) for steps in (20, 57, 133)]
    distribution = action_distribution(ramps)
    np.testing.assert_allclose(distribution.std, 0, atol=1e-12)
    np.testing.assert_allclose(distribution.mean[:, 3], distribution.time, atol=1e-12)


def test_the_standard_deviation_of_two_constants():
    distribution = action_distribution([np.full((9, 7), -0.25), np.full((30, 7), 0.75)], points=11)
    np.testing.assert_allclose(distribution.std, 0.5)
    np.testing.assert_allclose(distribution.mean, 0.25)
    np.testing.assert_allclose(distribution.average_std, 0.5)


def test_bootstrap_is_repeatable_and_covers():
    random = np.random.default_rng(0)
    assert bootstrap_mean([1, 2, 3], seed=4) == bootstrap_mean([1, 2, 3], seed=4)
    covered = 0
    for trial in range(200):
        interval = bootstrap_mean(random.normal(5, 2, 40), seed=trial, resamples=300)
        covered += interval.low <= 5 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_bootstrap_leaves_out_what_is_not_finite():
    interval = bootstrap_mean([2.0, np.nan, 4.0])
    assert (interval.mean, interval.count) == (3.0, 2)
    assert bootstrap_mean([np.nan]).mean is None


def test_a_set_sums_its_episodes_and_is_json(episode_of, robot_of):
    episodes = [episode_of(seed, steps=8 + seed) for seed in range(3)]
    quality = recorded_quality(episodes, [robot_of(episode) for episode in episodes])
    assert (quality.episodes, quality.steps, quality.length.mean) == (3, 27, 9.0)
    assert quality.noops_per_4500 == quality.noops * 1500
    value = json.loads(json.dumps(quality.to_json(), allow_nan=False))
    assert len(value["each"]) == 3 and len(value["spread"]["std"]) == 100
