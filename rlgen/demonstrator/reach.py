"""Where the hand can go: inverse kinematics, and collisions of arm, hand and what it holds with everything else."""

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Bool, Float

from rlgen.demonstrator.pose import Pose, rotation_between
from rlgen.demonstrator.sight import Sight, parts, place_body, robot_bodies

# Depth of overlap that counts as none: contacts of MuJoCo are soft, and poses are reached to a few millimetres.
TOUCH = 0.002
ITERATIONS = 40
NEAR, NEARLY_TURNED = 0.002, 0.02


@dataclass(frozen=True)
class Held:
    """An object in the hand.

    Attributes:
      body: its body, which has a free joint.
      grip: its pose in the hand's frame.
    """

    body: int
    grip: Pose


class Reach:
    """Asks the model about poses that are not there yet. Owns an `MjData`."""

    def __init__(self, sight: Sight):
        self._sight, self._model = sight, sight.model
        self._data = mujoco.MjData(sight.model)
        self._robot = robot_bodies(sight.scene)
        self._jacobian = np.zeros((6, sight.model.nv))
        limits = sight.model.jnt_range[sight.scene.robot.arm_joint]
        self._low, self._high = limits[:, 0] + 0.02, limits[:, 1] - 0.02

    def solve(self, hand: Pose, start: Float[np.ndarray, "7"] | None = None) -> Float[np.ndarray, "7"] | None:
        """Joint positions that bring the grip site to a pose, or None.

        Args:
          hand: of the grip site, in the world.
          start: joint positions to begin from; the robot's initial ones by default, which its null-space term pulls to.
        """
        robot, data, model = self._sight.scene.robot, self._data, self._model
        rest = self._sight.scene.control.initial_joints
        joints = (rest if start is None else start).copy()
        data.qpos[:] = self._sight.data.qpos
        for _ in range(ITERATIONS):
            data.qpos[robot.arm_qpos] = joints
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            site = robot.grip_site
            way = hand.position - data.site_xpos[site]
            turn = rotation_between(data.site_xmat[site].reshape(3, 3), hand.rotation)
            if np.linalg.norm(way) < NEAR and np.linalg.norm(turn) < NEARLY_TURNED:
                return joints
            mujoco.mj_jacSite(model, data, self._jacobian[:3], self._jacobian[3:], site)
            jacobian = self._jacobian[:, robot.arm_dof]
            error = np.concatenate([way, turn])
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(6), error)
            inverse = np.linalg.pinv(jacobian)
            step += 0.1 * (rest - joints) - inverse @ (jacobian @ (0.1 * (rest - joints)))
            joints = np.clip(joints + np.clip(step, -0.4, 0.4), self._low, self._high)
        return None

    def clear(
        self,
        hand: Pose,
        *,
        opening: float,
        held: Held | None = None,
        allowed: Bool[np.ndarray, " bodies"] | None = None,
        start: Float[np.ndarray, "7"] | None = None,
    ) -> Float[np.ndarray, "7"] | None:
        """Joint positions that bring the hand to a pose where it touches nothing, or None.

        Args:
          hand: of the grip site, in the world.
          opening: between the fingers, metres.
          held: what is in the hand; it must not touch anything either.
          allowed: bodies that may be touched.
          start: as for `solve`.
        """
        joints = self.solve(hand, start)
        return None if joints is None or self.collides(hand, joints, opening, held, allowed) else joints

    def collides(
        self,
        hand: Pose,
        joints: Float[np.ndarray, "7"],
        opening: float,
        held: Held | None = None,
        allowed: Bool[np.ndarray, " bodies"] | None = None,
    ) -> bool:
        """Whether arm, hand or what is held would overlap something by more than 2 mm."""
        model, data, robot = self._model, self._data, self._sight.scene.robot
        data.qpos[:] = self._sight.data.qpos
        data.qpos[robot.arm_qpos] = joints
        data.qpos[robot.finger_qpos] = np.array([0.5, -0.5]) * opening
        moving = self._robot.copy()
        if held is not None:
            place_body(data, model, held.body, hand @ held.grip)
            moving |= parts(model, held.body)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        contacts = data.contact
        first, second = model.geom_bodyid[contacts.geom1], model.geom_bodyid[contacts.geom2]
        bad = (moving[first] != moving[second]) & (contacts.dist < -TOUCH)
        if allowed is not None:
            bad &= ~(allowed[first] | allowed[second])
        return bool(bad.any())
