"""Frames: closed forms."""

import numpy as np
from scipy.spatial.transform import Rotation

from rlgen.demos.scripted.geometry import Pose, rotation_between

A = Pose(np.array([1.0, 2.0, 3.0]), Rotation.from_euler("xyz", [0.3, -0.7, 1.1]).as_matrix())
B = Pose(np.array([-0.5, 0.2, 0.1]), Rotation.from_euler("xyz", [-1.2, 0.4, 0.2]).as_matrix())


def test_composition_applies_the_second_first():
    point = np.array([0.3, -0.2, 0.9])
    inside = B.rotation @ point + B.position
    together = A @ B
    np.testing.assert_allclose(together.rotation @ point + together.position, A.rotation @ inside + A.position)


def test_the_inverse_undoes():
    back = A.inverse @ A @ B
    np.testing.assert_allclose(back.position, B.position, atol=1e-12)
    np.testing.assert_allclose(back.rotation, B.rotation, atol=1e-12)


def test_a_quarter_turn_about_a_point():
    turned = Pose(np.array([2.0, 0.0, 5.0]), np.eye(3)).turned(np.array([1.0, 0, 0]), np.array([0, 0, 1.0]), np.pi / 2)
    np.testing.assert_allclose(turned.position, [1.0, 1.0, 5.0], atol=1e-12)
    np.testing.assert_allclose(turned.rotation[:, 0], [0, 1, 0], atol=1e-12)


def test_the_turn_between_brings_one_to_the_other():
    turn = Rotation.from_rotvec(rotation_between(A.rotation, B.rotation)).as_matrix()
    np.testing.assert_allclose(turn @ A.rotation, B.rotation, atol=1e-12)


def test_a_flipped_hand_points_the_same_way_and_closes_the_same_way():
    np.testing.assert_array_equal(A.flipped.rotation[:, 2], A.rotation[:, 2])
    np.testing.assert_array_equal(A.flipped.rotation[:, 0], -A.rotation[:, 0])
    assert np.linalg.det(A.flipped.rotation) > 0


def test_towards_goes_straight_and_turns_the_shorter_way():
    start = Pose(np.array([1.0, 0.0, 2.0]), np.eye(3))
    end = start.turned(start.position, np.array([0.0, 0.6, 0.8]), 2.0).moved(np.array([0.4, -0.2, 0.0]))
    middle = start.towards(end, 0.5)
    np.testing.assert_allclose(middle.position, [1.2, -0.1, 2.0])
    np.testing.assert_allclose(middle.rotation, Rotation.from_rotvec([0.0, 0.6, 0.8]).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(start.towards(end, 1.0).rotation, end.rotation, atol=1e-12)
