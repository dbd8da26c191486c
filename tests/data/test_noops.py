"""The rule for no-ops on short sequences."""

import numpy as np

from rlgen.data.metrics.smoothness import idle_mask, noop_mask


def _actions(*rows: tuple[float, float]) -> np.ndarray:
    """Actions from pairs of the first number and the gripper."""
    actions = np.zeros((len(rows), 7))
    actions[:, 0], actions[:, 6] = np.transpose(rows)
    return actions


def test_rest_with_an_unchanged_gripper_is_a_noop():
    assert noop_mask(_actions((0.5, -1), (0, -1), (0.5, -1))).tolist() == [False, True, False]


def test_a_gripper_change_at_rest_is_kept_once():
    mask = noop_mask(_actions((0.5, -1), (0, 1), (0, 1), (0, -1)))
    assert mask.tolist() == [False, False, True, False]


def test_the_gripper_is_compared_with_the_last_kept_action():
    # both resting steps at the start go, whatever the gripper does, since nothing has been kept before them
    assert noop_mask(_actions((0, -1), (0, 1), (0.2, 1), (0, 1))).tolist() == [True, True, False, True]


def test_the_threshold_is_on_the_norm_of_six_numbers():
    actions = np.zeros((2, 7))
    actions[0, :6] = 0.9e-4 / np.sqrt(6)
    actions[1, :6] = 1.1e-4 / np.sqrt(6)
    assert noop_mask(actions).tolist() == [True, False]


def test_a_pause_is_idle_and_a_wait_for_the_fingers_is_not():
    actions = _actions((0.5, -1), (0, -1), (0, 1), (0, 1), (0, 1))
    # Open and still, then closing for two steps, then closed.
    fingers = np.array([0.04, 0.04, 0.04, 0.03, 0.01, 0.01])[:, None] * [1, -1]
    assert idle_mask(actions, fingers).tolist() == [False, True, False, False, True]
