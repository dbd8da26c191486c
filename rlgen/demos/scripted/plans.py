"""Plans for pick and place: pairs of a grasp and a place that the arm reaches without collisions, best first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from jaxtyping import Float

from rlgen.demos.scripted.geometry import Pose, subtree
from rlgen.demos.scripted.grasps import WIDEST, Grasp, find_grasps
from rlgen.demos.scripted.height_maps import cells_of, frame_along
from rlgen.demos.scripted.kinematics import HeldObject
from rlgen.demos.scripted.places import Place
from rlgen.demos.scripted.skills import SkillContext
from rlgen.libero.scenes.goals import CONTAIN

MAP_REACH, MAP_CELL = 0.16, 0.003
# Distances from an object at which its maps start, from above and beside, metres; tilts of the latter, radians.
ABOVE, BESIDE_HAND = 0.3, 0.15
TILTS = (0.0, 0.5)
# Tilt of a hand that reaches under something open, from pointing down, radians.
LEAN = 0.7
# Distance before a grasp from which the hand moves straight, and distances at which it must be free, metres.
APPROACH = 0.08
DESCENT = (0.16, APPROACH, 0.04, 0.0)
TURNS = np.arange(-6, 6) * np.pi / 12
# Heights above the place at which an object may be released, onto something and into a container, metres.
RELEASES, DROPS = (0.006, 0.015, 0.03), (0.006, 0.02, 0.04, 0.07, 0.10, 0.14)
# Offsets from which an object comes to its place, metres: from above, or under a roof from a side.
UPWARDS = np.array([0.0, 0.0, 0.17])
SIDEWAYS = tuple(0.26 * np.array([np.cos(angle), np.sin(angle), 0.0]) for angle in np.arange(4) * np.pi / 2)
# Height above the floor at which an object comes in from a side, metres.
CARRIED_ABOVE = 0.01
# Offsets from its place at which an object must fit too, metres.
BESIDE = ((0.006, 0.0), (-0.006, 0.0), (0.0, 0.006), (0.0, -0.006))
# Most grasps, places, and pairs of them.
MAX_GRASPS, MAX_PLACES, MAX_PAIRS = 30, 12, 200


@dataclass(frozen=True)
class Plan:
    """A grasp and a place that go together.

    Attributes:
      grasp: where the fingers close.
      place: the object's pose at rest, in the world.
      entry: offset from which the object comes to its place on a straight line, metres.
      release: distance from the place on that line at which the fingers open, metres.
    """

    grasp: Grasp
    place: Pose
    entry: np.ndarray
    release: float

    @property
    def from_side(self) -> bool:
        """True where the object comes from a side, False where it comes from above."""
        return self.entry is not UPWARDS

    @property
    def release_pose(self) -> Pose:
        """The object's pose when the fingers open."""
        return self.place.moved(self.release * self.entry / np.linalg.norm(self.entry))


def find_plans(context: SkillContext, atom: int, rejected: list[np.ndarray]) -> Iterator[Plan]:
    """Yields plans for an atom of the goal, the best first.

    Args:
      context: of the episode.
      atom: index in the goal; `In` or `On`.
      rejected: signatures of grasps that failed before.
    """
    body = int(context.state.scene.goal.bodies[atom])
    entries, releases, roofed = _find_entries(context, atom, context.state.body_pose(body).rotation)
    if not entries:
        return
    grasps = _grasps(context, body, rejected, [_frame_above(context, body)])
    if roofed:
        # A hand from above would collide with the roof.
        from_sides = _grasps(context, body, rejected, _side_frames(context, body))
        grasps = [grasp for pair in zip_longest(from_sides, grasps) for grasp in pair if grasp is not None]
    yield from _feasible_pairs(context, body, grasps, entries, releases)
    for frame in _leaning_frames(context, body):
        yield from _feasible_pairs(context, body, _grasps(context, body, rejected, [frame]), entries, releases)


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
    entries, releases, _ = _find_entries(context, atom, rotation)
    for place, entry in entries:
        release = _release_distance(context, held, place, entry, releases)
        if release is not None:
            yield Plan(grasp, place, entry, release)
    if entries:
        yield Plan(grasp, *entries[0], max(releases))


def _find_entries(
    context: SkillContext, atom: int, rotation: Float[np.ndarray, "3 3"]
) -> tuple[list[tuple[Pose, np.ndarray]], tuple[float, ...], bool]:
    """Returns places with their entries, heights of release, and whether the places are under a roof."""
    body = int(context.state.scene.goal.bodies[atom])
    inside = context.state.scene.goal.kinds[atom] == CONTAIN
    releases = DROPS if inside else RELEASES
    entries = _entries(context, body, context.places.find(atom, rotation, roofed=False), (UPWARDS,), releases)
    if entries or not inside:
        return entries, releases, False
    places = context.places.find(atom, rotation, roofed=True)
    return _entries(context, body, places, SIDEWAYS, RELEASES), RELEASES, True


def _feasible_pairs(
    context: SkillContext,
    body: int,
    grasps: Sequence[Grasp],
    entries: list[tuple[Pose, np.ndarray]],
    releases: tuple[float, ...],
) -> Iterator[Plan]:
    """Yields plans of the grasps and the places with their entries that go together."""
    pairs = 0
    for grasp in _both_orientations(context, grasps):
        if not _can_pick(context, grasp):
            continue
        held = HeldObject(body, grasp.hand.inverse @ context.state.body_pose(body))
        for place, entry in entries:
            # The hand must not come in wrist first.
            if grasp.hand.rotation[:, 2] @ entry > 0.3 * np.linalg.norm(entry) and entry is not UPWARDS:
                continue
            pairs += 1
            release = _release_distance(context, held, place, entry, releases)
            if release is not None:
                yield Plan(grasp, place, entry, release)
        if pairs > MAX_PAIRS:
            return


def _grasps(context: SkillContext, body: int, rejected: list[np.ndarray], frames: Sequence[Pose]) -> list[Grasp]:
    """Returns grasps along the z axes of some frames, without the rejected ones, cheapest first.

    The costs include the hand's turn from its initial orientation, and noise that depends on the style.
    """
    bodies = subtree(context.state.model, body)
    center = context.state.data.subtree_com[body].copy()
    initial = context.state.scene.control.initial_orientation[:, 0]
    kept = []
    for frame in frames:
        above = ABOVE if frame.rotation[2, 2] < -0.99 else BESIDE_HAND
        height_map = context.mapper.map(frame, (MAP_REACH, MAP_REACH), above=above, cell=MAP_CELL)
        for grasp in find_grasps(height_map, cells_of(height_map, bodies), center, TURNS):
            signature = grasp_signature(context, body, grasp)
            if all(np.linalg.norm(signature - other) > 0.015 for other in rejected):
                turn = np.arccos(min(abs(float(grasp.hand.rotation[:, 0] @ initial)), 1.0))
                scale = context.style.grasp_choice
                noise = context.random.exponential(scale) if scale else 0.0
                kept.append(Grasp(grasp.hand, grasp.cost + 0.5 * float(turn) + float(noise)))
    return sorted(kept, key=lambda grasp: grasp.cost)[:MAX_GRASPS]


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


def _both_orientations(context: SkillContext, grasps: Sequence[Grasp]) -> Iterator[Grasp]:
    """Yields each grasp with both orientations of the hand, first the one nearer to the current one."""
    for grasp in grasps:
        hands = (grasp.hand, grasp.hand.flipped)
        current = context.state.hand.rotation[:, 0]
        for hand in sorted(hands, key=lambda hand: -float(hand.rotation[:, 0] @ current)):
            yield Grasp(hand, grasp.cost)


def grasp_signature(context: SkillContext, body: int, grasp: Grasp) -> np.ndarray:
    """Returns a vector that is similar for similar grasps of an object, wherever the object is.

    Args:
      context: of the episode.
      body: index of the object's body.
      grasp: in the current state.

    Returns:
      Position of the fingers in the object's frame, metres, and their closing direction without sign, scaled to 3 cm.
    """
    local = context.state.body_pose(body).inverse @ grasp.hand
    closing = local.rotation[:, 0]
    return np.concatenate([local.position, 0.03 * np.abs(closing)])


def _can_pick(context: SkillContext, grasp: Grasp) -> bool:
    """Returns whether the open hand reaches a grasp without collisions."""
    joints = None
    for back in DESCENT:
        before = grasp.hand.moved(-back * grasp.hand.rotation[:, 2])
        joints = context.kinematics.solve_free(before, opening=WIDEST, start=joints)
        if joints is None:
            return False
    return True


def _release_distance(
    context: SkillContext, held: HeldObject, place: Pose, entry: np.ndarray, releases: tuple[float, ...]
) -> float | None:
    """Returns the distance from a place at which the fingers open: as near as hand and load come without collisions.

    None where they do not come near enough.
    """
    length, direction, lift = _entry_line(entry)
    joints, nearest = None, None
    for distance in (*np.linspace(length, max(releases) + 0.02, 3), *sorted(releases, reverse=True)):
        hand = place.moved(distance * direction + lift) @ held.grip.inverse
        joints = context.kinematics.solve_free(hand, opening=0.04, held=held, start=joints)
        if joints is None:
            break
        nearest = float(distance)
    return nearest if nearest in releases else None


def _entries(
    context: SkillContext,
    body: int,
    places: list[Place],
    offsets: Sequence[np.ndarray],
    releases: tuple[float, ...],
) -> list[tuple[Pose, np.ndarray]]:
    """Returns the best places, not all next to each other, with the entries along which the object itself fits."""
    entries: list[tuple[Pose, np.ndarray]] = []
    kept: list[Pose] = []
    for place in places:
        if all(_is_apart(place.body, other) for other in kept):
            found = [entry for entry in offsets if _fits_along(context, body, place.body, entry, releases[0])]
            entries += [(place.body, entry) for entry in found]
            kept += [place.body] if found else []
        if len(kept) == MAX_PLACES:
            break
    return entries


def _is_apart(place: Pose, other: Pose) -> bool:
    distance = place.position[:2] - other.position[:2]
    return bool(np.linalg.norm(distance) > 0.02 or np.linalg.norm(place.rotation - other.rotation) > 0.3)


def _fits_along(context: SkillContext, body: int, place: Pose, entry: np.ndarray, end: float) -> bool:
    """Returns whether an object overlaps nothing along an entry, to `end` metres before its place, and beside it."""
    length, direction, lift = _entry_line(entry)
    # Boards are thin: the steps are small.
    path = [place.moved(step * direction + lift) for step in np.arange(end, length, 0.008)]
    beside = [path[1].moved(np.array([x, y, 0.004])) for x, y in BESIDE]
    return all(context.kinematics.object_fits(body, pose) for pose in (*beside, *path))


def _entry_line(entry: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Returns length and direction of an entry, and the offset by which an object is carried above its floor."""
    length = float(np.linalg.norm(entry))
    return length, entry / length, np.zeros(3) if entry is UPWARDS else np.array([0, 0, CARRIED_ABOVE])
