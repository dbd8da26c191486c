"""Picking an object up and putting it where an atom of the goal wants it."""

import numpy as np

from rlgen.demos.scripted.geometry import Pose
from rlgen.demos.scripted.grasps import Grasp
from rlgen.demos.scripted.motion import OPEN, spread
from rlgen.demos.scripted.plans import APPROACH, Plan, grip_mark
from rlgen.demos.scripted.reach import Held
from rlgen.demos.scripted.skills import (
    CLOSED,
    LOADED,
    Skill,
    Workplace,
    close_fingers,
    go,
    hesitate,
    open_fingers,
    travel,
)

# How far an object is lifted to see whether it comes along, and from how far above its place it goes straight down.
LIFT, ABOVE = 0.06, 0.06
# The hand may have moved this far in the object's frame while it was lifted: what hangs from its rim turns.
SLIP = 0.03
# A hand this far from where it was to grasp has met something.
BLOCKED = 0.015
# Control steps that are enough for carrying something without hurry.
TO_CARRY = 130
# An object further than this from where the hand should have it has been lost.
LOST = 0.05


def pick_and_place(work: Workplace, atom: int, plan: Plan, refused: list[np.ndarray]) -> Skill:
    """Brings the object of an atom to its place.

    Args:
      work: what to work with.
      atom: number in the goal; `In` or `On`.
      plan: one of `plans`.
      refused: where grasps failed before, in the object's frame; grows.
    """
    body = int(work.sight.scene.goal.bodies[atom])
    if not (yield from pick(work, body, plan.grasp)):
        refused.append(grip_mark(work, body, plan.grasp))
        return False
    return (yield from place(work, body, plan))


def pick(work: Workplace, body: int, grasp: Grasp) -> Skill:
    """Grasps and lifts; false where the object stays or falls."""
    hand = grasp.hand.moved(spread(work.random, work.style.grasp_error))
    before = hand.moved(-APPROACH * hand.rotation[:, 2])
    yield from hesitate(work, OPEN)
    if work.style.overshoot and not work.hurried:
        way = before.position - work.sight.hand.position
        way[2] = 0.0
        beyond = way / max(float(np.linalg.norm(way)), 1e-6) * work.style.overshoot
        yield from travel(work, before.moved(beyond), OPEN, near=0.03)
    yield from travel(work, before, OPEN)
    yield from go(work, before, OPEN, near=0.008, turned=0.06, steps=40)
    yield from hesitate(work, OPEN)
    yield from go(work, hand, OPEN, near=0.006, turned=0.06, steps=30, speed=0.6)
    blocked = np.linalg.norm(work.sight.hand.position - hand.position) > BLOCKED
    if blocked or not (yield from close_fingers(work)):
        yield from _give_up(work)
        return False
    held = _held(work, body)
    yield from go(
        work, work.sight.hand.moved(np.array([0, 0, LIFT])), CLOSED, near=0.015, turned=9.0, steps=25, speed=0.6
    )
    slipped = held.grip.inverse.position - _held(work, body).grip.inverse.position
    if np.linalg.norm(slipped) > SLIP:
        yield from _give_up(work)
        return False
    return True


def place(work: Workplace, body: int, plan: Plan) -> Skill:
    """Carries what is held to its place and lets go; false where it was lost on the way."""
    work.hurried |= work.sight.left < TO_CARRY
    at = plan.let_go.moved(spread(work.random, work.style.place_error))

    above = at.moved(plan.entry if plan.sideways else np.array([0, 0, ABOVE]))
    held = _held(work, body)
    yield from travel(work, above @ held.grip.inverse, CLOSED, held=held)
    yield from hesitate(work, CLOSED)
    if not _holding(work, body, held):
        return False
    # However the object lies in the hand by now: it is the object that goes to its place.
    held = _held(work, body)
    before = above @ held.grip.inverse
    if not plan.sideways:
        # First exactly over it: there may be walls on the way down.
        higher = Pose(
            np.array([*before.position[:2], max(work.sight.hand.position[2], before.position[2])]), before.rotation
        )
        yield from go(work, higher, CLOSED, near=0.01, turned=0.2, steps=15, speed=LOADED)
    yield from go(work, before, CLOSED, near=0.015, turned=0.2, steps=20, speed=LOADED)
    held = _held(work, body)
    yield from go(work, at @ held.grip.inverse, CLOSED, near=0.006, turned=0.3, steps=30, speed=0.6)
    if not _holding(work, body, held):
        return False
    yield from hesitate(work, CLOSED)
    yield from open_fingers(work)
    hand = work.sight.hand
    back = 0.6 * plan.entry if plan.sideways else -0.10 * hand.rotation[:, 2]
    yield from go(work, hand.moved(back), OPEN, near=0.02, turned=9.0, steps=30)
    return True


def _held(work: Workplace, body: int) -> Held:
    """What is in the hand, as it lies there."""
    return Held(body, work.sight.hand.inverse @ work.sight.body(body))


def _holding(work: Workplace, body: int, held: Held) -> bool:
    wanted = work.sight.hand @ held.grip
    return bool(np.linalg.norm(wanted.position - work.sight.body(body).position) < LOST)


def _give_up(work: Workplace) -> Skill:
    """Lets go and backs off."""
    yield from open_fingers(work)
    hand = work.sight.hand
    yield from go(work, hand.moved(np.array([0, 0, 0.10])), OPEN, near=0.03, turned=9.0, steps=25)
    return True
