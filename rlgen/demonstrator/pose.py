"""Positions with orientations."""

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation


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
