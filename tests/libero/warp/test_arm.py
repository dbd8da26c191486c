"""The arm in JAX against MuJoCo's kinematics, mass matrix and bias forces, at random joint positions and velocities."""

import jax
import mujoco
import numpy as np
import pytest
from warp_worlds import ROBOT, random_robots

from rlgen.core.errors import UserError
from rlgen.libero.warp.arm import arm_frames, grip_jacobian, grip_pose, inertia_and_bias, make_arm_constants

STATES = 20


@jax.jit
def arm_dynamics(arm, qpos, qvel):
    """Returns pose and Jacobian of the grip site, mass matrix and bias of the arm in every state."""

    def one(qpos, qvel):
        frames = arm_frames(arm, qpos)
        grip = grip_pose(arm, frames)
        return grip, grip_jacobian(frames, grip), *inertia_and_bias(arm, frames, qvel[np.array(arm.dofs)])

    return jax.vmap(one)(qpos, qvel)


@pytest.fixture(scope="module")
def pair(placeholder_scene):
    """Quantities of the same states by JAX and by MuJoCo, by name, `[STATES, ...]`."""
    scene, (qpos, qvel) = placeholder_scene, random_robots(placeholder_scene, STATES, 0)
    model, robot = scene.model, scene.robot
    arm = make_arm_constants(scene)
    grip, jacobian, mass, bias = arm_dynamics(arm, qpos, qvel)
    ours = {"position": grip.position + arm.base, "rotation": grip.rotation}
    ours |= {"jacobian": jacobian, "mass": mass, "bias": bias}
    rows, data = [], mujoco.MjData(model)
    for position, velocity in zip(qpos, qvel, strict=True):
        data.qpos[:ROBOT], data.qvel[:ROBOT] = position, velocity
        mujoco.mj_forward(model, data)
        linear, angular, mass = np.zeros((3, model.nv)), np.zeros((3, model.nv)), np.zeros((model.nv, model.nv))
        mujoco.mj_jacSite(model, data, linear, angular, robot.grip_site)
        mujoco.mj_fullM(model, mass, data.qM)
        jacobian = np.vstack([linear, angular])[:, robot.arm_dof]
        site = data.site_xpos[robot.grip_site].copy(), data.site_xmat[robot.grip_site].reshape(3, 3).copy()
        rows.append((*site, jacobian, mass[np.ix_(robot.arm_dof, robot.arm_dof)], data.qfrc_bias[robot.arm_dof]))
    names = ("position", "rotation", "jacobian", "mass", "bias")
    return ours, {name: np.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("position", 1e-6), ("rotation", 1e-6), ("jacobian", 2e-6), ("mass", 1e-5), ("bias", 1e-4)],
)
def test_the_arm_is_mujocos(pair, name, tolerance):
    ours, theirs = pair
    np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=tolerance)


def test_velocities_count_in_what_is_compared(pair, placeholder_scene):
    """Otherwise the bias would be gravity alone."""
    qpos, _ = random_robots(placeholder_scene, STATES, 0)
    arm = make_arm_constants(placeholder_scene)
    *_, still = arm_dynamics(arm, qpos, np.zeros_like(qpos))
    assert np.abs(still - pair[1]["bias"]).max(axis=0).min() > 0.05


def test_a_robot_without_seven_hinges_and_two_slides_is_refused(placeholder_scene):
    class Other:
        model = placeholder_scene.model
        robot = type("Robot", (), {"arm_qpos": np.arange(1, 8), "finger_qpos": np.array([7, 8])})

    with pytest.raises(UserError, match="expected seven hinges, two slides"):
        make_arm_constants(Other)
