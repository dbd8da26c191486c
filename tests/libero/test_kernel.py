"""Parts of the compiled control step against closed forms; the whole is compared in `test_benchmark_parity`."""

import copy

import mujoco
import numpy as np

from rlgen.libero.physics import kernel, kernel_arrays


def start_kernel(scene, state):
    kernel.link_mujoco()
    data = mujoco.MjData(scene.model)
    nq = scene.model.nq
    data.qpos[:], data.qvel[:] = state[1 : 1 + nq], state[1 + nq :]
    mujoco.mj_forward(scene.model, data)
    return data, kernel_arrays.make_data_arrays(scene.model, data), kernel_arrays.make_controller_state(scene)


def test_jacobian_and_inertia_equal_mujocos(real_scene):
    scene = real_scene
    data, arrays, _ = start_kernel(scene, scene.stored_states[1])
    mujoco.mj_forward(scene.model, data)
    position = data.site_xpos[scene.robot.grip_site]
    jacobian, mass = np.zeros((6, 7)), np.zeros((7, 7))
    kernel.arm_jacobian(position, arrays.xaxis, arrays.xanchor, scene.robot.arm_joint, jacobian)
    linear, angular = np.zeros((3, scene.model.nv)), np.zeros((3, scene.model.nv))
    mujoco.mj_jacSite(scene.model, data, linear, angular, scene.robot.grip_site)
    expected = np.vstack([linear, angular])[:, scene.robot.arm_dof]
    np.testing.assert_allclose(jacobian, expected, atol=1e-12)
    full = np.zeros((scene.model.nv, scene.model.nv))
    mujoco.mj_fullM(scene.model, full, data.qM)
    model = scene.model
    rows = model.M_rowadr, model.M_rownnz, model.M_colind
    kernel.arm_mass_matrix(arrays.inertia, *rows, scene.robot.arm_dof, mass)
    np.testing.assert_allclose(mass, full[np.ix_(scene.robot.arm_dof, scene.robot.arm_dof)], atol=1e-12)


def test_cholesky_solve_against_numpy():
    random = np.random.default_rng(0)
    root = random.normal(size=(6, 6))
    matrix, right = root @ root.T + np.eye(6), random.normal(size=6)
    factor, found = np.zeros((6, 6)), right.copy()
    kernel.cholesky(matrix, 6, factor)
    kernel.cholesky_solve(factor, 6, found)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right), rtol=1e-10)


def test_sleeping_islands_change_nothing_before_contact(placeholder_scene):
    constants = kernel_arrays.make_constants(placeholder_scene)
    ends = []
    for sleep in (False, True):
        model = copy.copy(placeholder_scene.model)
        if sleep:
            model.opt.enableflags |= int(mujoco.mjtEnableBit.mjENBL_SLEEP)
        data = mujoco.MjData(model)
        data.qpos[:] = placeholder_scene.stored_states[2][1 : 1 + model.nq]
        controller = kernel_arrays.make_controller_state(placeholder_scene)
        rows = np.zeros((30, placeholder_scene.stored_states.shape[1]))
        actions = np.tile([0.1, 0.2, 0.1, 0, 0, 0.05, -1], (30, 1))
        kernel.run_chunk(kernel_arrays.make_data_arrays(model, data), constants, controller, actions, 30, 0.0, rows)
        ends.append(data.qpos[:9].copy())
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-9)
