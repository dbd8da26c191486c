"""Maps, reach and places against the physics itself."""

import copy

import mujoco
import numpy as np
import pytest

from rlgen.demos.scripted.geometry import Pose, parts, place_body, robot_bodies
from rlgen.demos.scripted.height_maps import Terrain, belongs, facing, looking_down, turned_map
from rlgen.demos.scripted.places import Places, rest
from rlgen.demos.scripted.reach import Held, Reach
from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.goals import contacts_hold

DOWN = np.diag([1.0, -1.0, -1.0])


def test_a_map_has_the_heights_of_the_collision_geometry(look):
    sight = look("libero_object/6")
    body = int(sight.scene.goal.bodies[0])
    where = sight.body(body).position
    seen = Terrain(sight).map(looking_down(where), (0.06, 0.06), above=0.3, cell=0.004)
    mine = belongs(seen, parts(sight.model, body))
    geoms = np.flatnonzero(sight.model.geom_bodyid == body)
    tops = [sight.data.geom_xpos[g][2] + sight.model.geom_rbound[g] for g in geoms]
    assert mine.any() and not mine.all()
    assert where[2] + seen.height[mine].max() <= max(tops) + 1e-9
    assert seen.height[mine].min() > seen.height[~mine].max()
    without = Terrain(sight).map(looking_down(where), (0.06, 0.06), above=0.3, cell=0.004, without=body)
    np.testing.assert_allclose(without.height, seen.height[~mine].max(), atol=1e-9)


def test_a_map_has_what_single_rays_hit(look):
    sight = look("libero_goal/6")
    frame = facing(sight.body(int(sight.scene.goal.bodies[0])).position, np.array([0.36, 0.48, -0.8]))
    seen = Terrain(sight).map(frame, (0.03, 0.02), above=0.2, cell=0.004)
    model, data = copy.copy(sight.model), mujoco.MjData(sight.model)
    model.geom_matid[:], model.geom_rgba[:, 3] = -1, 1.0
    data.qpos[:] = sight.data.qpos
    # Its first joint turns the arm away.
    data.qpos[sight.scene.robot.arm_qpos[0]] = 2.8
    mujoco.mj_kinematics(model, data)
    geom = np.zeros(1, np.int32)
    assert seen.height.shape == (17, 11)
    for i, j in np.ndindex(seen.height.shape):
        begin = frame.position + frame.rotation @ [(i - 8) * 0.004, (j - 5) * 0.004, -0.2]
        way = mujoco.mj_ray(model, data, begin, frame.rotation[:, 2], None, 1, -1, geom)
        assert seen.height[i, j] == pytest.approx(0.2 - way, abs=1e-9)
        assert seen.body[i, j] == model.geom_bodyid[geom[0]]


def test_the_arm_is_not_on_the_map(look):
    sight = look("libero_90/66")
    seen = Terrain(sight).map(looking_down(sight.hand.position), (0.5, 0.5), above=1.0, cell=0.02)
    arm = robot_bodies(sight.scene)
    assert arm[sight.model.site_bodyid[sight.scene.robot.grip_site]]
    assert not belongs(seen, arm).any()
    assert belongs(seen, parts(sight.model, int(sight.scene.goal.bodies[0]))).any()


def test_a_thing_rests_on_the_highest_and_leans_away_from_it():
    floor, lower = np.zeros((9, 9)), np.full((5, 5), -np.inf)
    lower[1:4, 1:4] = 0.02
    assert rest(floor, lower, 4, 4) == (0.02, 0.0)
    floor[:, 5:] = 0.1
    height, lean = rest(floor, lower, 4, 4)
    assert (height, lean) == (pytest.approx(0.12), 1.0)
    assert rest(floor, lower, 4, 1)[0] == 0.02


@pytest.mark.parametrize("column", [0, 8])
def test_nothing_is_known_to_carry_what_is_beyond_the_map(column):
    assert rest(np.zeros((9, 9)), np.zeros((3, 3)), 4, column) == (np.inf, np.inf)
    assert rest(np.full((9, 9), -np.inf), np.zeros((3, 3)), 4, 4) == (np.inf, np.inf)


def test_a_map_turned_by_a_quarter_is_the_turned_map(look):
    sight = look("libero_object/6")
    frame = looking_down(sight.body(int(sight.scene.goal.bodies[0])).position)
    terrain = Terrain(sight)
    first = turned_map(terrain.map(frame, (0.05, 0.05), above=0.3, cell=0.005), np.pi / 2)
    again = terrain.map(first.frame, (0.05, 0.05), above=0.3, cell=0.005)
    np.testing.assert_allclose(first.height, again.height, atol=1e-9)


def test_inverse_kinematics_reaches_what_it_says(look):
    sight = look("libero_object/6")
    reach, random = Reach(sight), np.random.default_rng(0)
    data = mujoco.MjData(sight.model)
    solved = 0
    for _ in range(20):
        hand = Pose(random.uniform([-0.15, -0.25, 0.1], [0.1, 0.25, 0.3]), DOWN)
        joints = reach.solve(hand)
        if joints is None:
            continue
        solved += 1
        data.qpos[:] = sight.data.qpos
        data.qpos[sight.scene.robot.arm_qpos] = joints
        mujoco.mj_kinematics(sight.model, data)
        assert np.linalg.norm(data.site_xpos[sight.scene.robot.grip_site] - hand.position) < 0.002
        limits = sight.model.jnt_range[sight.scene.robot.arm_joint]
        assert np.all(joints > limits[:, 0]) and np.all(joints < limits[:, 1])
    assert solved > 15
    assert reach.solve(Pose(np.array([1.5, 0.0, 0.3]), DOWN)) is None


def test_a_hand_in_the_table_or_in_a_thing_is_not_clear_and_above_it_is(look):
    sight = look("libero_object/6")
    reach, body = Reach(sight), int(sight.scene.goal.bodies[0])
    thing = sight.body(body).position
    above = Pose(thing + np.array([0, 0, 0.12]), DOWN)
    assert reach.clear(above, opening=0.08) is not None
    assert reach.clear(Pose(thing - [0, 0, 0.02], DOWN), opening=0.08) is None
    assert reach.clear(Pose(thing, DOWN), opening=0.0) is None
    # What is held counts as part of the hand.
    held = Held(body, Pose(np.array([0.0, 0.0, 0.12]), DOWN))
    assert reach.clear(above.moved(np.array([0, 0, -0.03])), opening=0.04, held=held) is None


def test_looking_leaves_the_world_as_it_is(look):
    sight = look("libero_object/6")
    before = sight.data.qpos.copy()
    terrain = Terrain(sight)
    terrain.map(looking_down(np.zeros(3)), (0.02, 0.02), above=0.3, cell=0.01, without=int(sight.scene.goal.bodies[0]))
    Reach(sight).fits(int(sight.scene.goal.bodies[0]), Pose(np.array([0.3, 0.0, 0.5]), np.eye(3)))
    np.testing.assert_array_equal(sight.data.qpos, before)


@pytest.mark.parametrize("task", ["libero_object/6", "libero_spatial/0", "libero_goal/1", "libero_goal/6"])
def test_what_is_put_in_its_place_stays_and_meets_the_goal(look, task):
    sight = look(task)
    body = int(sight.scene.goal.bodies[0])
    places = Places(sight, Terrain(sight)).find(0, sight.body(body).rotation, roofed=False)
    assert places
    data = mujoco.MjData(sight.model)
    data.qpos[:] = sight.data.qpos
    place_body(data, sight.model, body, places[0].body.moved(np.array([0, 0, 0.004])))
    held = sight.scene.robot.arm_qpos
    for _ in range(250):
        data.qpos[held], data.qvel[sight.scene.robot.arm_dof] = sight.joints, 0.0
        mujoco.mj_step(sight.model, data)
    mujoco.mj_forward(sight.model, data)
    assert np.linalg.norm(data.xpos[body] - places[0].body.position) < 0.015
    views = kernel_arrays.make_data_arrays(sight.model, data)
    assert kernel.goal_reached(views, kernel_arrays.goal_arrays(sight.scene.goal))
    assert contacts_hold(sight.scene.goal, data)


def test_a_closed_drawer_is_no_place(look):
    sight = look("libero_goal/3")
    body = int(sight.scene.goal.bodies[0])
    assert not Places(sight, Terrain(sight)).find(0, sight.body(body).rotation, roofed=False)
