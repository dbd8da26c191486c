"""Skills that move drawers, doors and knobs: by grasping them, or by pushing or hooking where that is enough."""

from collections.abc import Callable

import mujoco
import numpy as np

from rlgen.demos.scripted.geometry import between_fingers, joint_axis, joint_position, open_end, slides, subtree
from rlgen.demos.scripted.motion import CLOSED, FULLY_OPEN, Move
from rlgen.demos.scripted.planning.contacts import (
    APPROACH,
    HandContact,
    MovingPart,
    axis_distance,
    best_turn,
    carried_pose,
    find_contacts,
    moving_part,
)
from rlgen.demos.scripted.planning.grasps import WIDEST
from rlgen.demos.scripted.skills import (
    ANY_TURN,
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
from rlgen.libero.scenes.goals import CONTAIN

# Distance by which the hand's target leads the part along its path, metres: the part's damping holds the hand back.
LEAD = 0.05
# Distance by which the fingers go on past where they would hold a handle, metres.
DEEPER = 0.01
# A contact that moved the part by less than this fraction of its way is not tried again.
MIN_PROGRESS = 0.2
# Fraction of its range from which a drawer or door counts as wide open.
WIDE_OPEN = 0.9
# Fraction of the way to its target after which a part that is already in the hand is let go.
NEAR_TARGET = 0.97
# Control steps without progress of the part after which the hand gives up, and the least progress, metres or radians.
STALL_STEPS, MIN_STEP = 25, 0.002
# Distance by which the hand leaves a part, metres.
LEAVE = 0.08


def move_joint(
    context: SkillContext, joint: int, target: float, done: Callable[[], bool], rejected: list[np.ndarray]
) -> Skill:
    """Moves a joint towards a position; fails where the hand has no way left or the part hardly moved.

    Args:
      context: of the episode.
      joint: index of the joint.
      target: position, metres or radians.
      done: whether the current position suffices.
      rejected: positions of the hand at contacts that failed; grows.
    """
    part = moving_part(context.state.model, joint, target)
    contact = next(find_contacts(context, part, rejected), None)
    if contact is None:
        return False
    before = contact.hand.moved(contact.approach)
    arriving = not contact.pushes and on_way(context, before, contact.hand)
    if not arriving:
        yield from pause(context, contact.opening)
        yield from travel(context, before, contact.opening)
        yield from move_to(context, before, contact.opening, near=0.015, turned=0.10, steps=30)
        yield from pause(context, contact.opening)
    if contact.pushes:
        yield from move_to(context, contact.beside, contact.opening, near=0.02, turned=0.10, steps=30)
    # Handles are slippery: the hand goes on past the contact until it is nearly there, or the palm touches.
    deep = contact.hand if contact.pushes else contact.hand.moved(DEEPER * contact.hand.rotation[:, 2])
    if not (arriving and contact.grips and has_started_to_close(context, deep)):
        yield from move_to(context, deep, contact.opening, near=0.006, turned=0.10, steps=35, speed=0.6, straight=True)
    if contact.grips and not (yield from close_fingers(context)):
        rejected.append(contact.hand.position)
        yield from _leave(context, contact)
        return False
    start = joint_position(context.state, joint)
    yield from _drag(context, part, contact, done)
    yield from _leave(context, contact)
    if abs(joint_position(context.state, joint) - start) < MIN_PROGRESS * abs(target - start):
        rejected.append(contact.hand.position)
        return False
    return True


def finish_with_joint(context: SkillContext, joint: int, target: float) -> Skill:
    """Moves a joint on, if its part is between the fingers; fails where it is not, or does not get near its target.

    Args:
      context: of the episode.
      joint: index of the joint.
      target: position, metres or radians.
    """
    hand, part = context.state.hand, moving_part(context.state.model, joint, target)
    if not between_fingers(context.state, part.bodies):
        return False
    contact = HandContact(hand, -APPROACH * hand.rotation[:, 2], WIDEST)
    contact = best_turn(context, part, contact, context.state.arm_joints)[1]
    start = joint_position(context.state, joint)
    enough = start + NEAR_TARGET * (target - start)

    def done() -> bool:
        return bool(np.sign(target - start) * (joint_position(context.state, joint) - enough) >= 0)

    yield from _drag(context, part, contact, done)
    yield from _leave(context, contact)
    return done()


def _drag(context: SkillContext, part: MovingPart, contact: HandContact, done: Callable[[], bool]) -> Skill:
    """Moves the hand along the part's path, with a lead, until done or the part stops."""
    start, hand = joint_position(context.state, part.joint), context.state.hand
    axis, anchor = joint_axis(context.state, part.joint)
    sign = np.sign(part.target - start)
    radius = 1.0 if slides(context.state.model, part.joint) else max(axis_distance(hand.position, anchor, axis), 0.06)
    best, stalled = start, 0
    while not done() and stalled < STALL_STEPS:
        now = joint_position(context.state, part.joint)
        if sign * (now - best) > MIN_STEP:
            best, stalled = now, 0
        stalled += 1
        ahead = now - start + sign * LEAD / radius
        yield Move(carried_pose(context, part.joint, hand, ahead, contact.turn_fraction), CLOSED, 0.8)
    return done()


def _leave(context: SkillContext, contact: HandContact) -> Skill:
    """Lets go and moves the hand back along its approach, and up from where it was pushing; straight up from a hook."""
    if contact.grips:
        yield from open_fingers(context)
    up, hand = np.array([0, 0, LEAVE]), context.state.hand
    back = up if contact.hooks else contact.approach / np.linalg.norm(contact.approach) * LEAVE
    opening = FULLY_OPEN if contact.grips else CLOSED
    yield from move_to(context, hand.moved(back), opening, near=0.02, turned=ANY_TURN, steps=25)
    if contact.pushes:
        yield from move_to(context, hand.moved(back + up), FULLY_OPEN, near=0.03, turned=ANY_TURN, steps=25)
    return True


def closed_joints(context: SkillContext, atom: int) -> list[int]:
    """Returns joints, not wide open, of the container of an atom: those of its drawer, or else all of its doors.

    Args:
      context: of the episode.
      atom: index in the goal.
    """
    model, goal = context.state.model, context.state.scene.goal
    if goal.kinds[atom] != CONTAIN:
        return []
    body = int(model.site_bodyid[goal.targets[atom]])
    drawer = _ancestor_joints(model, body)
    fixture = subtree(model, int(model.body_rootid[body]))
    joints = drawer or [joint for joint in range(model.njnt) if fixture[model.jnt_bodyid[joint]]]
    return [
        joint
        for joint in joints
        if mujoco.mjtJoint(model.jnt_type[joint]) in (mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE)
        and abs(joint_position(context.state, joint)) < WIDE_OPEN * abs(open_end(model, joint))
    ]


def _ancestor_joints(model: mujoco.MjModel, body: int) -> list[int]:
    """Returns the joints between a body and the world."""
    found = []
    while body:
        first = int(model.body_jntadr[body])
        found += list(range(first, first + int(model.body_jntnum[body]))) if first >= 0 else []
        body = int(model.body_parentid[body])
    return found
