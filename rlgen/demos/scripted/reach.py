"""Where the hand can go: inverse kinematics, and collisions of arm, hand and what it holds with everything else."""

import math
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Bool, Float

from rlgen.demos.scripted.geometry import Pose, Sight, parts, place_body, robot_bodies, rotation_between

# Depth of overlap that counts as none: contacts of MuJoCo are soft, and poses are reached to a few millimetres.
TOUCH = 0.002
# Iterations at most, and after which the error must have become less by a fifth.
ITERATIONS, STUCK = 40, 6
NEAR, NEARLY_TURNED = 0.002, 0.02
DAMPING = 1e-4 * np.eye(6)


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
          start: joint positions to begin from, the present ones by default: the arm must get there from where it is.
        """
        robot, data, model = self._sight.scene.robot, self._data, self._model
        rest = self._sight.scene.control.initial_joints
        joints = (self._sight.joints if start is None else start).copy()
        data.qpos[:] = self._sight.data.qpos
        errors: list[float] = []
        for _ in range(ITERATIONS):
            data.qpos[robot.arm_qpos] = joints
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            site = robot.grip_site
            way = hand.position - data.site_xpos[site]
            turn = rotation_between(data.site_xmat[site].reshape(3, 3), hand.rotation)
            distance, angle = math.sqrt(way @ way), math.sqrt(turn @ turn)
            if distance < NEAR and angle < NEARLY_TURNED:
                return joints
            errors.append(distance + 0.2 * angle)
            if len(errors) > STUCK and errors[-1] > 0.8 * errors[-STUCK]:
                return None
            mujoco.mj_jacSite(model, data, self._jacobian[:3], self._jacobian[3:], site)
            jacobian = self._jacobian[:, robot.arm_dof]
            # Damped least squares; of the joint left over, what leads back towards rest.
            back = 0.1 * (rest - joints)
            error = np.concatenate([way, turn]) - jacobian @ back
            step = back + jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + DAMPING, error)
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
        moved: tuple[int, float] | None = None,
    ) -> Float[np.ndarray, "7"] | None:
        """Joint positions that bring the hand to a pose where it touches nothing, or None.

        Args:
          hand: of the grip site, in the world.
          opening: between the fingers, metres.
          held: what is in the hand; it must not touch anything either.
          allowed: bodies that may be touched.
          start: as for `solve`.
          moved: a joint of the scene, and where it will be by then.
        """
        joints = self.solve(hand, start)
        return None if joints is None or self.collides(hand, joints, opening, held, allowed, moved) else joints

    def collides(
        self,
        hand: Pose,
        joints: Float[np.ndarray, "7"],
        opening: float,
        held: Held | None = None,
        allowed: Bool[np.ndarray, " bodies"] | None = None,
        moved: tuple[int, float] | None = None,
    ) -> bool:
        """Whether arm, hand or what is held would overlap something by more than a touch."""
        model, data, robot = self._model, self._data, self._sight.scene.robot
        data.qpos[:] = self._sight.data.qpos
        data.qpos[robot.arm_qpos] = joints
        data.qpos[robot.finger_qpos] = np.array([0.5, -0.5]) * opening
        if moved is not None:
            data.qpos[model.jnt_qposadr[moved[0]]] = moved[1]
        moving = self._robot.copy()
        if held is not None:
            place_body(data, model, held.body, hand @ held.grip)
            moving |= parts(model, held.body)
        return self._overlaps(moving, np.zeros_like(moving) if allowed is None else allowed)

    def fits(self, body: int, pose: Pose) -> bool:
        """Whether a movable object would overlap nothing but the robot in a pose."""
        self._data.qpos[:] = self._sight.data.qpos
        place_body(self._data, self._model, body, pose)
        return not self._overlaps(parts(self._model, body), self._robot)

    def _overlaps(self, moving: Bool[np.ndarray, " bodies"], ignored: Bool[np.ndarray, " bodies"]) -> bool:
        """Whether something of what moves is deeper than a touch in something of the rest."""
        model, data = self._model, self._data
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        contacts = data.contact
        first, second = model.geom_bodyid[contacts.geom1], model.geom_bodyid[contacts.geom2]
        bad = (moving[first] != moving[second]) & (contacts.dist < -TOUCH)
        return bool((bad & ~(ignored[first] | ignored[second])).any())
