"""Arguments of the compiled control step: arrays of the scene, of one `MjData`, and of the controller."""

from typing import NamedTuple

import mujoco
import numpy as np

from rlgen.libero.scenes.goals import Goal
from rlgen.libero.scenes.scene import Scene


class DataArrays(NamedTuple):
    """NumPy views of one `MjData`, its address and that of its model; fields are named as in MuJoCo, but for these.

    Attributes:
      model, data: addresses.
      inertia: `M`, the sparse mass matrix.
      bias: `qfrc_bias`, Coriolis, centrifugal and gravitational forces.
    """

    model: int
    data: int
    qpos: np.ndarray
    qvel: np.ndarray
    ctrl: np.ndarray
    xpos: np.ndarray
    xaxis: np.ndarray
    xanchor: np.ndarray
    site_xpos: np.ndarray
    site_xmat: np.ndarray
    inertia: np.ndarray
    bias: np.ndarray


class GoalArrays(NamedTuple):
    """The arrays of a `goals.Goal`, which says what they are."""

    kinds: np.ndarray
    bodies: np.ndarray
    targets: np.ndarray
    sizes: np.ndarray
    joints: np.ndarray
    thresholds: np.ndarray
    above: np.ndarray
    inclusive: np.ndarray
    every: np.ndarray


class Constants(NamedTuple):
    """The scene as the control step needs it; what is not here is as in `scene.Control` and `scene.RobotIndex`.

    Attributes:
      posture: joint positions of the null-space term, radians.
      control_low, control_high: range of each actuator.
      inertia_address, inertia_count, inertia_column: MuJoCo's `M_rowadr`, `M_rownnz` and `M_colind`, the rows of its
        sparse mass matrix.
    """

    substeps: int
    timestep: float
    kp: float
    kd: float
    output_max: np.ndarray
    posture: np.ndarray
    gripper_speed: float
    arm_qpos: np.ndarray
    arm_dof: np.ndarray
    arm_joint: np.ndarray
    arm_actuator: np.ndarray
    finger_actuator: np.ndarray
    control_low: np.ndarray
    control_high: np.ndarray
    grip_site: int
    inertia_address: np.ndarray
    inertia_count: np.ndarray
    inertia_column: np.ndarray
    goal: GoalArrays


class ControllerState(NamedTuple):
    """State of controller and sensors between control steps; changed in place.

    Attributes:
      goal_rotation: orientation goal, `[3, 3]`.
      gripper: the internal gripper command of each finger.
      sensed_pose, sensed_qpos, sensed_qvel: the last sample of the benchmark's sensors: the joint positions from which
        poses were computed, joint positions and velocities.
    """

    goal_rotation: np.ndarray
    gripper: np.ndarray
    sensed_pose: np.ndarray
    sensed_qpos: np.ndarray
    sensed_qvel: np.ndarray


def make_constants(scene: Scene) -> Constants:
    """Returns the scene's constants in the types that the kernel is compiled for."""
    model, control, robot = scene.model, scene.control, scene.robot
    return Constants(
        substeps=control.substeps,
        timestep=float(model.opt.timestep),
        kp=control.kp,
        kd=control.kd,
        output_max=control.output_max,
        posture=control.initial_joints,
        gripper_speed=control.gripper_speed,
        arm_qpos=robot.arm_qpos,
        arm_dof=robot.arm_dof,
        arm_joint=robot.arm_joint,
        arm_actuator=robot.arm_actuator,
        finger_actuator=robot.finger_actuator,
        control_low=model.actuator_ctrlrange[:, 0].copy(),
        control_high=model.actuator_ctrlrange[:, 1].copy(),
        grip_site=robot.grip_site,
        inertia_address=model.M_rowadr.copy(),
        inertia_count=model.M_rownnz.copy(),
        inertia_column=model.M_colind.copy(),
        goal=goal_arrays(scene.goal),
    )


def goal_arrays(goal: Goal) -> GoalArrays:
    """Returns the arrays of a goal."""
    return GoalArrays(*(getattr(goal, name) for name in GoalArrays._fields))


def make_data_arrays(model: mujoco.MjModel, data: mujoco.MjData) -> DataArrays:
    """Returns the views of `data`, which must outlive them."""
    return DataArrays(
        model=model._address,
        data=data._address,
        qpos=data.qpos,
        qvel=data.qvel,
        ctrl=data.ctrl,
        xpos=data.xpos,
        xaxis=data.xaxis,
        xanchor=data.xanchor,
        site_xpos=data.site_xpos,
        site_xmat=data.site_xmat.reshape(-1, 3, 3),
        inertia=data.M,
        bias=data.qfrc_bias,
    )


def make_controller_state(scene: Scene) -> ControllerState:
    """Returns the controller as it is after a reset."""
    nq, nv = scene.model.nq, scene.model.nv
    orientation = scene.control.initial_orientation.copy()
    return ControllerState(orientation, np.zeros(2), np.zeros(nq), np.zeros(nq), np.zeros(nv))
