"""Height maps, kinematics and places against the physics itself."""

import copy
from itertools import islice

import mujoco
import numpy as np
import pytest

from rlgen.demos.scripted.geometry import Pose, joint_at, open_end, robot_bodies, set_body_pose, subtree
from rlgen.demos.scripted.kinematics import HeldObject, Kinematics
from rlgen.demos.scripted.motion import Style
from rlgen.demos.scripted.planning.contacts import find_contacts, moving_part
from rlgen.demos.scripted.planning.height_maps import (
    HeightMap,
    HeightMapper,
    cells_of,
    downward_frame,
    frame_along,
    slimmed,
    turned_map,
)
from rlgen.demos.scripted.planning.places import PlaceFinder, rest, rest_at
from rlgen.demos.scripted.skills import SkillContext
from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.goals import contacts_hold

DOWN = np.diag([1.0, -1.0, -1.0])


def test_a_map_has_the_heights_of_the_collision_geometry(state_of):
    state = state_of("libero_object/6")
    body = int(state.scene.goal.bodies[0])
    position = state.body_pose(body).position
    height_map = HeightMapper(state).map(downward_frame(position), (0.06, 0.06), above=0.3, cell=0.004)
    mine = cells_of(height_map, subtree(state.model, body))
    geoms = np.flatnonzero(state.model.geom_bodyid == body)
    tops = [state.data.geom_xpos[g][2] + state.model.geom_rbound[g] for g in geoms]
    assert mine.any() and not mine.all()
    assert position[2] + height_map.height[mine].max() <= max(tops) + 1e-9
    assert height_map.height[mine].min() > height_map.height[~mine].max()
    without = HeightMapper(state).map(downward_frame(position), (0.06, 0.06), above=0.3, cell=0.004, without=body)
    np.testing.assert_allclose(without.height, height_map.height[~mine].max(), atol=1e-9)


def test_a_map_shows_the_hits_of_single_rays(state_of):
    state = state_of("libero_goal/6")
    frame = frame_along(state.body_pose(int(state.scene.goal.bodies[0])).position, np.array([0.36, 0.48, -0.8]))
    height_map = HeightMapper(state).map(frame, (0.03, 0.02), above=0.2, cell=0.004)
    model, data = copy.copy(state.model), mujoco.MjData(state.model)
    model.geom_matid[:], model.geom_rgba[:, 3] = -1, 1.0
    data.qpos[:] = state.data.qpos
    # Its first joint turns the arm away.
    data.qpos[state.scene.robot.arm_qpos[0]] = 2.8
    mujoco.mj_kinematics(model, data)
    geom = np.zeros(1, np.int32)
    assert height_map.height.shape == (17, 11)
    for i, j in np.ndindex(height_map.height.shape):
        start = frame.position + frame.rotation @ [(i - 8) * 0.004, (j - 5) * 0.004, -0.2]
        way = mujoco.mj_ray(model, data, start, frame.rotation[:, 2], None, 1, -1, geom)
        assert height_map.height[i, j] == pytest.approx(0.2 - way, abs=1e-9)
        assert height_map.body[i, j] == model.geom_bodyid[geom[0]]


def test_the_arm_is_not_on_the_map(state_of):
    state = state_of("libero_90/66")
    height_map = HeightMapper(state).map(downward_frame(state.hand.position), (0.5, 0.5), above=1.0, cell=0.02)
    arm = robot_bodies(state.scene)
    assert arm[state.model.site_bodyid[state.scene.robot.grip_site]]
    assert not cells_of(height_map, arm).any()
    assert cells_of(height_map, subtree(state.model, int(state.scene.goal.bodies[0]))).any()


def test_an_object_rests_on_the_highest_support_and_leans_away_from_it():
    floor, lower = np.zeros((9, 9)), np.full((5, 5), -np.inf)
    lower[1:4, 1:4] = 0.02
    assert rest(floor, lower, 4, 4) == (0.02, 0.0)
    floor[:, 5:] = 0.1
    height, lean = rest(floor, lower, 4, 4)
    assert (height, lean) == (pytest.approx(0.12), 1.0)
    assert rest(floor, lower, 4, 1)[0] == 0.02


def test_rests_of_a_grid_are_those_of_its_cells():
    random = np.random.default_rng(0)
    floor, lower = random.normal(0, 0.01, (15, 15)), np.full((5, 5), -np.inf)
    lower[1:4] = random.normal(0, 0.01, (3, 5))
    rows, columns = np.array([1, 7, 13]), np.array([2, 6])
    heights, leans = np.empty((2, 3, 2))
    rest_at(floor, lower, rows, columns, heights, leans)
    for i, j in np.ndindex(3, 2):
        assert (heights[i, j], leans[i, j]) == rest(floor, lower, rows[i], columns[j])


def test_a_slim_map_shows_one_cell_less_on_all_sides():
    height = np.full((9, 8), -np.inf)
    height[2:7, 1:7] = 0.03
    height[4, 4] = 0.01
    shown = np.full((9, 8), -np.inf)
    shown[3:6, 2:6] = 0.01
    shown[3:6, 2] = 0.03
    slim = slimmed(HeightMap(downward_frame(np.zeros(3)), 0.005, height, np.zeros((9, 8), int)))
    np.testing.assert_array_equal(slim.height, shown)


@pytest.mark.parametrize("column", [0, 8])
def test_beyond_the_map_nothing_carries_an_object(column):
    assert rest(np.zeros((9, 9)), np.zeros((3, 3)), 4, column) == (np.inf, np.inf)
    assert rest(np.full((9, 9), -np.inf), np.zeros((3, 3)), 4, 4) == (np.inf, np.inf)


def test_a_map_turned_by_a_quarter_is_the_turned_map(state_of):
    state = state_of("libero_object/6")
    frame = downward_frame(state.body_pose(int(state.scene.goal.bodies[0])).position)
    mapper = HeightMapper(state)
    first = turned_map(mapper.map(frame, (0.05, 0.05), above=0.3, cell=0.005), np.pi / 2)
    again = mapper.map(first.frame, (0.05, 0.05), above=0.3, cell=0.005)
    np.testing.assert_allclose(first.height, again.height, atol=1e-9)


def test_inverse_kinematics_reaches_the_poses_it_solves(state_of):
    state = state_of("libero_object/6")
    kinematics, random = Kinematics(state), np.random.default_rng(0)
    data = mujoco.MjData(state.model)
    solved = 0
    for _ in range(20):
        hand = Pose(random.uniform([-0.15, -0.25, 0.1], [0.1, 0.25, 0.3]), DOWN)
        joints = kinematics.solve(hand)
        if joints is None:
            continue
        solved += 1
        data.qpos[:] = state.data.qpos
        data.qpos[state.scene.robot.arm_qpos] = joints
        mujoco.mj_kinematics(state.model, data)
        assert np.linalg.norm(data.site_xpos[state.scene.robot.grip_site] - hand.position) < 0.002
        limits = state.model.jnt_range[state.scene.robot.arm_joint]
        assert np.all(joints > limits[:, 0]) and np.all(joints < limits[:, 1])
    assert solved > 15
    assert kinematics.solve(Pose(np.array([1.5, 0.0, 0.3]), DOWN)) is None


def test_an_arm_that_moves_well_is_not_stretched(state_of):
    state = state_of("libero_object/6")
    kinematics, height = Kinematics(state), state.hand.position[2]
    ahead = [Pose(np.array([x, 0.0, height]), DOWN) for x in np.arange(0.0, 0.5, 0.04)]
    reached = [kinematics.solve(hand) for hand in ahead]
    easy = [kinematics.solve(hand, easy=True) is not None for hand in ahead]
    count, furthest = sum(easy), sum(joints is not None for joints in reached)
    # The hand gets some way further than to where the arm moves well.
    assert all(easy[:count]) and 0 < count < furthest < len(ahead)
    elbows = [joints[3] for joints in reached[:furthest]]
    np.testing.assert_array_equal(np.argsort(elbows), np.arange(furthest))


def test_a_hand_in_the_table_or_in_an_object_collides_and_above_it_does_not(state_of):
    state = state_of("libero_object/6")
    kinematics, body = Kinematics(state), int(state.scene.goal.bodies[0])
    position = state.body_pose(body).position
    above = Pose(position + np.array([0, 0, 0.12]), DOWN)
    assert kinematics.solve_free(above, opening=0.08) is not None
    assert kinematics.solve_free(Pose(position - [0, 0, 0.02], DOWN), opening=0.08) is None
    assert kinematics.solve_free(Pose(position, DOWN), opening=0.0) is None
    # What is held counts as part of the hand.
    held = HeldObject(body, Pose(np.array([0.0, 0.0, 0.12]), DOWN))
    assert kinematics.solve_free(above.moved(np.array([0, 0, -0.03])), opening=0.04, held=held) is None


def test_maps_and_collision_checks_leave_the_state_as_it_is(state_of):
    state = state_of("libero_object/6")
    before = state.data.qpos.copy()
    mapper = HeightMapper(state)
    mapper.map(downward_frame(np.zeros(3)), (0.02, 0.02), above=0.3, cell=0.01, without=int(state.scene.goal.bodies[0]))
    Kinematics(state).object_fits(int(state.scene.goal.bodies[0]), Pose(np.array([0.3, 0.0, 0.5]), np.eye(3)))
    np.testing.assert_array_equal(state.data.qpos, before)


@pytest.mark.parametrize("task", ["libero_object/6", "libero_spatial/0", "libero_goal/1", "libero_goal/6"])
def test_an_object_put_in_its_place_stays_and_meets_the_goal(state_of, task):
    state = state_of(task)
    body = int(state.scene.goal.bodies[0])
    places = PlaceFinder(state, HeightMapper(state)).find(0, state.body_pose(body).rotation, roofed=False)
    places = list(places)
    assert places
    data = mujoco.MjData(state.model)
    data.qpos[:] = state.data.qpos
    set_body_pose(data, state.model, body, places[0].body.moved(np.array([0, 0, 0.004])))
    held = state.scene.robot.arm_qpos
    for _ in range(250):
        data.qpos[held], data.qvel[state.scene.robot.arm_dof] = state.arm_joints, 0.0
        mujoco.mj_step(state.model, data)
    mujoco.mj_forward(state.model, data)
    assert np.linalg.norm(data.xpos[body] - places[0].body.position) < 0.015
    arrays = kernel_arrays.make_data_arrays(state.model, data)
    assert kernel.goal_reached(arrays, kernel_arrays.goal_arrays(state.scene.goal))
    assert contacts_hold(state.scene.goal, data)


def test_a_closed_drawer_is_no_place(state_of):
    state = state_of("libero_goal/3")
    body = int(state.scene.goal.bodies[0])
    places = PlaceFinder(state, HeightMapper(state)).find(0, state.body_pose(body).rotation, roofed=False)
    assert next(places, None) is None


@pytest.mark.parametrize(("task", "hooks"), [("libero_goal/0", False), ("libero_90/6", True)])
def test_a_handle_is_hooked_where_no_hand_has_room_to_hold_it(state_of, task, hooks):
    state = state_of(task)
    kinematics, mapper = Kinematics(state), HeightMapper(state)
    context = SkillContext(state, kinematics, mapper, PlaceFinder(state, mapper), Style(), np.random.default_rng(0))
    joint = joint_at(state.model, state.scene.goal.joints[0][0])
    part = moving_part(state.model, joint, open_end(state.model, joint))
    first, *others = islice(find_contacts(context, part, []), 3)
    assert first.grips != hooks and not first.pushes
    assert all(contact.hooks == hooks for contact in (first, *others))
    again = next(find_contacts(context, part, [first.hand.position]))
    assert np.linalg.norm(again.hand.position - first.hand.position) >= 0.012
