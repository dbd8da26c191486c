"""Taking over from another actor in the middle of an episode: what is between the fingers is not let go.

The skills begin with an open hand. Where another actor has already grasped the object or the handle that the goal asks
for, the scripted expert goes on from there, so that its actions do not contradict those of a whole episode in states
that whole episodes pass as well.
"""

import mujoco
import numpy as np
from jaxtyping import Bool, Float

from rlgen.demos.scripted.geometry import SceneState, subtree
from rlgen.demos.scripted.joints import finish_move
from rlgen.demos.scripted.pick_place import place
from rlgen.demos.scripted.plans import find_carries
from rlgen.demos.scripted.skills import Skill, SkillContext
from rlgen.libero.scenes.goals import JOINT


def finish_with_object(context: SkillContext, atom: int) -> Skill:
    """Brings the object of an atom, if it is between the fingers, to its place; fails where it is not, or has no place.

    Args:
      context: of the episode.
      atom: index in the goal.
    """
    goal = context.state.scene.goal
    body = int(goal.bodies[atom])
    if goal.kinds[atom] == JOINT or not between_fingers(context.state, subtree(context.state.model, body)):
        return False
    plan = next(find_carries(context, atom, _upright(context.state.body_pose(body).rotation)), None)
    return plan is not None and (yield from place(context, body, plan))


def finish_with_joint(context: SkillContext, joint: int, target: float) -> Skill:
    """Moves a joint on, if its part is between the fingers; fails where it is not, or does not get there.

    Args:
      context: of the episode.
      joint: index of the joint.
      target: position, metres or radians.
    """
    model = context.state.model
    if not between_fingers(context.state, subtree(model, int(model.jnt_bodyid[joint]))):
        return False
    return (yield from finish_move(context, joint, target))


def between_fingers(state: SceneState, bodies: Bool[np.ndarray, " bodies"]) -> bool:
    """Returns whether both fingers touch some bodies.

    Args:
      state: of the episode.
      bodies: mask of the bodies.
    """
    model, data, robot = state.model, state.data, state.scene.robot
    mujoco.mj_collision(model, data)
    fingers = [subtree(model, int(body)) for body in model.jnt_bodyid[np.isin(model.jnt_qposadr, robot.finger_qpos)]]
    pairs = model.geom_bodyid[data.contact.geom.reshape(-1, 2)]
    touching = np.concatenate([pairs[bodies[pairs[:, 1]], 0], pairs[bodies[pairs[:, 0]], 1]])
    return all(finger[touching].any() for finger in fingers)


def _upright(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """Returns the nearest orientation whose axis next to the vertical is vertical: objects turn in the hand."""
    axis = int(np.argmax(np.abs(rotation[2])))
    tilted, vertical = rotation[:, axis], np.array([0.0, 0.0, np.sign(rotation[2, axis])])
    quaternion, turn = np.zeros(4), np.zeros(9)
    # The shortest turn from one direction to the other: its half angle's cosine and sine times the axis.
    quaternion[:] = np.r_[1.0 + tilted @ vertical, np.cross(tilted, vertical)]
    mujoco.mju_normalize4(quaternion)
    mujoco.mju_quat2Mat(turn, quaternion)
    return turn.reshape(3, 3) @ rotation
