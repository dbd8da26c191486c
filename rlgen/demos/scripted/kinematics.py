"""Poses that the arm can take: inverse kinematics, and collisions of arm, hand and load with everything else."""

import math
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Bool, Float

from rlgen.demos.scripted.geometry import Pose, SceneState, robot_bodies, rotation_between, set_body_pose, subtree

# Overlap that counts as none, metres: contacts of MuJoCo are soft, and poses are reached to a few millimetres.
TOUCH = 0.002
# Most iterations; over this many of them the error must fall by a fifth.
ITERATIONS, STALL_ITERATIONS = 40, 6
# Errors at which a pose counts as reached, metres and radians.
MAX_DISTANCE, MAX_ANGLE = 0.002, 0.02
DAMPING = 1e-4 * np.eye(6)
# Margin to the joints' limits, and largest change of a joint in an iteration, radians.
LIMIT_MARGIN, MAX_JOINT_STEP = 0.02, 0.4
# Margins at which the arm goes where it is sent: near its limits a joint stops the others; less bent at the elbow, the
# fourth joint, whose upper limit is the straight arm, the controller comes to rest centimetres away.
EASY_MARGIN, EASY_BEND, ELBOW = 0.2, 1.12, 3


@dataclass(frozen=True)
class HeldObject:
    """An object in the hand.

    Attributes:
      body: the object's body, which has a free joint.
      grip: its pose in the hand's frame.
    """

    body: int
    grip: Pose


class Kinematics:
    """Inverse kinematics and collision checks for poses other than the current one."""

    def __init__(self, state: SceneState):
        self._state, self._model = state, state.model
        self._data = mujoco.MjData(state.model)
        self._robot = robot_bodies(state.scene)
        self._jacobian = np.zeros((6, state.model.nv))
        low, high = state.model.jnt_range[state.scene.robot.arm_joint].T
        self._low, self._high = low + LIMIT_MARGIN, high - LIMIT_MARGIN
        self._easy_low, self._easy_high = low + EASY_MARGIN, high - EASY_MARGIN
        self._easy_high[ELBOW] = high[ELBOW] - EASY_BEND

    def solve(
        self, hand: Pose, start: Float[np.ndarray, "7"] | None = None, *, easy: bool = False
    ) -> Float[np.ndarray, "7"] | None:
        """Returns joint positions that bring the grip site to a pose, or None.

        An iteration is a step of damped least squares, with J the Jacobian of the grip site and d a step back towards
        the initial joint positions, which decides the seventh joint:

            step = d + J^T (J J^T + damping)^-1 (error - J d)

        Args:
          hand: pose of the grip site, in the world.
          start: joint positions of the first iteration, the current ones by default: the arm must get there from
            where it is.
          easy: whether to stay where the arm moves well, away from its limits.
        """
        low, high = self._low, self._high
        robot, data, model = self._state.scene.robot, self._data, self._model
        initial = self._state.scene.control.initial_joints
        joints = (self._state.arm_joints if start is None else start).copy()
        data.qpos[:] = self._state.data.qpos
        errors: list[float] = []
        for _ in range(ITERATIONS):
            data.qpos[robot.arm_qpos] = joints
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            site = robot.grip_site
            shift = hand.position - data.site_xpos[site]
            turn = rotation_between(data.site_xmat[site].reshape(3, 3), hand.rotation)
            distance, angle = math.sqrt(shift @ shift), math.sqrt(turn @ turn)
            if distance < MAX_DISTANCE and angle < MAX_ANGLE:
                return None if easy and not self._moves_well(joints) else joints
            errors.append(distance + 0.2 * angle)
            if len(errors) > STALL_ITERATIONS and errors[-1] > 0.8 * errors[-STALL_ITERATIONS]:
                return None
            mujoco.mj_jacSite(model, data, self._jacobian[:3], self._jacobian[3:], site)
            jacobian = self._jacobian[:, robot.arm_dof]
            back = 0.1 * (initial - joints)
            error = np.concatenate([shift, turn]) - jacobian @ back
            step = back + jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + DAMPING, error)
            joints = np.clip(joints + np.clip(step, -MAX_JOINT_STEP, MAX_JOINT_STEP), low, high)
        return None

    def _moves_well(self, joints: Float[np.ndarray, "7"]) -> bool:
        return bool(np.all((joints > self._easy_low) & (joints < self._easy_high)))

    def solve_free(
        self,
        hand: Pose,
        *,
        opening: float,
        held: HeldObject | None = None,
        allowed: Bool[np.ndarray, " bodies"] | None = None,
        start: Float[np.ndarray, "7"] | None = None,
        moved: tuple[int, float] | None = None,
        easy: bool = False,
        touch: float = TOUCH,
    ) -> Float[np.ndarray, "7"] | None:
        """Returns joint positions that bring the hand to a pose without collisions, or None.

        Args:
          hand: pose of the grip site, in the world.
          opening: between the fingers, metres.
          held: object in the hand, which must not collide either.
          allowed: mask of bodies that may be touched.
          start: as for `solve`.
          moved: a joint of the scene and its position by then.
          easy: as for `solve`.
          touch: overlap that counts as none, metres.
        """
        joints = self.solve(hand, start, easy=easy)
        free = joints is not None and not self.collides(hand, joints, opening, held, allowed, moved, touch)
        return joints if free else None

    def collides(
        self,
        hand: Pose,
        joints: Float[np.ndarray, "7"],
        opening: float,
        held: HeldObject | None = None,
        allowed: Bool[np.ndarray, " bodies"] | None = None,
        moved: tuple[int, float] | None = None,
        touch: float = TOUCH,
    ) -> bool:
        """Returns whether arm, hand or load would overlap something by more than a touch.

        Args:
          hand: pose of the grip site, in the world.
          joints: positions of the arm's joints that give this pose, radians.
          opening: between the fingers, metres.
          held: object in the hand.
          allowed: mask of bodies that may be touched.
          moved: a joint of the scene and its position by then.
          touch: overlap that counts as none, metres.
        """
        model, data, robot = self._model, self._data, self._state.scene.robot
        data.qpos[:] = self._state.data.qpos
        data.qpos[robot.arm_qpos] = joints
        data.qpos[robot.finger_qpos] = np.array([0.5, -0.5]) * opening
        if moved is not None:
            data.qpos[model.jnt_qposadr[moved[0]]] = moved[1]
        moving = self._robot.copy()
        if held is not None:
            set_body_pose(data, model, held.body, hand @ held.grip)
            moving |= subtree(model, held.body)
        return self._overlaps(moving, np.zeros_like(moving) if allowed is None else allowed, touch)

    def object_fits(self, body: int, pose: Pose, moved: tuple[int, float] | None = None, touch: float = TOUCH) -> bool:
        """Returns whether a movable object would overlap nothing but the robot in a pose.

        Args:
          body: index of the object's body.
          pose: its pose, in the world.
          moved: a joint of the scene and its position by then.
          touch: overlap that counts as none, metres.
        """
        self._data.qpos[:] = self._state.data.qpos
        if moved is not None:
            self._data.qpos[self._model.jnt_qposadr[moved[0]]] = moved[1]
        set_body_pose(self._data, self._model, body, pose)
        return not self._overlaps(subtree(self._model, body), self._robot, touch)

    def _overlaps(
        self, moving: Bool[np.ndarray, " bodies"], ignored: Bool[np.ndarray, " bodies"], touch: float
    ) -> bool:
        """Returns whether a moving body overlaps one of the others, without the ignored ones, by more than a touch."""
        model, data = self._model, self._data
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        contacts = data.contact
        first, second = model.geom_bodyid[contacts.geom1], model.geom_bodyid[contacts.geom2]
        bad = (moving[first] != moving[second]) & (contacts.dist < -touch)
        return bool((bad & ~(ignored[first] | ignored[second])).any())
