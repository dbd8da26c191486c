"""Plans for pick and place: pairs of a grasp and a place that the arm reaches without collisions, best first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from rlgen.demos.scripted.geometry import Pose, angle_between, subtree
from rlgen.demos.scripted.kinematics import TOUCH, HeldObject
from rlgen.demos.scripted.planning.entries import RUB, SIDES, SIDEWAYS, Entries, entry_line, find_entries
from rlgen.demos.scripted.planning.grasps import WIDEST, Grasp, find_grasps
from rlgen.demos.scripted.planning.height_maps import cells_of, frame_along
from rlgen.demos.scripted.skills import SkillContext, on_way

MAP_REACH, MAP_CELL = 0.16, 0.003
# Distances from an object at which its maps start, from above and beside, metres; tilts of the latter, radians.
ABOVE, BESIDE_HAND = 0.3, 0.15
TILTS = (0.0, 0.5)
# Tilt of a hand that reaches under something open, from pointing down, radians.
LEAN = 0.7
# Distance before a grasp from which the hand moves straight, and distances at which it must be free, metres.
APPROACH = 0.08
DESCENT = (0.16, APPROACH, 0.04, 0.0)
# Where the arm must move well: fractions of the way from the current pose to before the grasp, with the largest turn on
# it, radians, and distances from the place, metres.
WAY, EASY_TURN, EASY_WITHIN = (0.3, 0.6), 2.2, 0.1
# Distance of a release from the place from which another plan is better, metres, and how many such plans are looked at.
FAR_DROP, MAX_DROPS = 0.07, 10
# Height of objects that may be laid down, in terms of their least horizontal extent.
TALL = 1.3
TURNS = np.arange(-6, 6) * np.pi / 12
# Largest difference between the signatures of grasps of a kind, metres.
ALIKE = 0.015
# Most grasps, and pairs of a grasp and a place.
MAX_GRASPS, MAX_PAIRS = 30, 200


@dataclass(frozen=True)
class Care:
    """Distances that a plan keeps from what it could get stuck at.

    Attributes:
      easy: whether the arm must stay where it moves well, from its current pose on.
      opening: between open fingers that must have room, metres; a hand deviates from its path by millimetres.
    """

    easy: bool
    opening: float


# From the careful to the daring.
CARES = (Care(True, WIDEST + 0.012), Care(False, WIDEST))


@dataclass(frozen=True)
class Plan:
    """A grasp and a place that go together.

    Attributes:
      grasp: where the fingers close.
      place: the object's pose at rest, in the world.
      entry: offset from which the object comes to its place on a straight line, metres.
      release: distance from the place on that line at which the fingers open, metres.
      tight: whether the object all but touches walls in its place.
    """

    grasp: Grasp
    place: Pose
    entry: np.ndarray
    release: float
    tight: bool = False

    @property
    def from_side(self) -> bool:
        """True where the object comes from a side, False where it comes from above."""
        return self.entry[2] == 0

    @property
    def release_pose(self) -> Pose:
        """The object's pose when the fingers open."""
        _, direction, lift = entry_line(self.entry)
        return self.place.moved(self.release * direction + lift)


def find_plans(context: SkillContext, atom: int, rejected: list[np.ndarray]) -> Iterator[Plan]:
    """Yields plans for an atom of the goal, the best first.

    Args:
      context: of the episode.
      atom: index in the goal; `In` or `On`.
      rejected: signatures of grasps that failed before.
    """
    body = int(context.state.scene.goal.bodies[atom])
    rotation = context.state.body_pose(body).rotation
    entries = find_entries(context, atom, rotation)
    grasps = _grasps(context, body, rejected, [_frame_above(context, body)])
    if entries.roofed:
        # A hand from above would collide with the roof.
        from_sides = _grasps(context, body, rejected, _side_frames(context, body))
        grasps = [grasp for pair in zip_longest(from_sides, grasps) for grasp in pair if grasp is not None]
    yield from _plans(context, body, grasps, entries)
    if entries.pairs:
        leaning = _grasps(context, body, rejected, _leaning_frames(context, body))
        yield from _plans(context, body, leaning, entries)
    if _is_tall(context, body):
        # What stands upright may find room, and leave room for the hand, lying on a side.
        for laid in (Rotation.from_rotvec(np.pi / 2 * side).as_matrix() @ rotation for side in SIDES):
            yield from _plans(context, body, grasps, find_entries(context, atom, laid))


def _plans(context: SkillContext, body: int, grasps: Sequence[Grasp], entries: Entries) -> Iterator[Plan]:
    """Yields plans of some grasps and places: the careful ones first, but last those that drop the object far."""
    drops: list[Plan] = []
    for care in CARES:
        enough = len(drops) + MAX_DROPS
        for plan in _feasible_pairs(context, body, grasps, entries, care):
            if plan.release <= FAR_DROP:
                yield plan
            else:
                drops.append(plan)
            if len(drops) == enough:
                break
    yield from drops


def find_carries(context: SkillContext, atom: int, rotation: Float[np.ndarray, "3 3"]) -> Iterator[Plan]:
    """Yields plans for an object that is in the hand already, the best first.

    The last one is for the best place as it is, without a look at the arm: to let go would lose what is achieved.

    Args:
      context: of the episode.
      atom: index in the goal; `In` or `On`.
      rotation: the object's orientation at rest, before it is turned about the vertical.
    """
    body = int(context.state.scene.goal.bodies[atom])
    held = HeldObject(body, context.state.hand.inverse @ context.state.body_pose(body))
    grasp = Grasp(context.state.hand, 0.0)
    entries = find_entries(context, atom, rotation)
    for place, entry in entries.pairs:
        release = _release_distance(context, held, place, entry, entries, easy=False)
        if release is not None:
            yield Plan(grasp, place, entry, release, entries.tight)
    if entries.pairs:
        yield Plan(grasp, *entries.pairs[0], max(entries.releases))


def _feasible_pairs(
    context: SkillContext,
    body: int,
    grasps: Sequence[Grasp],
    entries: Entries,
    care: Care,
) -> Iterator[Plan]:
    """Yields plans of the grasps and the places with their entries that go together."""
    pairs = 0
    for grasp in _both_orientations(context, body, grasps):
        if not _can_pick(context, grasp, care):
            continue
        held = HeldObject(body, grasp.hand.inverse @ context.state.body_pose(body))
        for place, entry in entries.pairs:
            # The hand must not come in wrist first.
            if grasp.hand.rotation[:, 2] @ entry > 0.3 * np.linalg.norm(entry) and entry[2] == 0:
                continue
            pairs += 1
            release = _release_distance(context, held, place, entry, entries, care.easy)
            if release is not None:
                yield Plan(grasp, place, entry, release, entries.tight)
        if pairs > MAX_PAIRS:
            return


def _grasps(context: SkillContext, body: int, rejected: list[np.ndarray], frames: Sequence[Pose]) -> list[Grasp]:
    """Returns grasps along the z axes of some frames, without the rejected ones: usual ones first, then the cheapest.

    The costs include the hand's turn from its initial orientation, and noise that depends on the style.
    """
    bodies = subtree(context.state.model, body)
    center = context.state.data.subtree_com[body].copy()
    initial = context.state.scene.control.initial_orientation
    kept: list[tuple[tuple[int, float], Grasp]] = []
    for frame in frames:
        above = ABOVE if frame.rotation[2, 2] < -0.99 else BESIDE_HAND
        height_map = context.mapper.map(frame, (MAP_REACH, MAP_REACH), above=above, cell=MAP_CELL)
        for grasp in find_grasps(height_map, cells_of(height_map, bodies), center, TURNS):
            signature = grasp_signature(context, body, grasp)
            if all(unlikeness(signature, other) > ALIKE for other in rejected):
                hands = (grasp.hand, grasp.hand.flipped)
                turn = min(angle_between(initial, hand.rotation) for hand in hands)
                scale = context.style.grasp_choice
                noise = context.random.exponential(scale) if scale else 0.0
                cost = grasp.cost + 0.5 * turn + float(noise)
                kept.append((_preference(context, body, signature, cost), Grasp(grasp.hand, cost)))
    return [grasp for _, grasp in sorted(kept, key=lambda pair: pair[0])[:MAX_GRASPS]]


def _preference(context: SkillContext, body: int, signature: np.ndarray, cost: float) -> tuple[int, float]:
    """Returns by what grasps are sorted: how usual their kind is and how far from it they are, or else their cost."""
    habit = context.habits.get(body)
    if habit is None:
        return 0, cost
    apart = unlikeness(habit.kinds, signature)
    near = np.flatnonzero(apart < ALIKE)
    return (int(near[0]), float(apart[near[0]])) if near.size else (len(apart), cost)


def _is_tall(context: SkillContext, body: int) -> bool:
    """Returns whether an object is at least `TALL` times as high as it is deep in one direction."""
    model, data = context.state.model, context.state.data
    geoms = np.flatnonzero(model.geom_bodyid == body)
    rotations = data.geom_xmat[geoms].reshape(-1, 3, 3)
    middles = data.geom_xpos[geoms] + np.einsum("gij,gj->gi", rotations, model.geom_aabb[geoms, :3])
    halves = np.einsum("gij,gj->gi", np.abs(rotations), model.geom_aabb[geoms, 3:])
    extent = (middles + halves).max(axis=0) - (middles - halves).min(axis=0)
    return bool(extent[2] > TALL * extent[:2].min())


def _frame_above(context: SkillContext, body: int) -> Pose:
    """Returns a frame at an object with z down, and x along the initial closing direction of the hand."""
    closing = context.state.scene.control.initial_orientation[:, 0] * [1.0, 1.0, 0.0]
    closing /= np.linalg.norm(closing)
    down = np.array([0.0, 0.0, -1.0])
    center = context.state.data.subtree_com[body].copy()
    return Pose(center, np.stack([closing, np.cross(down, closing), down], axis=1))


def _side_frames(context: SkillContext, body: int) -> list[Pose]:
    """Returns frames at an object along the directions to its place from a side, level and from a little above."""
    center, frames = context.state.data.subtree_com[body].copy(), []
    for entry in SIDEWAYS:
        for tilt in TILTS:
            along = -entry / np.linalg.norm(entry) * np.cos(tilt) - np.array([0, 0, np.sin(tilt)])
            frames.append(frame_along(center, along))
    return frames


def _leaning_frames(context: SkillContext, body: int) -> list[Pose]:
    """Returns frames at an object from above and each side: a hand that leans avoids what is above the object."""
    center, down = context.state.data.subtree_com[body].copy(), np.array([0.0, 0.0, -np.cos(LEAN)])
    sides = (np.array([np.cos(angle), np.sin(angle), 0.0]) for angle in np.arange(8) * np.pi / 4)
    return [frame_along(center, down + np.sin(LEAN) * side) for side in sides]


def arriving(context: SkillContext, hand: Pose) -> bool:
    """Returns whether the hand is on its straight way to a grasp.

    Args:
      context: of the episode.
      hand: pose of the grip site at the grasp.
    """
    return on_way(context, hand.moved(-2 * APPROACH * hand.rotation[:, 2]), hand)


def _both_orientations(context: SkillContext, body: int, grasps: Sequence[Grasp]) -> Iterator[Grasp]:
    """Yields each grasp with both orientations of the hand, first the one nearer to the current one or the usual one.

    Those that the hand is arriving at come before all others.
    """
    current, habit = context.state.hand.rotation, context.habits.get(body)

    def away(hand: Pose) -> tuple[bool, float]:
        if habit is None:
            return False, angle_between(current, hand.rotation)
        return not arriving(context, hand), -float(hand.rotation[:, 0] @ habit.closing)

    for grasp in sorted(grasps, key=lambda grasp: not _arrives(context, grasp)):
        for hand in sorted((grasp.hand, grasp.hand.flipped), key=away):
            yield Grasp(hand, grasp.cost)


def _arrives(context: SkillContext, grasp: Grasp) -> bool:
    return arriving(context, grasp.hand) or arriving(context, grasp.hand.flipped)


def grasp_signature(context: SkillContext, body: int, grasp: Grasp) -> np.ndarray:
    """Returns a vector that is similar for similar grasps of an object, wherever the object is.

    Args:
      context: of the episode.
      body: index of the object's body.
      grasp: in the current state.

    Returns:
      Position of the fingers in the object's frame, metres, and their closing direction, scaled to 3 cm.
    """
    local = context.state.body_pose(body).inverse @ grasp.hand
    return np.concatenate([local.position, 0.03 * local.rotation[:, 0]])


def unlikeness(first: Float[np.ndarray, "*n 6"], second: Float[np.ndarray, "*n 6"]) -> Float[np.ndarray, "*n"]:
    """Returns how far grasps are apart by their signatures, metres; which finger is on which side does not matter.

    Args:
      first: signatures.
      second: of the grasps to compare them with.
    """
    aside = np.linalg.norm(first[..., :3] - second[..., :3], axis=-1)
    turns = [np.linalg.norm(first[..., 3:] - sign * second[..., 3:], axis=-1) for sign in (1, -1)]
    return np.hypot(aside, np.minimum(*turns))


def _can_pick(context: SkillContext, grasp: Grasp, care: Care) -> bool:
    """Returns whether the open hand reaches a grasp without collisions."""
    current, before = context.state.hand, grasp.hand.moved(-APPROACH * grasp.hand.rotation[:, 2])
    if care.easy and angle_between(current.rotation, before.rotation) > EASY_TURN:
        return False
    joints = None
    for fraction in WAY if care.easy else ():
        joints = context.kinematics.solve(current.towards(before, fraction), joints, easy=True)
        if joints is None:
            return False
    for back in DESCENT:
        hand = grasp.hand.moved(-back * grasp.hand.rotation[:, 2])
        easy = care.easy and back <= APPROACH
        joints = context.kinematics.solve_free(hand, opening=care.opening, start=joints, easy=easy)
        if joints is None:
            return False
    return True


def _release_distance(
    context: SkillContext,
    held: HeldObject,
    place: Pose,
    entry: np.ndarray,
    entries: Entries,
    easy: bool,
) -> float | None:
    """Returns the distance from a place at which the fingers open: as near as hand and load come without collisions.

    None where they do not come near enough.
    """
    length, direction, lift = entry_line(entry)
    releases, touch = entries.releases, RUB if entries.tight else TOUCH
    joints, nearest = None, None
    for distance in (*np.linspace(length, max(releases) + 0.02, 3), *sorted(releases, reverse=True)):
        hand = place.moved(distance * direction + lift) @ held.grip.inverse
        near = easy and float(distance) <= EASY_WITHIN
        joints = context.kinematics.solve_free(hand, opening=0.04, held=held, start=joints, easy=near, touch=touch)
        if joints is None:
            break
        nearest = float(distance)
    return nearest if nearest in releases else None
