"""The compiled control step against the benchmark's own environment and against closed forms."""

import copy

import mujoco
import numpy as np
import pytest
from shared import shared_dir

from rlgen.libero import kernel
from rlgen.libero.observe import Observer
from rlgen.libero.predicates import goal_holds


@pytest.fixture(scope="module")
def official(tmp_path_factory, real_scene):
    """The benchmark's environment of the butter task."""
    from rlgen.libero.build import _official_environment

    assets = str(shared_dir() / "libero" / "assets")
    env = _official_environment(real_scene.task, assets, tmp_path_factory.mktemp("libero"))
    yield env
    env.close()


def start_official(env, state):
    env.reset()
    env.set_init_state(state)
    # The controller remembers the pose before the state was set; the first goal would be built from it.
    env.robots[0].controller.update(force=True)


def start_kernel(scene, state):
    kernel.link_mujoco()
    data = mujoco.MjData(scene.model)
    nq = scene.model.nq
    data.qpos[:], data.qvel[:] = state[1 : 1 + nq], state[1 + nq :]
    mujoco.mj_forward(scene.model, data)
    return data, kernel.make_views(scene.model, data), kernel.make_controller_state(scene)


def random_actions(count, seed):
    random = np.random.default_rng(seed)
    actions = np.clip(random.normal(0, 0.5, (count, 7)), -1, 1)
    actions[:, 6] = random.choice([-1.0, 1.0], count)
    return actions


def test_one_control_step_equals_the_official_one(real_scene, official):
    constants = kernel.make_constants(real_scene)
    for index in (0, 17, 43):
        action = random_actions(1, index)
        start_official(official, real_scene.stored[index])
        official.step(action[0])
        data, views, memory = start_kernel(real_scene, real_scene.stored[index])
        rows = np.zeros((1, real_scene.stored.shape[1]))
        kernel.run_chunk(views, constants, memory, action, 1, 0.0, rows)
        np.testing.assert_allclose(data.qpos, official.sim.data.qpos, rtol=0, atol=1e-9)
        assert rows[0, 0] == pytest.approx(official.sim.data.time, abs=1e-12)


def test_twenty_free_steps_stay_with_the_official_ones(real_scene, official):
    constants = kernel.make_constants(real_scene)
    actions = random_actions(20, 5) * np.array([0.3] * 6 + [1.0])
    actions[:, 2] = np.abs(actions[:, 2])
    start_official(official, real_scene.stored[3])
    data, views, memory = start_kernel(real_scene, real_scene.stored[3])
    rows = np.zeros((20, real_scene.stored.shape[1]))
    kernel.run_chunk(views, constants, memory, actions, 20, 0.0, rows)
    for action in actions:
        official.step(action)
    robot = slice(0, 9)
    np.testing.assert_allclose(data.qpos[robot], official.sim.data.qpos[robot], rtol=0, atol=1e-6)


def test_observed_robot_state_is_the_official_one(real_scene, official):
    start_official(official, real_scene.stored[8])
    seen = official.env._get_observations(force_update=True)
    robot = Observer(real_scene)(real_scene.stored[8:9]).robot
    from robosuite.utils.transform_utils import quat2axisangle

    np.testing.assert_allclose(robot.position[0], seen["robot0_eef_pos"], atol=1e-9)
    np.testing.assert_allclose(robot.axis_angle[0], quat2axisangle(seen["robot0_eef_quat"]), atol=1e-6)
    np.testing.assert_allclose(robot.gripper[0], seen["robot0_gripper_qpos"], atol=1e-12)
    np.testing.assert_allclose(robot.joints[0], seen["robot0_joint_pos"], atol=1e-12)


def test_goal_equals_the_official_check_around_the_basket(real_scene, official):
    """Butter put at random in and around the basket, which is itself turned."""
    constants = kernel.make_constants(real_scene)
    random = np.random.default_rng(0)
    start_official(official, real_scene.stored[0])
    data, views, _ = start_kernel(real_scene, real_scene.stored[0])
    base = data.qpos.copy()
    outcomes = []
    for _ in range(200):
        qpos = base.copy()
        qpos[16:19] += random.normal(0, 0.02, 3)
        turned = random.normal(0, 1, 4)
        qpos[19:23] = turned / np.linalg.norm(turned)
        qpos[9:12] = qpos[16:19] + random.normal(0, 0.05, 3)
        data.qpos[:] = qpos
        mujoco.mj_kinematics(real_scene.model, data)
        official.sim.data.qpos[:] = qpos
        official.sim.forward()
        truth = bool(official.check_success())
        assert kernel.goal_reached(views, constants) == truth
        assert goal_holds(real_scene.goal, data) == truth
        outcomes.append(truth)
    assert 20 < sum(outcomes) < 180, "the poses should fall on both sides of the goal"


def test_jacobian_and_inertia_equal_mujocos(real_scene):
    scene = real_scene
    data, views, _ = start_kernel(scene, scene.stored[1])
    mujoco.mj_forward(scene.model, data)
    position = data.site_xpos[scene.robot.grip_site]
    jacobian, mass = np.zeros((6, 7)), np.zeros((7, 7))
    kernel.arm_jacobian(position, views.xaxis, views.xanchor, scene.robot.arm_joint, jacobian)
    linear, angular = np.zeros((3, scene.model.nv)), np.zeros((3, scene.model.nv))
    mujoco.mj_jacSite(scene.model, data, linear, angular, scene.robot.grip_site)
    expected = np.vstack([linear, angular])[:, scene.robot.arm_dof]
    np.testing.assert_allclose(jacobian, expected, atol=1e-12)
    full = np.zeros((scene.model.nv, scene.model.nv))
    mujoco.mj_fullM(scene.model, full, data.qM)
    kernel.arm_mass_matrix(views.inertia, scene.model.dof_Madr, scene.model.dof_parentid, scene.robot.arm_dof, mass)
    np.testing.assert_allclose(mass, full[np.ix_(scene.robot.arm_dof, scene.robot.arm_dof)], atol=1e-12)


def test_cholesky_solve_against_numpy():
    random = np.random.default_rng(0)
    root = random.normal(size=(6, 6))
    matrix, right = root @ root.T + np.eye(6), random.normal(size=6)
    factor, found = np.zeros((6, 6)), right.copy()
    kernel.cholesky(matrix, 6, factor)
    kernel.cholesky_solve(factor, 6, found)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right), rtol=1e-10)


def test_sleeping_islands_change_nothing_before_contact(standin_scene):
    constants = kernel.make_constants(standin_scene)
    ends = []
    for sleep in (False, True):
        model = copy.copy(standin_scene.model)
        if sleep:
            model.opt.enableflags |= int(mujoco.mjtEnableBit.mjENBL_SLEEP)
        data = mujoco.MjData(model)
        data.qpos[:] = standin_scene.stored[2][1 : 1 + model.nq]
        memory = kernel.make_controller_state(standin_scene)
        rows = np.zeros((30, standin_scene.stored.shape[1]))
        actions = np.tile([0.1, 0.2, 0.1, 0, 0, 0.05, -1], (30, 1))
        kernel.run_chunk(kernel.make_views(model, data), constants, memory, actions, 30, 0.0, rows)
        ends.append(data.qpos[:9].copy())
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-9)
