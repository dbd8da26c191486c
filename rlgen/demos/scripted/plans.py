"""Which grasp and which place go together: pairs that the arm reaches without touching anything, the best first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from rlgen.demos.scripted.geometry import Pose, parts
from rlgen.demos.scripted.grasps import WIDEST, Grasp, find_grasps
from rlgen.demos.scripted.height_maps import belongs, facing
from rlgen.demos.scripted.places import Place
from rlgen.demos.scripted.reach import Held
from rlgen.demos.scripted.skills import Workplace
from rlgen.libero.scenes.goals import CONTAIN

MAP_REACH, MAP_CELL = 0.16, 0.003
# From how far before an object one looks at it, from above and beside it, metres; and how far down from level, radians.
SKY, BESIDE_HAND = 0.3, 0.15
TILTS = (0.0, 0.5)
# How far a hand leans, from pointing down, that reaches under something that is open, radians.
LEAN = 0.7
# From how far before a grasp the hand goes straight to it, and distances at which it must be free on its way.
APPROACH = 0.08
DESCENT = (0.16, APPROACH, 0.04, 0.0)
TURNS = np.arange(-6, 6) * np.pi / 12
# Heights above the place at rest at which an object may be let go: into boxes it may fall.
RELEASES, DROPS = (0.006, 0.015, 0.03), (0.006, 0.02, 0.04, 0.07, 0.10, 0.14)
# Where an object comes from, metres: from above, or where there is a roof from a side.
UPWARDS = np.array([0.0, 0.0, 0.17])
SIDEWAYS = tuple(0.26 * np.array([np.cos(angle), np.sin(angle), 0.0]) for angle in np.arange(4) * np.pi / 2)
CARRIED_ABOVE = 0.01
# An object must fit this far beside its place too, metres.
BESIDE = ((0.006, 0.0), (-0.006, 0.0), (0.0, 0.006), (0.0, -0.006))
# Grasps and places looked at, and pairs of them.
CANDIDATES, PLACES, PAIRS = 30, 12, 200


@dataclass(frozen=True)
class Plan:
    """A grasp and a place that go together.

    Attributes:
      grasp: where the fingers close.
      place: the object's pose at rest, in the world.
      entry: offset from which the object comes to its place on a straight line, metres.
      release: how far before it on that line the fingers open, metres.
    """

    grasp: Grasp
    place: Pose
    entry: np.ndarray
    release: float

    @property
    def sideways(self) -> bool:
        """Whether the object comes from a side rather than from above."""
        return self.entry is not UPWARDS

    @property
    def let_go(self) -> Pose:
        """The object's pose when the fingers open."""
        return self.place.moved(self.release * self.entry / np.linalg.norm(self.entry))


def plans(work: Workplace, atom: int, refused: list[np.ndarray]) -> Iterator[Plan]:
    """Grasps and places that the arm reaches without touching anything, the best first."""
    body = int(work.sight.scene.goal.bodies[atom])
    rotation = work.sight.body(body).rotation
    inside = work.sight.scene.goal.kinds[atom] == CONTAIN
    releases = DROPS if inside else RELEASES
    ways = _ways(work, body, work.places.find(atom, rotation, roofed=False), (UPWARDS,), releases)
    roofed = inside and not ways
    if roofed:
        releases = RELEASES
        ways = _ways(work, body, work.places.find(atom, rotation, roofed=True), SIDEWAYS, releases)
    if not ways:
        return
    candidates = _grasps(work, body, refused, [_from_above(work, body)])
    if roofed:
        # Where a hand from above would meet the roof.
        aside = _grasps(work, body, refused, _from_sides(work, body))
        candidates = [grasp for pair in zip_longest(aside, candidates) for grasp in pair if grasp is not None]
    yield from _pairs(work, body, candidates, ways, releases)
    for frame in _leaning(work, body):
        yield from _pairs(work, body, _grasps(work, body, refused, [frame]), ways, releases)


def _pairs(
    work: Workplace,
    body: int,
    candidates: Sequence[Grasp],
    ways: list[tuple[Pose, np.ndarray]],
    releases: tuple[float, ...],
) -> Iterator[Plan]:
    """Those of some grasps and ways to places that go together."""
    pairs = 0
    for grasp in _both_ways(work, candidates):
        if not _can_pick(work, grasp):
            continue
        held = Held(body, grasp.hand.inverse @ work.sight.body(body))
        for place, entry in ways:
            # A hand goes ahead of its wrist.
            if grasp.hand.rotation[:, 2] @ entry > 0.3 * np.linalg.norm(entry) and entry is not UPWARDS:
                continue
            pairs += 1
            release = _release(work, held, place, entry, releases)
            if release is not None:
                yield Plan(grasp, place, entry, release)
        if pairs > PAIRS:
            return


def _grasps(work: Workplace, body: int, refused: list[np.ndarray], frames: Sequence[Pose]) -> list[Grasp]:
    """Along some directions, the best first, without those that failed; costs with this episode's whims."""
    members = parts(work.sight.model, body)
    centre = work.sight.data.subtree_com[body].copy()
    home = work.sight.scene.control.initial_orientation[:, 0]
    kept = []
    for frame in frames:
        above = SKY if frame.rotation[2, 2] < -0.99 else BESIDE_HAND
        seen = work.terrain.map(frame, (MAP_REACH, MAP_REACH), above=above, cell=MAP_CELL)
        for grasp in find_grasps(seen, belongs(seen, members), centre, TURNS):
            where = grip_mark(work, body, grasp)
            if all(np.linalg.norm(where - other) > 0.015 for other in refused):
                aside = np.arccos(min(abs(float(grasp.hand.rotation[:, 0] @ home)), 1.0))
                whim = work.random.exponential(work.style.grasp_choice) if work.style.grasp_choice else 0.0
                kept.append(Grasp(grasp.hand, grasp.cost + 0.5 * float(aside) + float(whim)))
    return sorted(kept, key=lambda grasp: grasp.cost)[:CANDIDATES]


def _from_above(work: Workplace, body: int) -> Pose:
    """Looking down on an object, x along the way in which the hand closes at the beginning."""
    closing = work.sight.scene.control.initial_orientation[:, 0] * [1.0, 1.0, 0.0]
    closing /= np.linalg.norm(closing)
    down = np.array([0.0, 0.0, -1.0])
    return Pose(work.sight.data.subtree_com[body].copy(), np.stack([closing, np.cross(down, closing), down], axis=1))


def _from_sides(work: Workplace, body: int) -> list[Pose]:
    """Looking at an object the ways in which it may go to its place, level and from a little above."""
    centre, frames = work.sight.data.subtree_com[body].copy(), []
    for entry in SIDEWAYS:
        for tilt in TILTS:
            along = -entry / np.linalg.norm(entry) * np.cos(tilt) - np.array([0, 0, np.sin(tilt)])
            frames.append(facing(centre, along))
    return frames


def _leaning(work: Workplace, body: int) -> list[Pose]:
    """Looking at an object from above and a little from each side: a hand that leans stays beside what is over it."""
    centre, down = work.sight.data.subtree_com[body].copy(), np.array([0.0, 0.0, -np.cos(LEAN)])
    sides = (np.array([np.cos(angle), np.sin(angle), 0.0]) for angle in np.arange(8) * np.pi / 4)
    return [facing(centre, down + np.sin(LEAN) * side) for side in sides]


def _both_ways(work: Workplace, grasps: Sequence[Grasp]) -> Iterator[Grasp]:
    """Each with the hand turned one way and the other, first the one that is nearer to how it is now."""
    for grasp in grasps:
        ways = (grasp.hand, grasp.hand.flipped)
        present = work.sight.hand.rotation[:, 0]
        for hand in sorted(ways, key=lambda way: -float(way.rotation[:, 0] @ present)):
            yield Grasp(hand, grasp.cost)


def grip_mark(work: Workplace, body: int, grasp: Grasp) -> np.ndarray:
    """Where the fingers close, in the object's frame, with the direction counted as centimetres."""
    local = work.sight.body(body).inverse @ grasp.hand
    closing = local.rotation[:, 0]
    return np.concatenate([local.position, 0.03 * np.abs(closing)])


def _can_pick(work: Workplace, grasp: Grasp) -> bool:
    """Whether the hand comes down to a grasp, open, without touching anything."""
    joints = None
    for back in DESCENT:
        before = grasp.hand.moved(-back * grasp.hand.rotation[:, 2])
        joints = work.reach.clear(before, opening=WIDEST, start=joints)
        if joints is None:
            return False
    return True


def _release(work: Workplace, held: Held, spot: Pose, entry: np.ndarray, releases: tuple[float, ...]) -> float | None:
    """How far before a place the fingers may open: as near as hand and load come without touching anything.

    None where they do not come near enough.
    """
    length, ahead, lift = _line(entry)
    joints, nearest = None, None
    for way in (*np.linspace(length, max(releases) + 0.02, 3), *sorted(releases, reverse=True)):
        hand = spot.moved(way * ahead + lift) @ held.grip.inverse
        joints = work.reach.clear(hand, opening=0.04, held=held, start=joints)
        if joints is None:
            break
        nearest = float(way)
    return nearest if nearest in releases else None


def _ways(
    work: Workplace, body: int, spots: list[Place], entries: Sequence[np.ndarray], releases: tuple[float, ...]
) -> list[tuple[Pose, np.ndarray]]:
    """The best places, not all next to each other, with the entries by which the object by itself would get there."""
    ways: list[tuple[Pose, np.ndarray]] = []
    kept: list[Pose] = []
    for spot in spots:
        if all(_apart(spot.body, other) for other in kept):
            found = [entry for entry in entries if _fits_through(work, body, spot.body, entry, releases[0])]
            ways += [(spot.body, entry) for entry in found]
            kept += [spot.body] if found else []
        if len(kept) == PLACES:
            break
    return ways


def _apart(place: Pose, other: Pose) -> bool:
    away = place.position[:2] - other.position[:2]
    return bool(np.linalg.norm(away) > 0.02 or np.linalg.norm(place.rotation - other.rotation) > 0.3)


def _fits_through(work: Workplace, body: int, place: Pose, entry: np.ndarray, end: float) -> bool:
    """Whether an object overlaps nothing on its way to `end` metres before a place, nor a little beside it."""
    length, ahead, lift = _line(entry)
    # Boards are thin: the way is looked at in small steps.
    way = [place.moved(step * ahead + lift) for step in np.arange(end, length, 0.008)]
    beside = [way[1].moved(np.array([x, y, 0.004])) for x, y in BESIDE]
    return all(work.reach.fits(body, pose) for pose in (*beside, *way))


def _line(entry: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Length and direction of an entry, and how much above it an object is carried."""
    length = float(np.linalg.norm(entry))
    # What goes in from the side is carried a little above the floor.
    return length, entry / length, np.zeros(3) if entry is UPWARDS else np.array([0, 0, CARRIED_ABOVE])
