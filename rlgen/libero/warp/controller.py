"""The controller of a control step in JAX: operational-space torque (OSC_POSE) and gripper.

The equations are those of the compiled control step, `physics.kernel`, which names their terms. Here they are solved
in whitened joint space: with M = L L^T and W = L^-1 J^T, the torque of a force f is L u, where u is the shortest vector
with W_p^T u = f, and the posture term is L times what is left of L^T a orthogonal to W. No matrix is inverted, and no
product J M^-1 J^T is formed.

Joint positions, velocities and torque are of single precision, but the Jacobian and all that is divided by it are
computed in double precision, with goals and constants that are kept as pairs (`Parts`): refining a solution would not
help, because the error is in J before; in single precision throughout, 0.5 N m was seen. Mass matrix and bias, which
are most of the work, are of single precision.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from rlgen.libero.physics.kernel import POSTURE_KP
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.warp.arm import (
    ARM,
    ArmConstants,
    GripPose,
    arm_frames,
    grip_jacobian,
    grip_pose,
    inertia_and_bias,
    make_arm_constants,
)
from rlgen.libero.warp.rotations import cross, dot, product


class Parts(NamedTuple):
    """A pytree of double precision as two of single precision, whose sum it is to 48 bits."""

    main: Any
    rest: Any


def split(tree: Any) -> Parts:
    """Returns a pytree of arrays of double precision as two of single precision.

    Args:
      tree: arrays of NumPy, or of a program where double precision is enabled.
    """
    with jax.enable_x64(True):
        main = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)
        rest = jax.tree.map(lambda leaf, part: jnp.asarray(leaf - part.astype(leaf.dtype), jnp.float32), tree, main)
    return Parts(main, rest)


def join(parts: Parts) -> Any:
    """Returns the sums; only where double precision is enabled (`jax.enable_x64`)."""
    return jax.tree.map(lambda main, rest: main.astype(jnp.float64) + rest.astype(jnp.float64), *parts)


@struct.dataclass
class ControllerConstants:
    """Constants of controller and gripper.

    Attributes:
      arm_actuators, finger_actuators: indices into ctrl.
      substeps: physics steps in a control step.
      arm: of the arm.
      kp, kd, output_max, gripper_speed: as of `scene.Control`.
      posture: joint positions that the null-space term pulls to, radians.
      initial_orientation: orientation goal at reset, rotation matrix.
      control_low, control_high: range of each actuator.
      rest: what rounding took from these numbers; None in itself.
    """

    arm_actuators: tuple[int, ...] = struct.field(pytree_node=False)
    finger_actuators: tuple[int, ...] = struct.field(pytree_node=False)
    substeps: int = struct.field(pytree_node=False)
    arm: ArmConstants
    kp: Float[Array, ""]
    kd: Float[Array, ""]
    output_max: Float[Array, "6"]
    gripper_speed: Float[Array, ""]
    posture: Float[Array, "7"]
    initial_orientation: Float[Array, "3 3"]
    control_low: Float[Array, " nu"]
    control_high: Float[Array, " nu"]
    rest: "ControllerConstants | None" = None


@struct.dataclass
class ControlState:
    """State of the controller between substeps.

    Attributes:
      goal: position relative to the arm's base, metres; rotation matrix in the world, kept until an action turns.
      gripper: internal command of each finger, in [-1, 1].
      gripper_sign: of the action: 1 closes, -1 opens, 0 leaves the fingers as they are.
    """

    goal: Parts
    gripper: Float[Array, "2"]
    gripper_sign: Float[Array, ""]


def make_controller_constants(scene: Scene) -> ControllerConstants:
    """Returns the constants of a scene's controller."""
    control, robot, ranges = scene.control, scene.robot, scene.model.actuator_ctrlrange
    constants = ControllerConstants(
        arm_actuators=tuple(robot.arm_actuator.tolist()),
        finger_actuators=tuple(robot.finger_actuator.tolist()),
        substeps=control.substeps,
        arm=make_arm_constants(scene),
        kp=np.asarray(control.kp),
        kd=np.asarray(control.kd),
        output_max=np.asarray(control.output_max),
        gripper_speed=np.asarray(control.gripper_speed),
        posture=control.initial_joints,
        initial_orientation=control.initial_orientation,
        control_low=ranges[:, 0],
        control_high=ranges[:, 1],
    )
    main, rest = split(constants)
    return main.replace(rest=rest)


def _exact(constants: ControllerConstants) -> ControllerConstants:
    """Returns the constants in double precision, where it is enabled."""
    return join(Parts(constants.replace(rest=None), constants.rest))


def start_controller(constants: ControllerConstants) -> ControlState:
    """Returns the controller as it is after a reset; the first action sets the position goal."""
    zeros = jnp.zeros((3,), jnp.float32)
    first = (GripPose(zeros, one.initial_orientation) for one in (constants, constants.rest))
    return ControlState(Parts(*first), zeros[:2], zeros[0])


def set_goal(
    constants: ControllerConstants, state: ControlState, qpos: Float[Array, " nq"], action: Float[Array, "7"]
) -> ControlState:
    """Sets the goal of a control step, before its first substep.

    Args:
      constants: of the scene.
      state: after the control step before.
      qpos: joint positions of the whole scene, at the start of the control step.
      action: clipped to [-1, 1]; of the last number the sign counts.
    """
    with jax.enable_x64(True):
        exact, old = _exact(constants), join(state.goal)
        scaled = jnp.clip(action[:6].astype(jnp.float64), -1.0, 1.0) * exact.output_max
        grip, turn = grip_pose(exact.arm, arm_frames(exact.arm, qpos.astype(jnp.float64))), scaled[3:]
        turned = product(_turn(turn), grip.rotation)
        rotation = jnp.where(jnp.any(turn != 0.0), turned, old.rotation)
        goal = split(GripPose(grip.position + scaled[:3], rotation))
    return state.replace(goal=goal, gripper_sign=jnp.sign(action[6]))


def _turn(axis_angle: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Returns the matrix of a rotation, through the quaternion of its half angle; any matrix for a rotation by 0."""
    angle = jnp.sqrt(jnp.maximum(dot(axis_angle, axis_angle), 1e-30))
    vector = axis_angle / angle * jnp.sin(0.5 * angle)
    scalar = jnp.cos(0.5 * angle)
    scale = math.sqrt(2.0) / jnp.sqrt(scalar**2 + dot(vector, vector))
    w, x, y, z = scale * scalar, scale * vector[0], scale * vector[1], scale * vector[2]
    rows = (
        (1.0 - y * y - z * z, x * y - z * w, x * z + y * w),
        (x * y + z * w, 1.0 - x * x - z * z, y * z - x * w),
        (x * z - y * w, y * z + x * w, 1.0 - x * x - y * y),
    )
    return jnp.stack([jnp.stack(row) for row in rows])


def control(
    constants: ControllerConstants, state: ControlState, qpos: Float[Array, " nq"], qvel: Float[Array, " nv"]
) -> tuple[ControlState, Float[Array, " nu"]]:
    """Computes the controls of a substep, for arm and fingers.

    Args:
      constants: of the scene.
      state: after `set_goal` or the substep before.
      qpos: joint positions of the whole scene, before the substep.
      qvel: joint velocities of the whole scene, before the substep.

    Returns:
      The state after the substep, and what the actuators are given.
    """
    directions = jnp.array([-1.0, 1.0], state.gripper.dtype)
    gripper = jnp.clip(state.gripper + directions * constants.gripper_speed * state.gripper_sign, -1.0, 1.0)
    low, high = (
        bounds[np.array(constants.finger_actuators)] for bounds in (constants.control_low, constants.control_high)
    )
    fingers = 0.5 * (high + low) + 0.5 * (high - low) * gripper
    controls = jnp.zeros_like(constants.control_low)
    controls = controls.at[np.array(constants.arm_actuators)].set(torque(constants, state, qpos, qvel))
    return state.replace(gripper=gripper), controls.at[np.array(constants.finger_actuators)].set(fingers)


def torque(
    constants: ControllerConstants, state: ControlState, qpos: Float[Array, " nq"], qvel: Float[Array, " nv"]
) -> Float[Array, "7"]:
    """Computes the arm's torque in a substep, N m, within the range of its actuators.

    Args:
      constants: of the scene.
      state: after `set_goal`.
      qpos: joint positions of the whole scene.
      qvel: joint velocities of the whole scene.
    """
    arm, moving, double = constants.arm, qvel[np.array(constants.arm.dofs)], jnp.float64
    with jax.enable_x64(True):
        exact = _exact(constants)
        frames = arm_frames(exact.arm, qpos.astype(double))
        grip = grip_pose(exact.arm, frames)
        jacobian = grip_jacobian(frames, grip)
        joints, velocities = qpos[np.array(arm.qpos[:ARM])].astype(double), moving[:ARM].astype(double)
        goal = join(state.goal)
        error = jnp.concatenate([goal.position - grip.position, _turn_error(grip.rotation, goal.rotation)])
        wrench = exact.kp * error - exact.kd * dot(jacobian, velocities)
        posture = POSTURE_KP * (exact.posture - joints) - 2.0 * math.sqrt(POSTURE_KP) * velocities
        mass, bias = inertia_and_bias(arm, jax.tree.map(lambda array: array.astype(jnp.float32), frames), moving)
        free = bias + _task_torque(mass.astype(double), jacobian, wrench, posture)
        low, high = (bounds[np.array(constants.arm_actuators)] for bounds in (exact.control_low, exact.control_high))
        return jnp.clip(free, low, high).astype(jnp.float32)


def _task_torque(
    mass: Float[Array, "7 7"], jacobian: Float[Array, "6 7"], wrench: Float[Array, "6"], posture: Float[Array, "7"]
) -> Float[Array, "7"]:
    """Computes the torque of force and posture; the equation is in the module's docstring."""
    factor, whitened = whiten(mass, jacobian.T)
    # Position and orientation, each for itself.
    pull = jnp.sum(jax.vmap(least_norm)(whitened.T.reshape(2, 3, ARM).swapaxes(1, 2), wrench.reshape(2, 3)), axis=0)
    return dot(factor, pull + without(whitened, dot(factor.T, posture)))


def _turn_error(rotation: Float[Array, "3 3"], goal: Float[Array, "3 3"]) -> Float[Array, "3"]:
    """Returns half the sum of the cross products of the columns of two rotations: the axis times the angle's sine."""
    products = cross(rotation.T, goal.T)
    return 0.5 * (products[0] + products[1] + products[2])


def whiten(mass: Float[Array, "n n"], columns: Float[Array, "n m"]) -> tuple[Float[Array, "n n"], Float[Array, "n m"]]:
    """Computes the lower Cholesky factor L of a positive definite matrix, and L^-1 times some columns.

    Args:
      mass: the matrix.
      columns: what L^-1 is applied to.
    """
    size, factor, rows = len(mass), [], []
    for step in range(size):
        scale = 1.0 / jnp.sqrt(mass[0, 0])
        column, row = mass[:, 0] * scale, columns[0] * scale
        factor.append(jnp.pad(column, (step, 0)))
        rows.append(row)
        below = column[1:, None]
        mass, columns = mass[1:, 1:] - below * column[None, 1:], columns[1:] - below * row[None]
    return jnp.stack(factor, axis=-1), jnp.stack(rows)


def least_norm(columns: Float[Array, "n m"], right: Float[Array, " m"]) -> Float[Array, " n"]:
    """Returns the shortest x with columns^T x = right, W (W^T W)^-1 right, by the modified Gram-Schmidt process.

    The error grows with the condition of `columns`; through W^T W it would grow with its square.

    Args:
      columns: W, of full rank.
      right: the right side.
    """
    rows, found = columns.T, jnp.zeros_like(columns[:, 0])
    for _ in range(len(right)):
        length = _length(rows[0])
        unit, value = rows[0] / length, right[0] / length
        found = found + unit * value
        shares = dot(rows[1:], unit)
        rows, right = rows[1:] - shares[:, None] * unit, right[1:] - shares * value
    return found


def without(columns: Float[Array, "n m"], vector: Float[Array, " n"]) -> Float[Array, " n"]:
    """Returns what is left of a vector that is orthogonal to some columns, (1 - W (W^T W)^-1 W^T) vector.

    Args:
      columns: W, of full rank.
      vector: the vector.
    """
    rows, units = columns.T, []
    for _ in range(len(rows)):
        units.append(rows[0] / _length(rows[0]))
        rows = rows[1:] - dot(rows[1:], units[-1])[:, None] * units[-1]
    # Twice, because these units are orthogonal to each other but for rounding times the condition of the columns.
    basis = jnp.stack(units)
    for _ in range(2):
        vector = vector - dot(basis.T, dot(basis, vector))
    return vector


def _length(vector: Float[Array, " n"]) -> Float[Array, ""]:
    return jnp.sqrt(jnp.maximum(dot(vector, vector), 1e-30))
