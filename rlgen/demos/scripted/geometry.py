"""Positions with orientations."""

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.goals import contacts_hold
from rlgen.libero.scenes.scene import Scene


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
        """`other`, given in this frame, in the frame that this one is given in."""
        return Pose(self.position + self.rotation @ other.position, self.rotation @ other.rotation)

    @property
    def inverse(self) -> "Pose":
        return Pose(-self.rotation.T @ self.position, self.rotation.T)

    def moved(self, offset: Float[np.ndarray, "3"]) -> "Pose":
        """The same orientation, `offset` metres further in the world."""
        return Pose(self.position + offset, self.rotation)

    def turned(self, point: Float[np.ndarray, "3"], axis: Float[np.ndarray, "3"], angle: float) -> "Pose":
        """Turned about an axis through a point of the world, radians."""
        turn = Rotation.from_rotvec(angle * np.asarray(axis)).as_matrix()
        return Pose(point + turn @ (self.position - point), turn @ self.rotation)

    @property
    def flipped(self) -> "Pose":
        """Half a turn about its z axis, which is the same to two fingers."""
        return Pose(self.position, self.rotation * [-1.0, -1.0, 1.0])


def rotation_between(present: Float[np.ndarray, "3 3"], wanted: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3"]:
    """Axis times angle in the world that turns one orientation into the other, radians."""
    quaternion, turn = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quaternion, (wanted @ present.T).ravel())
    mujoco.mju_quat2Vel(turn, quaternion, 1.0)
    return turn


class Sight:
    """One environment's physics state, looked at.

    Attributes:
      left: control steps until the episode is cut off.
    """

    def __init__(self, scene: Scene):
        self.scene, self.model = scene, scene.model
        self.data = mujoco.MjData(scene.model)
        self.left = scene.task.horizon
        self._views = kernel_arrays.make_data_arrays(scene.model, self.data)

    def update(self, physics: Float[np.ndarray, " D"], step: int = 0) -> None:
        """Looks at a state (time, qpos, qvel) after some control steps of its episode."""
        self.left = self.scene.task.horizon - step
        self.data.qpos[:] = physics[1 : 1 + self.model.nq]
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)

    @property
    def hand(self) -> Pose:
        """The grip site: x is the way the fingers close, z the way they point."""
        site = self.scene.robot.grip_site
        return Pose(self.data.site_xpos[site].copy(), self.data.site_xmat[site].reshape(3, 3).copy())

    @property
    def joints(self) -> Float[np.ndarray, "7"]:
        """Of the arm, radians."""
        return self.data.qpos[self.scene.robot.arm_qpos].copy()

    @property
    def opening(self) -> float:
        """Between the fingers, metres."""
        return float(np.abs(self.data.qpos[self.scene.robot.finger_qpos]).sum())

    def body(self, body: int) -> Pose:
        """Of a body."""
        return Pose(self.data.xpos[body].copy(), self.data.xmat[body].reshape(3, 3).copy())

    def holds(self, atom: int) -> bool:
        """Whether an atom of the goal holds, contacts included."""
        goal = self.scene.goal[atom]
        if not kernel.goal_reached(self._views, kernel_arrays.goal_arrays(goal)):
            return False
        if goal.needs_contact:
            mujoco.mj_collision(self.model, self.data)
        return contacts_hold(goal, self.data)


def parts(model: mujoco.MjModel, root: int) -> Bool[np.ndarray, " bodies"]:
    """Which bodies are `root` or hang from it."""
    inside = np.zeros(model.nbody, bool)
    for body in range(root, model.nbody):
        inside[body] = body == root or inside[model.body_parentid[body]]
    return inside


def robot_bodies(scene: Scene) -> Bool[np.ndarray, " bodies"]:
    """Which bodies move with the arm."""
    model = scene.model
    return parts(model, int(model.jnt_bodyid[scene.robot.arm_joint[0]]))


def free_joint(model: mujoco.MjModel, body: int) -> int:
    """Address in qpos of a body's free joint."""
    return int(model.jnt_qposadr[model.body_jntadr[body]])


def joint_at(model: mujoco.MjModel, address: Int[np.ndarray, ""] | int) -> int:
    """The joint whose position is at an address in qpos."""
    return int(np.flatnonzero(model.jnt_qposadr == int(address))[0])


def place_body(data: mujoco.MjData, model: mujoco.MjModel, body: int, pose: Pose) -> None:
    """Puts a body with a free joint into a pose, in qpos."""
    address = free_joint(model, body)
    data.qpos[address : address + 3] = pose.position
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, pose.rotation.reshape(-1))
    data.qpos[address + 3 : address + 7] = quaternion
