"""The controller in JAX, in single precision, against the compiled control step in double precision."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from warp_worlds import ROBOT, few, random_robots, single

from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.warp.controller import (
    control,
    least_norm,
    make_controller_constants,
    set_goal,
    start_controller,
    whiten,
    without,
)

STATES, TORQUE = 64, 1e-3

goal_of_step, substep = jax.jit(set_goal), jax.jit(control)


@jax.jit
def first_substep(constants, state, qpos, qvel, action):
    """Returns the state and the controls of a control step's first substep, of all worlds."""

    def one(state, qpos, qvel, action):
        return control(constants, set_goal(constants, state, qpos, action), qpos, qvel)

    return jax.vmap(one)(state, qpos, qvel, action)


def random_actions(count, seed):
    """Returns actions, some out of range, a half without a turn, a third that leave the fingers as they are."""
    actions = np.random.default_rng(seed).uniform(-1.3, 1.3, (count, 7))
    actions[::2, 3:6] = 0.0
    actions[::3, 6] = 0.0
    return single(actions)


def worlds(tree, count):
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *jnp.shape(leaf))), tree)


class CompiledSubstep:
    """The compiled control step, cut to one substep, of `STATES` controllers."""

    def __init__(self, scene):
        kernel.link_mujoco()
        self._scene, self._data = scene, mujoco.MjData(scene.model)
        self._arrays = kernel_arrays.make_data_arrays(scene.model, self._data)
        self._constants = kernel_arrays.make_constants(scene)._replace(substeps=1)
        self.controllers = [kernel_arrays.make_controller_state(scene) for _ in range(STATES)]

    def __call__(self, qpos, qvel, actions):
        """Returns the controls, `[STATES, nu]`."""
        data, scene = self._data, self._scene
        controls = np.zeros((STATES, scene.model.nu))
        for row in range(STATES):
            mujoco.mj_resetData(scene.model, data)
            data.qpos[:] = scene.stored_states[row % len(scene.stored_states), 1 : 1 + scene.model.nq]
            data.qpos[:ROBOT], data.qvel[:ROBOT] = qpos[row], qvel[row]
            kernel.control_step(self._arrays, self._constants, self.controllers[row], actions[row])
            controls[row] = data.ctrl
        return controls


@pytest.mark.parametrize("task", few())
def test_torque_and_fingers_are_those_of_the_compiled_control_step(task, real_assets, cache, record_property):
    """Two control steps of one substep each, from random joint positions and velocities, nearly singular ones too."""
    scene = load_scene(task, real_assets, cache)
    exact, constants = CompiledSubstep(scene), make_controller_constants(scene)
    state = worlds(start_controller(constants), STATES)
    arm, fingers, worst = scene.robot.arm_actuator, scene.robot.finger_actuator, []
    for seed in (task.index, 1000 + task.index):
        (qpos, qvel), actions = random_robots(scene, STATES, seed), random_actions(STATES, seed)
        expected = exact(qpos, qvel, actions)
        state, controls = first_substep(constants, state, qpos, qvel, actions)
        errors = np.abs(controls - expected)
        worst.append(float(errors[:, arm].max()))
        assert errors[:, arm].max() < TORQUE and errors[:, fingers].max() < 1e-8
        # Not all torques are at their limits, where any controller would give the same.
        limits = scene.model.actuator_ctrlrange[arm, 1]
        assert np.mean(np.abs(expected[:, arm]) < limits - 1e-6) > 0.2
    record_property("largest error of torque, N m", max(worst))
    for ours, name in ((state.goal.main.rotation, "goal_rotation"), (state.gripper, "gripper")):
        theirs = np.stack([getattr(controller, name) for controller in exact.controllers])
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_control_steps_are_the_compiled_ones(placeholder_scene):
    """The goal is set once, torque and fingers 25 times; after three control steps all joints are where they were."""
    kernel.link_mujoco()
    scene = placeholder_scene
    model, (ours, theirs) = scene.model, (mujoco.MjData(scene.model) for _ in range(2))
    for data in (ours, theirs):
        data.qpos[:] = scene.stored_states[0, 1 : 1 + model.nq]
    actions = np.array(
        [[0.3, -0.2, 0.5, 0.0, 0.0, 0.0, 1.0], [0.0, 0.4, 0, 0.1, 0.2, -0.3, -1.0], [0, 0, 0.1, 0, 0, 0, 0]]
    )
    arrays, compiled = kernel_arrays.make_data_arrays(model, theirs), kernel_arrays.make_constants(scene)
    controller = kernel_arrays.make_controller_state(scene)
    constants = make_controller_constants(scene)
    state = start_controller(constants)
    for action in actions:
        kernel.control_step(arrays, compiled, controller, action)
        state = goal_of_step(constants, state, ours.qpos.copy(), action)
        for _ in range(constants.substeps):
            state, ours.ctrl[:] = substep(constants, state, ours.qpos.copy(), ours.qvel.copy())
            mujoco.mj_step(model, ours)
        np.testing.assert_allclose(ours.qpos[:ROBOT], theirs.qpos[:ROBOT], rtol=0, atol=1e-6)
        np.testing.assert_allclose(state.goal.main.rotation, controller.goal_rotation, rtol=0, atol=1e-6)
        np.testing.assert_allclose(state.gripper, controller.gripper, rtol=0, atol=1e-6)
    moved = ours.qpos[:ROBOT] - scene.stored_states[0, 1 : 1 + ROBOT]
    assert np.abs(moved[:7]).max() > 0.02 and np.abs(moved[7:]).min() > 1e-4


def test_the_gripper_command_ends_at_its_bounds_and_zero_keeps_it(placeholder_scene):
    constants = make_controller_constants(placeholder_scene)
    state, seen, model = start_controller(constants), [], placeholder_scene.model
    qpos, qvel = placeholder_scene.stored_states[0, 1 : 1 + model.nq], np.zeros(model.nv)
    for command in (1.0, 0.0, -0.2):
        state = goal_of_step(constants, state, qpos, np.array([0, 0, 0, 0, 0, 0, command]))
        for _ in range(210):
            state, controls = substep(constants, state, qpos, qvel)
        seen.append((np.asarray(state.gripper).tolist(), np.asarray(controls)[-2:].tolist()))
    closed, kept, opened = seen
    assert closed[0] == [-1.0, 1.0] and kept == closed and opened[0] == [1.0, -1.0]
    np.testing.assert_allclose(closed[1], [0.0, 0.0], atol=1e-8)
    np.testing.assert_allclose(opened[1], [0.04, -0.04], atol=1e-8)


def test_the_shortest_solution_and_what_is_orthogonal_are_those_of_the_pseudoinverse():
    """With columns that are nearly dependent: 3e3 times longer in one direction than in another."""
    random = np.random.default_rng(0)
    left, _ = np.linalg.qr(random.normal(size=(7, 7)))
    right, _ = np.linalg.qr(random.normal(size=(6, 6)))
    columns = single((left[:, :6] * np.geomspace(1.0, 3e-4, 6)) @ right)
    vector = single(random.normal(size=7))
    inverse = np.linalg.pinv(columns)
    expected = vector - columns @ (inverse @ vector)
    np.testing.assert_allclose(jax.jit(without)(columns, vector), expected, rtol=0, atol=1e-3)
    shares = columns.T @ vector
    np.testing.assert_allclose(jax.jit(least_norm)(columns, shares), inverse.T @ shares, rtol=0, atol=1e-3)


def test_whitening_divides_by_the_cholesky_factor():
    root, columns = np.random.default_rng(1).normal(size=(2, 7, 7))
    mass = root @ root.T + np.eye(7)
    factor, whitened = jax.jit(whiten)(mass, columns[:, :6])
    np.testing.assert_allclose(factor, np.linalg.cholesky(mass), rtol=0, atol=1e-5)
    np.testing.assert_allclose(whitened, np.linalg.solve(np.linalg.cholesky(mass), columns[:, :6]), rtol=0, atol=1e-5)
