"""Drawers and doors of containers: how far they open, and which of them the goal wants closed in the end."""

import mujoco
import numpy as np
from jaxtyping import Float

from rlgen.demos.scripted.geometry import Pose, SceneState, joint_at, subtree
from rlgen.libero.scenes.goals import JOINT, STACKED
from rlgen.libero.scenes.scene import Scene


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
    """Returns a pose after a change of a joint, metres or radians, that carries it along."""
    axis, anchor = joint_axis(state, joint)
    return pose.moved(axis * change) if slides(state.model, joint) else pose.turned(anchor, axis, change)


def joint_axis(state: SceneState, joint: int) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Returns direction and a point of a joint's axis, in the world."""
    return state.data.xaxis[joint].copy(), state.data.xanchor[joint].copy()
