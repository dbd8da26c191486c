"""Observations under the benchmark's own names, as its environment gives them after a control step.

The benchmark samples its sensors once a control step, one substep before the end, and reads poses that were
computed another substep earlier. Poses relative to the hand are rounded to single precision on the way.
"""

from typing import NamedTuple

import mujoco
import numpy as np
from jaxtyping import Float

from rlgen.core.compiled import compiled
from rlgen.libero.scenes.scene import Scene


class SensorReading(NamedTuple):
    """A sample of the benchmark's sensors in one environment.

    Attributes:
      pose: joint positions that body and site poses are computed from, `[nq]`.
      qpos: joint positions, `[nq]`.
      qvel: joint velocities, `[nv]`.
    """

    pose: np.ndarray
    qpos: np.ndarray
    qvel: np.ndarray


class BenchmarkObserver:
    """Computes the benchmark's observation, without images; holds an `MjData`, for one thread at a time."""

    def __init__(self, scene: Scene):
        self._scene = scene
        self._data = mujoco.MjData(scene.model)

    def __call__(self, reading: SensorReading) -> dict[str, Float[np.ndarray, " D"]]:
        """Returns the observation of one environment: metres, radians, quaternions as (x, y, z, w)."""
        scene, data, robot = self._scene, self._data, self._scene.robot
        data.qpos[:] = reading.pose
        mujoco.mj_kinematics(scene.model, data)
        hand = data.site_xpos[robot.grip_site].copy()
        hand_quaternion = _xyzw(data.xquat[robot.hand_body])
        joints, fingers = reading.qpos[robot.arm_qpos], robot.finger_qpos
        observation = {
            "robot0_joint_pos": joints,
            "robot0_joint_pos_cos": np.cos(joints),
            "robot0_joint_pos_sin": np.sin(joints),
            "robot0_joint_vel": reading.qvel[robot.arm_dof],
            "robot0_eef_pos": hand,
            "robot0_eef_quat": hand_quaternion,
            "robot0_gripper_qpos": reading.qpos[fingers],
            # Finger joints are slides without quaternions before them: qpos and qvel share the address.
            "robot0_gripper_qvel": reading.qvel[fingers],
        }
        for name, body in zip(scene.object_names, scene.object_bodies, strict=True):
            position, quaternion = data.xpos[body].copy(), _xyzw(data.xquat[body])
            offset, turn = relative_pose(position, quaternion, hand, hand_quaternion)
            observation[f"{name}_pos"], observation[f"{name}_quat"] = position, quaternion
            observation[f"{name}_to_robot0_eef_pos"], observation[f"{name}_to_robot0_eef_quat"] = offset, turn
        return observation


def _xyzw(quaternion: Float[np.ndarray, "4"]) -> Float[np.ndarray, "4"]:
    return quaternion[[1, 2, 3, 0]]


@compiled()
def _matrix(position, quaternion):
    """Returns a homogeneous matrix in single precision."""
    q = quaternion.astype(np.float32)
    scale = np.sqrt(2.0 / np.float64(np.dot(q, q)))
    for i in range(4):
        q[i] = q[i] * scale
    x, y, z, w = q
    out = np.zeros((4, 4), np.float32)
    out[0, 0], out[0, 1], out[0, 2] = 1.0 - y * y - z * z, x * y - z * w, x * z + y * w
    out[1, 0], out[1, 1], out[1, 2] = x * y + z * w, 1.0 - x * x - z * z, y * z - x * w
    out[2, 0], out[2, 1], out[2, 2] = x * z - y * w, y * z + x * w, 1.0 - x * x - y * y
    out[:3, 3] = position.astype(np.float32)
    out[3, 3] = 1.0
    return out


@compiled()
def _quaternion(matrix):
    """Returns the quaternion (x, y, z, w), w >= 0, of a rotation matrix, in single precision (Bar-Itzhack, 2000)."""
    m = matrix.astype(np.float32)
    k = np.zeros((4, 4), np.float32)
    for i in range(3):
        for j in range(i):
            k[i, j] = m[i, j] + m[j, i]
        others = [1, 2] if i == 0 else [0, 3 - i]  # in this order: the sum is rounded
        k[i, i] = m[i, i] - m[others[0], others[0]] - m[others[1], others[1]]
        k[3, i] = m[(i + 2) % 3, (i + 1) % 3] - m[(i + 1) % 3, (i + 2) % 3]
    k[3, 3] = m[0, 0] + m[1, 1] + m[2, 2]
    values, vectors = np.linalg.eigh(k / np.float32(3.0))
    q = vectors[:, np.argmax(values)]
    return -q if q[3] < 0.0 else q


def relative_pose(
    position: Float[np.ndarray, "3"],
    quaternion: Float[np.ndarray, "4"],
    hand: Float[np.ndarray, "3"],
    hand_quaternion: Float[np.ndarray, "4"],
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "4"]]:
    """Computes the pose of an object in the hand's frame as the benchmark does: rounded to single precision.

    Args:
      position, quaternion: of the object in the world, metres and (x, y, z, w).
      hand, hand_quaternion: the same of the hand.

    Returns:
      Position and quaternion.
    """
    pose, frame = _matrix(position, quaternion), _matrix(hand, hand_quaternion)
    inverse = np.eye(4)
    inverse[:3, :3] = frame[:3, :3].T
    inverse[:3, 3] = -inverse[:3, :3].dot(frame[:3, 3])
    relative = inverse.dot(pose)
    return relative[:3, 3], _quaternion(relative)
