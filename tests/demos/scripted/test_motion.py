"""The controller from moves to actions."""

import numpy as np
import pytest

from rlgen.demos.scripted.geometry import Pose
from rlgen.demos.scripted.motion import FULLY_OPEN, GRIPPER_STEP, MAX_TURN, Controller, Move, Style, draw_style
from rlgen.demos.scripted.skills import on_line

HAND = Pose(np.array([0.1, 0.2, 1.0]), np.diag([1.0, -1.0, -1.0]))


def controller(style: Style = Style()) -> Controller:  # noqa: B008
    return Controller(style, np.random.default_rng(0))


def test_holding_still_asks_for_nothing():
    np.testing.assert_array_equal(
        controller(draw_style(np.random.default_rng(1))).action(Move(None, FULLY_OPEN), HAND)[:6], 0.0
    )


def test_a_far_target_is_approached_straight_at_the_styles_speed():
    way = np.array([0.3, -0.6, 0.1])
    action = controller(Style(speed=0.8)).action(Move(HAND.moved(way), FULLY_OPEN), HAND)
    np.testing.assert_allclose(action[:3], 0.8 * way / 0.6)
    np.testing.assert_allclose(action[3:6], 0.0, atol=1e-12)


def test_a_turn_is_about_the_axis_between_the_orientations():
    target = HAND.turned(HAND.position, np.array([0, 0, 1.0]), 0.2)
    action = controller().action(Move(target, FULLY_OPEN), HAND)
    assert action[5] > 0.1
    np.testing.assert_allclose(action[[0, 1, 2, 3, 4]], 0.0, atol=1e-12)


def test_a_large_turn_is_no_faster_than_the_motors_allow():
    for angle in (1.0, 2.0, 3.0):
        target = HAND.turned(HAND.position, np.array([0.6, 0.0, 0.8]), angle)
        assert np.linalg.norm(controller().action(Move(target, FULLY_OPEN), HAND)[3:6]) == pytest.approx(MAX_TURN)


def test_a_constant_pull_at_the_hand_is_corrected():
    still = controller()
    first, *_, last = (still.action(Move(HAND.moved(np.array([0, 0, 0.005])), FULLY_OPEN), HAND)[2] for _ in range(10))
    assert last > 1.5 * first


def test_what_is_left_of_the_way_is_no_pull():
    moving = controller()
    for left in (0.016, 0.012, 0.008, 0.004):
        moving.action(Move(HAND, FULLY_OPEN), HAND.moved(np.array([left, 0, 0])))
    np.testing.assert_allclose(moving.action(Move(HAND, FULLY_OPEN), HAND)[:3], 0.0, atol=1e-12)


def test_a_line_is_followed_from_where_the_hand_is_beside_it():
    start, end = np.zeros(3), np.array([0.0, 0.0, 0.1])
    np.testing.assert_allclose(on_line(start, end, np.array([0.02, 0.0, 0.04]), 0.03), [0.0, 0.0, 0.07])
    np.testing.assert_allclose(on_line(start, end, np.array([0.0, 0.01, 0.09]), 0.03), end)
    np.testing.assert_allclose(on_line(end, end, start, 0.03), end)


def test_every_action_is_one_the_environment_takes():
    random, style = np.random.default_rng(2), draw_style(np.random.default_rng(3))
    shaky = Controller(style, random)
    for _ in range(200):
        target = HAND.moved(random.normal(0, 0.3, 3)).turned(HAND.position, np.array([0, 1.0, 0]), random.normal())
        action = shaky.action(Move(target, float(random.choice([0.0, 0.03, FULLY_OPEN]))), HAND)
        assert np.abs(action).max() <= 1.0 and abs(action[6]) == 1.0


@pytest.mark.parametrize(("opening", "command"), [(0.0, 1.0), (FULLY_OPEN, -1.0)])
def test_open_and_closed_are_one_command(opening, command):
    gripper = controller()
    assert {gripper.action(Move(None, opening), HAND)[6] for _ in range(20)} == {command}


def test_between_open_and_closed_the_commands_keep_the_fingers_there():
    gripper, internal, target = controller(), -1.0, 0.045
    openings = []
    for _ in range(40):
        internal = np.clip(internal + GRIPPER_STEP * gripper.action(Move(None, target), HAND)[6], -1.0, 1.0)
        openings.append(FULLY_OPEN * (1.0 - internal) / 2.0)
    assert np.abs(np.array(openings[10:]) - target).max() <= FULLY_OPEN * GRIPPER_STEP / 2 + 1e-12
    assert abs(np.mean(openings[10:]) - target) < 0.006
