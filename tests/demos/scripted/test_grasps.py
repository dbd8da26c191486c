"""Grasps in height maps made by hand: cells of 3 mm, heights in metres above a table."""

import numpy as np
import pytest

from rlgen.demos.scripted.planning.grasps import TIP, WIDEST, find_grasps
from rlgen.demos.scripted.planning.height_maps import HeightMap, downward_frame

CELL, HALF = 0.003, 50
OFFSETS = np.arange(-HALF, HALF + 1) * CELL
X, Y = np.meshgrid(OFFSETS, OFFSETS, indexing="ij")
TURNS = np.arange(-6, 6) * np.pi / 12


def grasps(target: np.ndarray, height: float, *, wall: np.ndarray | None = None, opening: float = WIDEST):
    """Returns candidates for an object of one height on a table, perhaps beside a high wall."""
    heights = np.where(target, height, 0.0)
    if wall is not None:
        heights = np.where(wall, 0.3, heights)
    height_map = HeightMap(downward_frame(np.zeros(3)), CELL, heights, np.ones(heights.shape, int))
    return find_grasps(height_map, target, np.zeros(3), TURNS, opening=opening)


def test_a_long_box_is_gripped_across_in_the_middle():
    best = grasps((abs(X) < 0.015) & (abs(Y) < 0.06), 0.05)[0].hand
    assert abs(best.rotation[0, 0]) > 0.99
    np.testing.assert_allclose(best.position[:2], 0.0, atol=0.005)
    assert 0.01 < best.position[2] - TIP < 0.05


def test_the_fingers_point_along_the_rays_and_frames_are_right_handed():
    found = grasps((abs(X) < 0.02) & (abs(Y) < 0.02), 0.05)
    assert found
    for grasp in found:
        np.testing.assert_allclose(grasp.hand.rotation[:, 2], [0, 0, -1], atol=1e-12)
        assert np.linalg.det(grasp.hand.rotation) == pytest.approx(1.0)


def test_a_bowl_is_gripped_at_its_wall():
    radius = np.hypot(X, Y)
    found = grasps((radius > 0.05) & (radius < 0.058), 0.05)
    assert len(found) > 8
    for grasp in found[:8]:
        position, closing = grasp.hand.position[:2], grasp.hand.rotation[:2, 0]
        assert np.linalg.norm(position) == pytest.approx(0.054, abs=0.006)
        assert abs(position @ closing) / np.linalg.norm(position) > 0.9


@pytest.mark.parametrize("width", [0.085, 0.12])
def test_an_object_wider_than_the_hand_is_not_gripped(width):
    assert not grasps((abs(X) < width / 2) & (abs(Y) < width / 2), 0.05)


def test_an_object_against_a_wall_is_gripped_along_the_wall_only():
    box = (abs(X) < 0.02) & (abs(Y) < 0.02)
    free, found = grasps(box, 0.05), grasps(box, 0.05, wall=X > 0.023)
    assert found and any(abs(grasp.hand.rotation[0, 0]) >= 0.5 for grasp in free)
    for grasp in found:
        assert abs(grasp.hand.rotation[0, 0]) < 0.5


def test_a_narrower_hand_fits_beside_a_neighbour():
    bar, neighbors = abs(X) < 0.008, (abs(X) > 0.045) & (abs(X) < 0.06)
    heights = np.where(bar | neighbors, 0.03, 0.0)
    height_map = HeightMap(downward_frame(np.zeros(3)), CELL, heights, np.ones(heights.shape, int))
    assert not find_grasps(height_map, bar, np.zeros(3), [0.0])
    assert find_grasps(height_map, bar, np.zeros(3), [0.0], opening=0.045)


def test_an_object_no_higher_than_a_fingertip_is_not_gripped():
    assert not grasps((abs(X) < 0.02) & (abs(Y) < 0.02), 0.004)


def test_a_gap_narrower_than_a_finger_is_bridged():
    whole = (abs(X) < 0.015) & (abs(Y) < 0.06)
    split = grasps(whole & (abs(Y) > 0.002), 0.05)
    assert abs(split[0].hand.rotation[0, 0]) > 0.99
    np.testing.assert_allclose(split[0].hand.position[:2], grasps(whole, 0.05)[0].hand.position[:2], atol=0.02)
