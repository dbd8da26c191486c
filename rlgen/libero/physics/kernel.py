"""A chunk of control steps in compiled code, without the interpreter: controller, gripper, physics, goal.

The controller is robosuite 1.4's operational-space controller (OSC_POSE) with position and orientation decoupled:

    tau = J^T [L_p f; L_o t] + bias + N^T M a

with the arm's Jacobian J and mass matrix M, the force f and the torque t of a spring and damper between end effector
and goal, the inertias L_p and L_o (inverses of the position and orientation blocks of J M^-1 J^T), MuJoCo's bias
forces, and the acceleration a of a posture term that acts in the null space (N^T) only. Of J and M only the seven
columns of the arm are computed.

Compiled code calls MuJoCo's `mj_step1` and `mj_step2` by name and reads and writes their data through the NumPy views
of the bindings. One physics pass per substep is enough: the torque is computed between the two calls.

All compiled code of a step is in this one file: Numba's cache looks only at the file of the function itself, and would
keep using the old version of a function from another file after that changed. Arguments are named tuples of arrays,
from `kernel_arrays`.
"""

import glob
import math
from pathlib import Path

import llvmlite.binding
import mujoco
import numpy as np
from numba import types
from numba.core.typing.templates import Signature

from rlgen.core.compiled import compiled
from rlgen.libero.scenes.goals import CONTAIN, STACKED, UNDER

_STEP = Signature(types.void, (types.uintp, types.uintp), recvr=None)
_mj_step1 = types.ExternalFunction("mj_step1", _STEP)
_mj_step2 = types.ExternalFunction("mj_step2", _STEP)
POSTURE_KP = 10.0
ARM = 7
# Lengths of the benchmark's goal predicates, metres: an object is in a region down to `CONTAIN_SLACK` below its floor,
# on a region from `UNDER_SLACK` below to `UNDER_HEIGHT` above its top, and on another object within `STACKED_REACH` of
# its center, seen from above.
CONTAIN_SLACK = 0.01
UNDER_SLACK = 0.005
UNDER_HEIGHT = 0.10
STACKED_REACH = 0.03


def link_mujoco() -> None:
    """Makes MuJoCo's functions known to compiled code, and silences its warnings; must be called before the kernel.

    MuJoCo would write the warnings to a file in the working directory. Divergence is also recorded in `MjData`.
    """
    mujoco.set_mju_user_warning(_ignore)
    folder = Path(mujoco.__file__).parent
    llvmlite.binding.load_library_permanently(sorted(glob.glob(str(folder / "libmujoco.so*")))[0])


def _ignore(warning: str) -> None:
    pass


@compiled()
def rotate_goal(delta, current, goal):
    """Sets the goal orientation to `current` rotated by an axis-angle vector.

    The rotation goes through a quaternion in single precision, as robosuite's does.

    Args:
      delta: axis times angle, radians, `[3]`, not zero.
      current: rotation matrix, `[3, 3]`.
      goal: output, rotation matrix `[3, 3]`.
    """
    angle = math.sqrt(delta[0] ** 2 + delta[1] ** 2 + delta[2] ** 2)
    quaternion = np.empty(4, np.float32)
    quaternion[0] = math.cos(angle / 2)
    for axis in range(3):
        quaternion[1 + axis] = delta[axis] / angle * math.sin(angle / 2)
    scale = math.sqrt(2.0 / np.dot(quaternion, quaternion))
    for k in range(4):
        quaternion[k] = quaternion[k] * scale
    w, x, y, z = quaternion
    turn = np.empty((3, 3))
    turn[0, 0], turn[0, 1], turn[0, 2] = 1.0 - y * y - z * z, x * y - z * w, x * z + y * w
    turn[1, 0], turn[1, 1], turn[1, 2] = x * y + z * w, 1.0 - x * x - z * z, y * z - x * w
    turn[2, 0], turn[2, 1], turn[2, 2] = x * z - y * w, y * z + x * w, 1.0 - x * x - y * y
    for row in range(3):
        for column in range(3):
            goal[row, column] = (
                turn[row, 0] * current[0, column]
                + turn[row, 1] * current[1, column]
                + turn[row, 2] * current[2, column]
            )


@compiled()
def arm_jacobian(position, axes, anchors, joints, jacobian):
    """Computes the Jacobian of a point that the arm's hinges move.

    Args:
      position: the point, metres, `[3]`.
      axes, anchors: of every joint of the model, in the world, `[joints, 3]`.
      joints: ids of the arm's joints, `[7]`.
      jacobian: output, `[6, 7]`: linear rows, then angular ones.
    """
    for column in range(ARM):
        axis, anchor = axes[joints[column]], anchors[joints[column]]
        rx, ry, rz = position[0] - anchor[0], position[1] - anchor[1], position[2] - anchor[2]
        jacobian[0, column] = axis[1] * rz - axis[2] * ry
        jacobian[1, column] = axis[2] * rx - axis[0] * rz
        jacobian[2, column] = axis[0] * ry - axis[1] * rx
        for row in range(3):
            jacobian[3 + row, column] = axis[row]


@compiled()
def arm_mass_matrix(sparse, addresses, counts, columns, dofs, mass):
    """Copies the arm's block out of MuJoCo's sparse mass matrix `M`, of which rows hold the lower triangle.

    Args:
      sparse: `M`.
      addresses: `M_rowadr`, address of each row.
      counts: `M_rownnz`, length of each row.
      columns: `M_colind`, column of each element.
      dofs: the arm's degrees of freedom, `[7]`.
      mass: output, `[7, 7]`.
    """
    for row in range(ARM):
        start = addresses[dofs[row]]
        for address in range(start, start + counts[dofs[row]]):
            for column in range(row + 1):
                if dofs[column] == columns[address]:
                    mass[row, column] = sparse[address]
                    mass[column, row] = sparse[address]


@compiled()
def cholesky(matrix, size, factor):
    """Computes the lower Cholesky factor of a symmetric positive definite matrix.

    Args:
      matrix: at least `[size, size]`.
      size: rows that are used.
      factor: output, its lower triangle.
    """
    for i in range(size):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            factor[i, j] = math.sqrt(max(total, 1e-300)) if i == j else total / factor[j, j]


@compiled()
def cholesky_solve(factor, size, vector):
    """Solves a linear system in place, given the Cholesky factor of its matrix.

    Args:
      factor: from `cholesky`.
      size: rows that are used.
      vector: right side, and output.
    """
    for i in range(size):
        for k in range(i):
            vector[i] -= factor[i, k] * vector[k]
        vector[i] /= factor[i, i]
    for i in range(size - 1, -1, -1):
        for k in range(i + 1, size):
            vector[i] -= factor[k, i] * vector[k]
        vector[i] /= factor[i, i]


@compiled()
def operational_inertia(jacobian, inverse, first, size, matrix):
    """Computes the block J M^-1 J^T of some rows, the inverse of the operational-space inertia.

    Args:
      jacobian: J, `[6, 7]`.
      inverse: M^-1 J^T, `[7, 6]`.
      first, size: rows `first` to `first + size`.
      matrix: output, at least `[size, size]`.
    """
    for i in range(size):
        for j in range(size):
            total = 0.0
            for k in range(ARM):
                total += jacobian[first + i, k] * inverse[k, first + j]
            matrix[i, j] = total


@compiled()
def arm_torque(
    goal_position,
    goal_rotation,
    position,
    rotation,
    joints,
    velocities,
    posture,
    kp,
    kd,
    jacobian,
    mass,
    bias,
    torque,
):
    """Computes the OSC_POSE torque of one substep; the equation is in the module's docstring.

    Args:
      goal_position, goal_rotation: the goal, metres `[3]` and rotation matrix `[3, 3]`.
      position, rotation: of the grip site, the same.
      joints, velocities: of the arm, radians and radians/s, `[7]`.
      posture: joint positions that the null-space term pulls to, radians, `[7]`.
      kp, kd: stiffness and damping of the end effector.
      jacobian, mass, bias: of the arm, `[6, 7]`, `[7, 7]`, `[7]`.
      torque: output, N m, not clipped, `[7]`.
    """
    wrench = np.zeros(6)
    for row in range(6):
        velocity = 0.0
        for k in range(ARM):
            velocity += jacobian[row, k] * velocities[k]
        wrench[row] = -kd * velocity
    for row in range(3):
        wrench[row] += kp * (goal_position[row] - position[row])
    for column in range(3):
        a, b = rotation[:, column], goal_rotation[:, column]
        wrench[3] += 0.5 * kp * (a[1] * b[2] - a[2] * b[1])
        wrench[4] += 0.5 * kp * (a[2] * b[0] - a[0] * b[2])
        wrench[5] += 0.5 * kp * (a[0] * b[1] - a[1] * b[0])

    factor = np.zeros((ARM, ARM))
    cholesky(mass, ARM, factor)
    inverse = np.empty((ARM, 6))
    column_vector = np.empty(ARM)
    for row in range(6):
        for k in range(ARM):
            column_vector[k] = jacobian[row, k]
        cholesky_solve(factor, ARM, column_vector)
        for k in range(ARM):
            inverse[k, row] = column_vector[k]

    inertia, inertia_factor = np.zeros((6, 6)), np.zeros((6, 6))
    for first in (0, 3):
        operational_inertia(jacobian, inverse, first, 3, inertia)
        cholesky(inertia, 3, inertia_factor)
        cholesky_solve(inertia_factor, 3, wrench[first : first + 3])

    # N^T M a = M a - J^T (J M^-1 J^T)^-1 J a: the posture term without what it does to the end effector.
    acceleration = np.empty(ARM)
    for k in range(ARM):
        damping = 2.0 * math.sqrt(POSTURE_KP) * velocities[k]
        acceleration[k] = POSTURE_KP * (posture[k] - joints[k]) - damping
    projected = np.zeros(6)
    for row in range(6):
        for k in range(ARM):
            projected[row] += jacobian[row, k] * acceleration[k]
    operational_inertia(jacobian, inverse, 0, 6, inertia)
    cholesky(inertia, 6, inertia_factor)
    cholesky_solve(inertia_factor, 6, projected)
    for k in range(ARM):
        total = bias[k]
        for row in range(6):
            total += jacobian[row, k] * (wrench[row] - projected[row])
        for j in range(ARM):
            total += mass[k, j] * acceleration[j]
        torque[k] = total


@compiled()
def _contains(position, center, rotation, size):
    """Returns whether a point is in a site's box, rotated as the benchmark rotates it."""
    for axis in range(3):
        reach = abs(rotation[axis, 0] * size[0] + rotation[axis, 1] * size[1] + rotation[axis, 2] * size[2])
        below = CONTAIN_SLACK if axis == 2 else 0.0
        if not center[axis] - reach - below < position[axis] < center[axis] + reach:
            return False
    return True


@compiled()
def _lies_on(position, center, rotation, size):
    """Returns whether a point is above a site's box."""
    # Multiplied by the rotation, where its inverse would be expected, as in the benchmark.
    way = np.empty(3)
    for axis in range(3):
        way[axis] = 0.0
        for k in range(3):
            way[axis] += rotation[axis, k] * (position[k] - center[k])
    low, high = size[2] - UNDER_SLACK, size[2] + UNDER_HEIGHT
    return low < way[2] < high and abs(way[0]) < size[0] and abs(way[1]) < size[1]


@compiled()
def _stacked(position, below):
    """Returns whether a point is not lower than the one at `below`, and near it seen from above."""
    x, y = below[0] - position[0], below[1] - position[1]
    return below[2] <= position[2] and math.sqrt(x * x + y * y) < STACKED_REACH


@compiled()
def _joints_meet(qpos, addresses, threshold, above, inclusive, every):
    """Returns whether one joint meets a condition, or all do where `every` is set."""
    for address in addresses:
        if address < 0:
            break
        value = qpos[address]
        meets = (value > threshold) == above if value != threshold else inclusive
        if meets != every:
            return meets
    return every


@compiled()
def goal_reached(arrays, goal):
    """Returns whether a goal's atoms hold, contacts aside, as the benchmark checks them.

    Args:
      arrays: `DataArrays`; poses are those of the last physics pass.
      goal: `GoalArrays`.
    """
    for atom in range(len(goal.kinds)):
        kind, target = goal.kinds[atom], goal.targets[atom]
        position = arrays.xpos[goal.bodies[atom]]
        if kind == CONTAIN:
            holds = _contains(position, arrays.site_xpos[target], arrays.site_xmat[target], goal.sizes[atom])
        elif kind == UNDER:
            holds = _lies_on(position, arrays.site_xpos[target], arrays.site_xmat[target], goal.sizes[atom])
        elif kind == STACKED:
            holds = _stacked(position, arrays.xpos[target])
        else:
            holds = _joints_meet(
                arrays.qpos,
                goal.joints[atom],
                goal.thresholds[atom],
                goal.above[atom],
                goal.inclusive[atom],
                goal.every[atom],
            )
        if not holds:
            return False
    return True


@compiled()
def _set_gripper(arrays, constants, controller, command):
    """Moves the internal command towards the sign of the action, and scales it to the range of each finger."""
    sign = np.sign(command)
    for finger in range(2):
        direction = -1.0 if finger == 0 else 1.0
        moved = controller.gripper[finger] + direction * constants.gripper_speed * sign
        controller.gripper[finger] = min(max(moved, -1.0), 1.0)
        actuator = constants.finger_actuator[finger]
        low, high = constants.control_low[actuator], constants.control_high[actuator]
        arrays.ctrl[actuator] = 0.5 * (high + low) + 0.5 * (high - low) * controller.gripper[finger]


@compiled()
def control_step(arrays, constants, controller, action):
    """Runs one control step (50 ms): sets the goal once, and the torque at every substep.

    Args:
      arrays: `DataArrays` of the environment.
      constants: `Constants` of its scene.
      controller: `ControllerState`, changed in place.
      action: `[7]`, clipped to [-1, 1].
    """
    goal_position, scaled = np.empty(3), np.empty(6)
    jacobian, mass, torque = np.empty((6, 7)), np.zeros((7, 7)), np.empty(7)
    for k in range(6):
        scaled[k] = min(max(action[k], -1.0), 1.0) * constants.output_max[k]
    for substep in range(constants.substeps):
        _mj_step1(arrays.model, arrays.data)
        position, rotation = arrays.site_xpos[constants.grip_site], arrays.site_xmat[constants.grip_site]
        if substep == 0:
            for k in range(3):
                goal_position[k] = position[k] + scaled[k]
            if scaled[3] != 0.0 or scaled[4] != 0.0 or scaled[5] != 0.0:
                rotate_goal(scaled[3:], rotation, controller.goal_rotation)
        arm_jacobian(position, arrays.xaxis, arrays.xanchor, constants.arm_joint, jacobian)
        rows = constants.inertia_address, constants.inertia_count, constants.inertia_column
        arm_mass_matrix(arrays.inertia, *rows, constants.arm_dof, mass)
        arm_torque(
            goal_position,
            controller.goal_rotation,
            position,
            rotation,
            arrays.qpos[constants.arm_qpos],
            arrays.qvel[constants.arm_dof],
            constants.posture,
            constants.kp,
            constants.kd,
            jacobian,
            mass,
            arrays.bias[constants.arm_dof],
            torque,
        )
        for k in range(7):
            actuator = constants.arm_actuator[k]
            low, high = constants.control_low[actuator], constants.control_high[actuator]
            arrays.ctrl[actuator] = min(max(torque[k], low), high)
        _set_gripper(arrays, constants, controller, action[6])
        # The benchmark samples its sensors in the last substep but one, with the poses of the pass before it.
        sampled = substep == constants.substeps - 2
        if sampled:
            controller.sensed_pose[:] = arrays.qpos
        _mj_step2(arrays.model, arrays.data)
        if sampled:
            controller.sensed_qpos[:] = arrays.qpos
            controller.sensed_qvel[:] = arrays.qvel


@compiled()
def run_chunk(arrays, constants, controller, actions, until_goal, time, states):
    """Runs the control steps of a chunk, optionally until the goal is reached (contacts aside).

    Args:
      arrays: `DataArrays` of the environment.
      constants: `Constants` of its scene.
      controller: `ControllerState`, changed in place.
      actions: `[H, 7]`.
      until_goal: True to stop where the goal is reached.
      time: simulated seconds before the chunk.
      states: output, `[H, D]`: time, qpos, qvel after each step.

    Returns:
      Control steps taken, and whether the chunk stopped at the goal.
    """
    nq, nv = len(arrays.qpos), len(arrays.qvel)
    for step in range(len(actions)):
        control_step(arrays, constants, controller, actions[step])
        states[step, 0] = time + (step + 1) * constants.substeps * constants.timestep
        states[step, 1 : 1 + nq] = arrays.qpos
        states[step, 1 + nq : 1 + nq + nv] = arrays.qvel
        if until_goal and goal_reached(arrays, constants.goal):
            return step + 1, True
    return len(actions), False
