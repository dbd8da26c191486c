"""Poses, the physics state of a scene as poses of its hand, objects and joints, and which containers must close."""

from dataclasses import dataclass
from itertools import product

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.goals import JOINT, STACKED, contacts_hold
from rlgen.libero.scenes.scene import Scene

# Distance at which fingers count as touching, metres.
TOUCHING = 0.002


@dataclass(frozen=True)
class Pose:
    """A frame in the world or in another frame.

    Attributes:
      position: metres.
      rotation: the frame's axes as columns.
    """

    position: Float[np.ndarray, "3"]
    rotation: Float[np.ndarray, "3 3"]

    def __matmul__(self, other: "Pose") -> "Pose":
        """Returns `other`, given in this frame, in the frame that this one is given in."""
        return Pose(self.position + self.rotation @ other.position, self.rotation @ other.rotation)

    @property
    def inverse(self) -> "Pose":
        """The pose of the outer frame in this one."""
        return Pose(-self.rotation.T @ self.position, self.rotation.T)

    def moved(self, offset: Float[np.ndarray, "3"]) -> "Pose":
        """Returns the pose translated by `offset` in the world, metres."""
        return Pose(self.position + offset, self.rotation)

    def turned(self, point: Float[np.ndarray, "3"], axis: Float[np.ndarray, "3"], angle: float) -> "Pose":
        """Returns the pose rotated about an axis in the world.

        Args:
          point: on the axis, metres.
          axis: its direction, of length one.
          angle: radians.
        """
        turn = Rotation.from_rotvec(angle * np.asarray(axis)).as_matrix()
        return Pose(point + turn @ (self.position - point), turn @ self.rotation)

    def towards(self, other: "Pose", fraction: float) -> "Pose":
        """Returns the pose at a fraction of the straight way and the shortest turn to another pose."""
        turn = Rotation.from_rotvec(fraction * rotation_between(self.rotation, other.rotation)).as_matrix()
        return Pose(self.position + fraction * (other.position - self.position), turn @ self.rotation)

    @property
    def flipped(self) -> "Pose":
        """The pose after half a turn about its z axis, which is the same to two fingers."""
        return Pose(self.position, self.rotation * [-1.0, -1.0, 1.0])


def rotation_between(current: Float[np.ndarray, "3 3"], target: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3"]:
    """Returns the rotation vector (axis times angle, radians, in the world) from one orientation to another."""
    quaternion, turn = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quaternion, (target @ current.T).ravel())
    mujoco.mju_quat2Vel(turn, quaternion, 1.0)
    return turn


def angle_between(first: Float[np.ndarray, "3 3"], second: Float[np.ndarray, "3 3"]) -> float:
    """Returns the angle between two orientations, radians."""
    return float(np.linalg.norm(rotation_between(first, second)))


class SceneState:
    """The current physics state of one environment, with the poses that follow from it.

    Attributes:
      scene: the task's scene.
      model: its physics.
      data: positions and poses; velocities and forces are not kept up to date.
      steps_left: control steps until the episode is truncated.
    """

    def __init__(self, scene: Scene):
        self.scene, self.model = scene, scene.model
        self.data = mujoco.MjData(scene.model)
        self.steps_left = scene.task.horizon
        self._arrays = kernel_arrays.make_data_arrays(scene.model, self.data)

    def update(self, physics: Float[np.ndarray, " D"], step: int = 0) -> None:
        """Takes over a physics state (time, qpos, qvel) and the number of control steps since the reset."""
        self.steps_left = self.scene.task.horizon - step
        self.data.qpos[:] = physics[1 : 1 + self.model.nq]
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)

    @property
    def hand(self) -> Pose:
        """Pose of the grip site: the fingers close along x and point along z."""
        site = self.scene.robot.grip_site
        return Pose(self.data.site_xpos[site].copy(), self.data.site_xmat[site].reshape(3, 3).copy())

    @property
    def arm_joints(self) -> Float[np.ndarray, "7"]:
        """Positions of the arm's joints, radians."""
        return self.data.qpos[self.scene.robot.arm_qpos].copy()

    @property
    def opening(self) -> float:
        """Distance between the fingers, metres."""
        return float(np.abs(self.data.qpos[self.scene.robot.finger_qpos]).sum())

    def body_pose(self, body: int) -> Pose:
        """Returns the pose of a body."""
        return Pose(self.data.xpos[body].copy(), self.data.xmat[body].reshape(3, 3).copy())

    def atom_holds(self, atom: int) -> bool:
        """Returns whether an atom of the goal holds, contacts included."""
        goal = self.scene.goal[atom]
        if not kernel.goal_reached(self._arrays, kernel_arrays.goal_arrays(goal)):
            return False
        if goal.needs_contact:
            mujoco.mj_collision(self.model, self.data)
        return contacts_hold(goal, self.data)


def subtree(model: mujoco.MjModel, root: int) -> Bool[np.ndarray, " bodies"]:
    """Returns a mask of the bodies that are `root` or descend from it."""
    inside = np.zeros(model.nbody, bool)
    for body in range(root, model.nbody):
        inside[body] = body == root or inside[model.body_parentid[body]]
    return inside


def between_fingers(state: SceneState, bodies: Bool[np.ndarray, " bodies"]) -> bool:
    """Returns whether both fingers touch some bodies, or all but touch them: a load that is carried shakes.

    Args:
      state: of the episode.
      bodies: mask of the bodies.
    """
    model, robot = state.model, state.scene.robot
    solid = (model.geom_contype | model.geom_conaffinity) > 0
    held = np.flatnonzero(solid & (bodies & ~robot_bodies(state.scene))[model.geom_bodyid])
    for body in model.jnt_bodyid[np.isin(model.jnt_qposadr, robot.finger_qpos)]:
        finger = np.flatnonzero(solid & subtree(model, int(body))[model.geom_bodyid])
        pairs = product(finger.tolist(), held.tolist())
        if not any(mujoco.mj_geomDistance(model, state.data, *pair, TOUCHING, None) < TOUCHING for pair in pairs):
            return False
    return True


def robot_bodies(scene: Scene) -> Bool[np.ndarray, " bodies"]:
    """Returns a mask of the bodies that move with the arm."""
    model = scene.model
    return subtree(model, int(model.jnt_bodyid[scene.robot.arm_joint[0]]))


def free_joint_address(model: mujoco.MjModel, body: int) -> int:
    """Returns the address in qpos of a body's free joint."""
    return int(model.jnt_qposadr[model.body_jntadr[body]])


def joint_at(model: mujoco.MjModel, address: Int[np.ndarray, ""] | int) -> int:
    """Returns the joint whose position is at an address in qpos."""
    return int(np.flatnonzero(model.jnt_qposadr == int(address))[0])


def set_body_pose(data: mujoco.MjData, model: mujoco.MjModel, body: int, pose: Pose) -> None:
    """Writes a pose of a body with a free joint into qpos.

    Args:
      data: written; its kinematics are not updated.
      model: of `data`.
      body: index of the body.
      pose: in the world.
    """
    address = free_joint_address(model, body)
    data.qpos[address : address + 3] = pose.position
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, pose.rotation.reshape(-1))
    data.qpos[address + 3 : address + 7] = quaternion


def joint_position(state: SceneState, joint: int) -> float:
    """Returns the position of a joint, metres or radians."""
    return float(state.data.qpos[state.model.jnt_qposadr[joint]])


def slides(model: mujoco.MjModel, joint: int) -> bool:
    """Returns whether a joint slides, as drawers do, and does not turn."""
    return bool(model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE)


def open_end(model: mujoco.MjModel, joint: int) -> float:
    """Returns the end of a joint's range that is further from zero, its closed position."""
    low, high = model.jnt_range[joint]
    return float(low if abs(low) > abs(high) else high)


def closes(scene: Scene, atom: int) -> bool:
    """Returns whether an atom of the goal is that a drawer or door is closed."""
    goal = scene.goal
    if goal.kinds[atom] != JOINT:
        return False
    joint = joint_at(scene.model, goal.joints[atom][0])
    return bool(abs(goal.thresholds[atom]) < 0.5 * abs(open_end(scene.model, joint)) and goal.every[atom])


def fixture_of(scene: Scene, atom: int) -> int:
    """Returns the root body of the fixture or object that an atom's region belongs to, or whose joint it is about."""
    goal, model = scene.goal, scene.model
    if goal.kinds[atom] == JOINT:
        return int(model.body_rootid[goal.bodies[atom]])
    body = goal.targets[atom] if goal.kinds[atom] == STACKED else model.site_bodyid[goal.targets[atom]]
    return int(model.body_rootid[body])


def closing_joints(scene: Scene, atom: int) -> list[int]:
    """Returns the drawers and doors, to be closed in the end, of the container of an atom."""
    goal = scene.goal
    return [
        joint_at(scene.model, goal.joints[other][0])
        for other in range(len(goal.kinds))
        if closes(scene, other) and fixture_of(scene, other) == fixture_of(scene, atom)
    ]


def pose_while_closing(
    state: SceneState, atom: int, joint: int, pose: Pose, fraction: float
) -> tuple[Pose, tuple[int, float]]:
    """Returns where an object in the container of an atom is while a joint is closed, and the joint's position then.

    Args:
      state: current state.
      atom: index in the goal; `In`.
      joint: of a drawer, which takes its content along, or of a door, which does not.
      pose: of the object now.
      fraction: of the joint's way to its closed position.
    """
    model, low, high = state.model, *state.model.jnt_range[joint]
    change = fraction * (float(np.clip(0.0, low, high)) - joint_position(state, joint))
    body = int(model.site_bodyid[state.scene.goal.targets[atom]])
    inside = subtree(model, int(model.jnt_bodyid[joint]))[body]
    return carried(state, joint, pose, change) if inside else pose, (joint, joint_position(state, joint) + change)


def carried(state: SceneState, joint: int, pose: Pose, change: float) -> Pose:
    """Returns a pose after a change of a joint that carries it along.

    Args:
      state: current state.
      joint: of a drawer or door.
      pose: in the world.
      change: metres or radians.
    """
    axis, anchor = joint_axis(state, joint)
    return pose.moved(axis * change) if slides(state.model, joint) else pose.turned(anchor, axis, change)


def joint_axis(state: SceneState, joint: int) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Returns direction and a point of a joint's axis, in the world."""
    return state.data.xaxis[joint].copy(), state.data.xanchor[joint].copy()
