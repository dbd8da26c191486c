"""Drawers that must close over what was put in, and the ways into them."""

import mujoco
import numpy as np
import pytest

from rlgen.demos.scripted.geometry import Pose, closes, closing_joints, joint_position, pose_while_closing
from rlgen.demos.scripted.motion import Style
from rlgen.demos.scripted.planners import Planners
from rlgen.demos.scripted.planning.entries import SIDEWAYS, UPWARDS, entry_line, find_entries, fits_closed
from rlgen.demos.scripted.planning.grasps import Grasp
from rlgen.demos.scripted.planning.plans import Plan
from rlgen.demos.scripted.skills import SkillContext

# The bowl goes into the lowest drawer, which is closed then.
TASK, BOWL, DRAWER = "libero_10/3", 1, 0


@pytest.fixture
def context(scene_of, settled) -> SkillContext:
    planners = Planners(scene_of(TASK))
    planners.state.update(settled(planners.state.scene))
    return planners.context(Style(), np.random.default_rng(0), {})


def test_only_drawers_that_the_goal_wants_closed_count(scene_of):
    scene = scene_of(TASK)
    assert closes(scene, DRAWER) and not closes(scene, BOWL)
    [joint] = closing_joints(scene, BOWL)
    assert "bottom" in scene.model.joint(joint).name
    assert not closing_joints(scene_of("libero_goal/3"), 0)


@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_a_drawer_takes_its_content_along(context, fraction):
    state, [joint] = context.state, closing_joints(context.state.scene, BOWL)
    site = int(state.scene.goal.targets[BOWL])
    before = Pose(state.data.site_xpos[site].copy(), state.data.site_xmat[site].reshape(3, 3).copy())
    pose, (moved, position) = pose_while_closing(state, BOWL, joint, before, fraction)
    data = mujoco.MjData(state.model)
    data.qpos[:] = state.data.qpos
    data.qpos[state.model.jnt_qposadr[moved]] = position
    mujoco.mj_kinematics(state.model, data)
    assert position == pytest.approx((1 - fraction) * joint_position(state, joint))
    np.testing.assert_allclose(pose.position, data.site_xpos[site], atol=1e-9)
    assert np.linalg.norm(pose.position - before.position) > 0.05


def test_an_object_has_its_place_where_the_drawer_closes_over_it(context):
    [joint] = closing_joints(context.state.scene, BOWL)
    body = int(context.state.scene.goal.bodies[BOWL])
    entries = find_entries(context, BOWL, context.state.body_pose(body).rotation)
    assert entries.pairs
    place, _ = entries.pairs[0]
    assert fits_closed(context, BOWL, joint, place)
    # As high as the drawer above, it keeps this one open.
    assert not fits_closed(context, BOWL, joint, place.moved(np.array([0, 0, 0.06])))


@pytest.mark.unit
def test_what_comes_from_a_side_is_carried_above_the_floor_to_its_release():
    grasp = Grasp(Pose(np.zeros(3), np.eye(3)), 0.0)
    place = Pose(np.array([0.1, 0.2, 0.9]), np.eye(3))
    from_side = Plan(grasp, place, SIDEWAYS[0], 0.03)
    lift = entry_line(SIDEWAYS[0])[2]
    np.testing.assert_allclose(from_side.release_pose.position, place.position + lift + 0.03 * np.eye(3)[0])
    assert lift[2] > 0 and from_side.from_side
    from_above = Plan(grasp, place, UPWARDS, 0.02)
    np.testing.assert_allclose(from_above.release_pose.position, [0.1, 0.2, 0.92])
    assert not from_above.from_side
