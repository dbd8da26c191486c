"""Skills that pick an object up and put it where an atom of the goal holds."""

import mujoco
import numpy as np
from jaxtyping import Float

from rlgen.demos.scripted.geometry import Pose, between_fingers, subtree
from rlgen.demos.scripted.kinematics import HeldObject
from rlgen.demos.scripted.motion import CLOSED, FULLY_OPEN, draw_offset
from rlgen.demos.scripted.planning.grasps import Grasp
from rlgen.demos.scripted.planning.plans import APPROACH, Plan, arriving, find_carries, grasp_signature
from rlgen.demos.scripted.skills import (
    ANY_TURN,
    BLOCKED,
    LOADED_SPEED,
    OPENED,
    Skill,
    SkillContext,
    close_fingers,
    has_started_to_close,
    move_to,
    on_way,
    open_fingers,
    pause,
    travel,
)
from rlgen.libero.scenes.goals import JOINT

# Distance that a hand with a load comes forward in a control step when it lowers the load or moves it in, metres.
SLOWEST = 0.004
# Distance by which the palm follows an object that is let go in a tight place, metres.
PRESS = 0.03
# Height by which an object is lifted to test the grasp, and above its place from which it is lowered, metres.
LIFT, ABOVE = 0.06, 0.06
# Most that the hand may move in the object's frame during the lift, metres: an object that hangs by its rim turns.
MAX_SLIP = 0.03
# Distance by which the fingers go on past a grasp, metres: rims are slanted and slip out.
DEEPER = 0.004
# Control steps that carrying takes without hurry.
CARRY_STEPS = 130
# Distance of an object from its pose in the hand at which it is lost, metres.
LOST = 0.05


def pick_and_place(context: SkillContext, atom: int, plan: Plan, rejected: list[np.ndarray]) -> Skill:
    """Brings the object of an atom to its place.

    Args:
      context: of the episode.
      atom: index in the goal; `In` or `On`.
      plan: one of `find_plans`.
      rejected: signatures of grasps that failed; grows.
    """
    body = int(context.state.scene.goal.bodies[atom])
    if not (yield from pick(context, body, plan.grasp)):
        rejected.append(grasp_signature(context, body, plan.grasp))
        return False
    return (yield from place(context, body, plan))


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


def pick(context: SkillContext, body: int, grasp: Grasp) -> Skill:
    """Grasps and lifts an object; fails where it is not lifted.

    Args:
      context: of the episode.
      body: index of the object's body.
      grasp: where the fingers close, before the style's error.
    """
    hand = grasp.hand.moved(draw_offset(context.random, context.style.grasp_error))
    before = hand.moved(-APPROACH * hand.rotation[:, 2])
    near = arriving(context, hand)
    closing = near and has_started_to_close(context, hand)
    if not (closing or (near and context.state.opening > OPENED)):
        yield from _approach(context, before)
    deep = hand.moved(DEEPER * hand.rotation[:, 2])
    if not closing:
        yield from move_to(context, deep, FULLY_OPEN, near=0.003, turned=0.06, steps=30, speed=0.6, straight=True)
    blocked = np.linalg.norm(context.state.hand.position - hand.position) > BLOCKED
    if blocked or not (yield from close_fingers(context)):
        yield from _give_up(context)
        return False
    held = _held_object(context, body)
    lifted = context.state.hand.moved(np.array([0, 0, LIFT]))
    yield from move_to(context, lifted, CLOSED, near=0.015, turned=ANY_TURN, steps=25, speed=0.6)
    slip = held.grip.inverse.position - _held_object(context, body).grip.inverse.position
    if np.linalg.norm(slip) > MAX_SLIP:
        yield from _give_up(context)
        return False
    return True


def _approach(context: SkillContext, before: Pose) -> Skill:
    """Moves the open hand to a pose before a grasp."""
    yield from pause(context, FULLY_OPEN)
    if context.style.overshoot and not context.hurried:
        direction = before.position - context.state.hand.position
        direction[2] = 0.0
        beyond = direction / max(float(np.linalg.norm(direction)), 1e-6) * context.style.overshoot
        yield from travel(context, before.moved(beyond), FULLY_OPEN, near=0.03)
    yield from travel(context, before, FULLY_OPEN)
    yield from move_to(context, before, FULLY_OPEN, near=0.008, turned=0.06, steps=40)
    yield from pause(context, FULLY_OPEN)
    return True


def place(context: SkillContext, body: int, plan: Plan) -> Skill:
    """Carries the held object to its place and lets go; fails where it is lost on the way.

    Args:
      context: of the episode.
      body: index of the object's body.
      plan: the place, and how the object gets there.
    """
    context.hurried |= context.state.steps_left < CARRY_STEPS
    error = 0.0 if plan.tight else context.style.place_error
    at = plan.release_pose.moved(draw_offset(context.random, error))
    above = at.moved(plan.entry if plan.from_side else ABOVE / plan.entry[2] * plan.entry)
    held = _held_object(context, body)
    if not on_way(context, above @ held.grip.inverse, at @ held.grip.inverse):
        if not (yield from _carry(context, held, above, from_side=plan.from_side)):
            return False
        # The object may have moved in the hand, and it is the object that goes to the place.
        held = _held_object(context, body)
    target = at @ held.grip.inverse
    steps = 20 + int(np.linalg.norm(target.position - context.state.hand.position) / SLOWEST)
    yield from move_to(context, target, CLOSED, near=0.006, turned=0.3, steps=steps, speed=0.6, straight=True)
    if not _still_holds(context, held):
        return False
    yield from pause(context, CLOSED)
    yield from open_fingers(context)
    hand = context.state.hand
    if plan.tight:
        # Its side in the hand gets stuck between the walls: the palm pushes it in.
        yield from move_to(context, hand.moved(PRESS * hand.rotation[:, 2]), FULLY_OPEN, near=0.004, steps=20)
    back = 0.6 * plan.entry if plan.from_side else -0.10 * hand.rotation[:, 2]
    yield from move_to(context, hand.moved(back), FULLY_OPEN, near=0.02, turned=ANY_TURN, steps=30)
    return True


def _carry(context: SkillContext, held: HeldObject, above: Pose, *, from_side: bool) -> Skill:
    """Brings the held object to before its place; fails where it is lost on the way."""
    yield from travel(context, above @ held.grip.inverse, CLOSED, held=held)
    yield from pause(context, CLOSED)
    if not _still_holds(context, held):
        return False
    held = _held_object(context, held.body)
    before = above @ held.grip.inverse
    if not from_side:
        # First exactly above: there may be walls on the way down.
        height = max(context.state.hand.position[2], before.position[2])
        higher = Pose(np.array([*before.position[:2], height]), before.rotation)
        yield from move_to(context, higher, CLOSED, near=0.01, turned=0.2, steps=15, speed=LOADED_SPEED)
    yield from move_to(context, before, CLOSED, near=0.015, turned=0.2, steps=20, speed=LOADED_SPEED)
    return True


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


def _held_object(context: SkillContext, body: int) -> HeldObject:
    """Returns an object in the hand, with its current pose there."""
    return HeldObject(body, context.state.hand.inverse @ context.state.body_pose(body))


def _still_holds(context: SkillContext, held: HeldObject) -> bool:
    """Returns whether an object is about where it was in the hand."""
    expected = context.state.hand @ held.grip
    return bool(np.linalg.norm(expected.position - context.state.body_pose(held.body).position) < LOST)


def _give_up(context: SkillContext) -> Skill:
    """Lets go and moves up."""
    yield from open_fingers(context)
    above = context.state.hand.moved(np.array([0, 0, 0.10]))
    yield from move_to(context, above, FULLY_OPEN, near=0.03, turned=ANY_TURN, steps=25)
    return True
