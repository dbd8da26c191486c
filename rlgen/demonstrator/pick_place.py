"""Picking an object up and putting it where an atom of the goal wants it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rlgen.demonstrator.grasps import WIDEST, Grasp, find_grasps
from rlgen.demonstrator.places import Place
from rlgen.demonstrator.pose import Pose
from rlgen.demonstrator.reach import Held
from rlgen.demonstrator.sight import parts
from rlgen.demonstrator.skills import (
    Skill,
    Workplace,
    close_fingers,
    go,
    hesitate,
    open_fingers,
    travel,
)
from rlgen.demonstrator.style import spread
from rlgen.demonstrator.terrain import belongs, looking_down
from rlgen.libero.predicates import CONTAIN

MAP_REACH, MAP_CELL = 0.16, 0.003
APPROACH, LIFT = 0.08, 0.06
TURNS = np.arange(-6, 6) * np.pi / 12
PLACE_TURNS = (0.0, *(sign * angle for angle in (0.5, 1.0, 1.57) for sign in (1, -1)))
# Heights above the place at rest at which an object may be let go: into boxes it may fall.
RELEASES, DROPS = (0.006, 0.015, 0.03), (0.006, 0.02, 0.04, 0.07, 0.10, 0.14)
# An object further than this from where the hand should have it has been lost.
LOST = 0.05


@dataclass(frozen=True)
class Plan:
    """A grasp and a place that go together.

    Attributes:
      grasp: where the fingers close.
      grip: the object's pose in the hand.
      place: the object's pose at rest, in the world.
      release: how far above it the fingers open, metres.
    """

    grasp: Grasp
    grip: Pose
    place: Pose
    release: float


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
        refused.append(_in_body(work, body, plan.grasp))
        return False
    return (yield from place(work, body, plan))


def pick(work: Workplace, body: int, grasp: Grasp) -> Skill:
    """Grasps and lifts; false where the object stays or falls."""
    hand = grasp.hand.moved(spread(work.random, work.style.grasp_error))
    before = hand.moved(-APPROACH * hand.rotation[:, 2])
    yield from hesitate(work, False)
    side, rise = work.style.detour
    if side or rise:
        yield from travel(work, before.moved(np.array([0.0, side, rise])), False, near=0.04)
    if work.style.overshoot:
        way = before.position - work.sight.hand.position
        way[2] = 0.0
        beyond = way / max(float(np.linalg.norm(way)), 1e-6) * work.style.overshoot
        yield from travel(work, before.moved(beyond), False, near=0.03)
    yield from travel(work, before, False)
    yield from go(work, before, False, near=0.012, turned=0.06)
    yield from hesitate(work, False)
    yield from go(work, hand, False, near=0.004, turned=0.06, steps=40, speed=0.6)
    resting = work.sight.body(body).position[2]
    if not (yield from close_fingers(work)):
        yield from _give_up(work)
        return False
    yield from go(work, work.sight.hand.moved(np.array([0, 0, LIFT])), True, near=0.015, turned=9.0, steps=25)
    if work.sight.body(body).position[2] < resting + 0.4 * LIFT:
        yield from _give_up(work)
        return False
    return True


def place(work: Workplace, body: int, plan: Plan) -> Skill:
    """Carries what is held to its place and lets go; false where it was lost on the way."""
    at = plan.place.moved(spread(work.random, work.style.place_error) + [0, 0, plan.release])

    def hand_for(pose: Pose) -> Pose:
        # The object is brought to its place, however it lies in the hand.
        grip = work.sight.hand.inverse @ work.sight.body(body)
        return pose @ grip.inverse

    above = at.moved(np.array([0, 0, 0.06]))
    held = Held(body, work.sight.hand.inverse @ work.sight.body(body))
    yield from travel(work, hand_for(above), True, held=held)
    yield from hesitate(work, True)
    if not _holding(work, body, held):
        return False
    yield from go(work, lambda: hand_for(above), True, near=0.012, turned=0.08, steps=30)
    yield from go(work, lambda: hand_for(at), True, near=0.006, turned=0.1, steps=30, speed=0.6)
    if not _holding(work, body, held):
        return False
    yield from hesitate(work, True)
    yield from open_fingers(work)
    hand = work.sight.hand
    yield from go(work, hand.moved(-0.10 * hand.rotation[:, 2]), False, near=0.02, turned=9.0, steps=30)
    return True


def plans(work: Workplace, atom: int, refused: list[np.ndarray]) -> Iterator[Plan]:
    """Grasps and places that the arm reaches without touching anything, the best first."""
    body = int(work.sight.scene.goal.bodies[atom])
    candidates = sorted(_grasps(work, body, refused), key=lambda grasp: grasp.cost)
    spots = work.places.find(atom, work.sight.body(body).rotation, PLACE_TURNS)
    drops = DROPS if work.sight.scene.goal.kinds[atom] == CONTAIN else RELEASES
    for grasp in candidates:
        if not _can_pick(work, body, grasp):
            continue
        grip = grasp.hand.inverse @ work.sight.body(body)
        for spot in _varied(spots):
            release = _release(work, Held(body, grip), spot.body, drops)
            if release is not None:
                yield Plan(grasp, grip, spot.body, release)


def _grasps(work: Workplace, body: int, refused: list[np.ndarray]) -> list[Grasp]:
    """From above, without those that failed; costs with this episode's whims."""
    members = parts(work.sight.model, body)
    centre = work.sight.data.subtree_com[body].copy()
    seen = work.terrain.map(looking_down(centre), (MAP_REACH, MAP_REACH), above=0.3, cell=MAP_CELL)
    home = work.sight.scene.control.initial_orientation[:, 0]
    # The map's y axis points along the world's -y.
    middle = np.arctan2(-home[1], home[0])
    found = find_grasps(seen, belongs(seen, members), centre, middle + TURNS)
    kept = []
    for grasp in found:
        where = _in_body(work, body, grasp)
        if all(np.linalg.norm(where - other) > 0.015 for other in refused):
            aside = np.arccos(min(abs(float(grasp.hand.rotation[:, 0] @ home)), 1.0))
            whim = work.random.exponential(work.style.grasp_choice) if work.style.grasp_choice else 0.0
            kept.append(Grasp(grasp.hand, grasp.cost + 0.5 * float(aside) + float(whim)))
    return kept


def _in_body(work: Workplace, body: int, grasp: Grasp) -> np.ndarray:
    """Where the fingers close, in the object's frame, with the direction counted as centimetres."""
    local = work.sight.body(body).inverse @ grasp.hand
    closing = local.rotation[:, 0]
    return np.concatenate([local.position, 0.03 * np.abs(closing)])


def _can_pick(work: Workplace, body: int, grasp: Grasp) -> bool:
    before = grasp.hand.moved(-APPROACH * grasp.hand.rotation[:, 2])
    joints = work.reach.clear(before, opening=WIDEST)
    return joints is not None and work.reach.clear(grasp.hand, opening=WIDEST, start=joints) is not None


def _release(work: Workplace, held: Held, spot: Pose, drops: tuple[float, ...]) -> float | None:
    """The lowest height above a place at which hand and load are clear, and above it; None where there is none."""
    joints = work.reach.clear((spot.moved(np.array([0, 0, 0.16]))) @ held.grip.inverse, opening=0.04, held=held)
    if joints is None:
        return None
    for drop in drops:
        hand = spot.moved(np.array([0, 0, drop])) @ held.grip.inverse
        if work.reach.clear(hand, opening=0.04, held=held, start=joints) is not None:
            return drop
    return None


def _varied(spots: list[Place], count: int = 12) -> list[Place]:
    """The best places, not all next to each other."""
    kept: list[Place] = []
    for spot in spots:
        apart = (
            np.linalg.norm(spot.body.position[:2] - other.body.position[:2]) > 0.02
            or np.linalg.norm(spot.body.rotation - other.body.rotation) > 0.3
            for other in kept
        )
        if all(apart):
            kept.append(spot)
        if len(kept) == count:
            break
    return kept


def _holding(work: Workplace, body: int, held: Held) -> bool:
    wanted = work.sight.hand @ held.grip
    return bool(np.linalg.norm(wanted.position - work.sight.body(body).position) < LOST)


def _give_up(work: Workplace) -> Skill:
    """Lets go and backs off."""
    yield from open_fingers(work)
    hand = work.sight.hand
    yield from go(work, hand.moved(np.array([0, 0, 0.10])), False, near=0.03, turned=9.0, steps=25)
    return True
