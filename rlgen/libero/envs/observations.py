"""Observations of physics states: the robot's own state, and a vector of poses for policies on physics state."""

import mujoco
import numpy as np
from jaxtyping import Float, Int

from rlgen.core.types import Observation, RobotState
from rlgen.libero.scenes.goals import CONTAIN, JOINT, STACKED, UNDER
from rlgen.libero.scenes.scene import Scene


class Observer:
    """Computes observations from physics states by forward kinematics; holds an `MjData`, for one thread at a time.

    The vector is the end effector's position and the first two columns of the hand's rotation matrix, positions and
    velocities of the fingers (13 numbers); where `scene.observed` is `all`, the position relative to the hand of each
    of `bystanders` (3); for each atom of the goal 18: the object's position, the first two columns of its rotation
    matrix, its position relative to the hand, the region's position, and that relative to the object.
    """

    def __init__(self, scene: Scene):
        self._scene = scene
        self._bystanders = bystanders(scene)
        self._data = mujoco.MjData(scene.model)

    def __call__(self, physics: Float[np.ndarray, "N D"], step: Int[np.ndarray, " N"] | None = None) -> Observation:
        """Computes the observation of N physics states.

        Args:
          physics: time, qpos, qvel of each.
          step: control steps since the episode began; zeros by default.
        """
        rows = [self._observe_one(state) for state in physics]
        position, quaternion, vector = (np.stack(column) for column in zip(*rows, strict=True))
        qpos = physics[:, 1 : 1 + self._scene.model.nq]
        robot = RobotState(
            position=position,
            axis_angle=axis_angle(quaternion),
            gripper=qpos[:, self._scene.robot.finger_qpos],
            joints=qpos[:, self._scene.robot.arm_qpos],
        )
        steps = np.zeros(len(physics), np.int64) if step is None else step
        fixtures = None if self._scene.fixtures is None else [self._scene.fixtures] * len(physics)
        return Observation(vector=vector, physics=physics, robot=robot, step=steps, fixtures=fixtures)

    def _observe_one(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the end effector's position, the hand's quaternion, and the vector."""
        scene, data = self._scene, self._data
        nq = scene.model.nq
        data.qpos[:] = state[1 : 1 + nq]
        mujoco.mj_kinematics(scene.model, data)
        position = data.site_xpos[scene.robot.grip_site].copy()
        hand = data.xmat[scene.robot.hand_body].reshape(3, 3)
        fingers = scene.robot.finger_qpos
        # Finger joints are slides without quaternions before them, so qpos and qvel share the address.
        parts = [position, hand[:, 0], hand[:, 1], state[1 + fingers], state[1 + nq + fingers]]
        parts.append((data.xpos[self._bystanders] - position).ravel())
        goal = scene.goal
        atoms = zip(goal.kinds, goal.bodies, goal.targets, goal.joints, goal.thresholds, strict=True)
        for kind, body, target, joints, threshold in atoms:
            rotation = data.xmat[body].reshape(3, 3)
            object_position = data.xpos[body]
            region = data.site_xpos[target] if kind in (CONTAIN, UNDER) else data.xpos[target]
            if kind == JOINT:
                region = object_position + np.array([data.qpos[joints[0]] - threshold, 0.0, 0.0])
            to_object, to_region = object_position - position, region - object_position
            parts += [object_position, rotation[:, 0], rotation[:, 1], to_object, region, to_region]
        return position, data.xquat[scene.robot.hand_body].copy(), np.concatenate(parts)


def axis_angle(quaternion: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "N 3"]:
    """Converts unit quaternions (w, x, y, z) to axis times angle, radians in [0, 2 pi), as robosuite does."""
    w = np.clip(quaternion[:, :1], -1.0, 1.0)
    sine = np.sqrt(1.0 - w * w)
    scale = np.where(sine < 1e-8, 0.0, 2.0 * np.arccos(w) / np.maximum(sine, 1e-8))
    return quaternion[:, 1:] * scale


def observation_size(scene: Scene) -> int:
    """Returns the size of `Observation.vector`."""
    return 13 + 3 * len(bystanders(scene)) + 18 * len(scene.goal.atoms)


def bystanders(scene: Scene) -> Int[np.ndarray, " B"]:
    """Returns the bodies of observed objects that are not the goal's, then those of the fixtures that are drawn."""
    if scene.observed == "goal":
        return np.zeros(0, np.int32)
    goal = scene.goal
    named = {*goal.bodies.tolist(), *goal.targets[goal.kinds == STACKED].tolist()}
    others = [body for body in scene.object_bodies.tolist() if body not in named]
    fixtures = [] if scene.fixture_samplers is None else scene.fixture_bodies.tolist()
    return np.array([*others, *fixtures], np.int32)
