"""Entries: places for an object, and the straight ways on which it comes to them without collisions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Float

from rlgen.demos.scripted.geometry import Pose, closing_joints, pose_while_closing
from rlgen.demos.scripted.kinematics import TOUCH
from rlgen.demos.scripted.planning.places import Place
from rlgen.demos.scripted.skills import SkillContext
from rlgen.libero.scenes.goals import CONTAIN

# Heights above the place at which an object may be released, onto something and into a container, metres.
RELEASES, DROPS = (0.006, 0.015, 0.03), (0.006, 0.02, 0.04, 0.07, 0.10, 0.14)
# Offsets from which an object comes to its place, metres: from above, past something that juts out there, or under a
# roof from a side.
UPWARDS = np.array([0.0, 0.0, 0.17])
SIDES = tuple(np.array([np.cos(angle), np.sin(angle), 0.0]) for angle in np.arange(4) * np.pi / 2)
SLANTED = tuple(UPWARDS + 0.04 * side for side in SIDES)
SIDEWAYS = tuple(0.26 * side for side in SIDES)
# Height above the floor at which an object comes in from a side, metres.
CARRIED_ABOVE = 0.015
# Offset at which an object at rest overlaps nothing below it, and still fits under what is above, metres.
ABOVE_FLOOR = np.array([0.0, 0.0, 0.004])
# Overlap of an object with the walls of a tight place on its way in, metres.
RUB = 0.004
# Offsets from its place at which an object must fit too, metres.
BESIDE = ((0.006, 0.0), (-0.006, 0.0), (0.0, 0.006), (0.0, -0.006))
# Most places to try and to choose from.
MAX_TRIED, MAX_PLACES = 400, 12


@dataclass(frozen=True)
class Entries:
    """Places for an object, and the ways to them.

    Attributes:
      pairs: places, each with an offset from which the object comes on a straight line, metres; the best first.
      releases: distances from a place at which the object may be released, metres.
      roofed: whether the places are under a roof.
      tight: whether the object all but touches walls there.
    """

    pairs: list[tuple[Pose, np.ndarray]]
    releases: tuple[float, ...]
    roofed: bool = False
    tight: bool = False


def find_entries(context: SkillContext, atom: int, rotation: Float[np.ndarray, "3 3"]) -> Entries:
    """Returns places for the object of an atom from above, or else under a roof from a side.

    Args:
      context: of the episode.
      atom: index in the goal; `In` or `On`.
      rotation: the object's orientation, before it is turned about the vertical.
    """
    inside = context.state.scene.goal.kinds[atom] == CONTAIN
    releases = DROPS if inside else RELEASES
    closing = closing_joints(context.state.scene, atom)
    if closing:
        # An object that is all but too large for a drawer is better in there than sticking out of it.
        places = context.places.find(atom, rotation, roofed=False, slim=True)
        places = (place for place in places if all(fits_closed(context, atom, joint, place.body) for joint in closing))
        pairs = _entries(context, atom, places, (UPWARDS, *SLANTED), RELEASES, tight=True)
        if pairs:
            return Entries(pairs, RELEASES, tight=True)
    places = context.places.find(atom, rotation, roofed=False)
    pairs = _entries(context, atom, places, (UPWARDS,), releases)
    if pairs or not inside:
        return Entries(pairs, releases)
    places = context.places.find(atom, rotation, roofed=True)
    return Entries(_entries(context, atom, places, SIDEWAYS, RELEASES), RELEASES, roofed=True)


def _entries(
    context: SkillContext,
    atom: int,
    places: Iterator[Place],
    offsets: Sequence[np.ndarray],
    releases: tuple[float, ...],
    *,
    tight: bool = False,
) -> list[tuple[Pose, np.ndarray]]:
    """Returns the best places, not all next to each other, with the entries along which the object itself fits."""
    body = int(context.state.scene.goal.bodies[atom])
    entries: list[tuple[Pose, np.ndarray]] = []
    kept: list[Pose] = []
    for place in islice(places, MAX_TRIED):
        if all(_is_apart(place.body, other) for other in kept):
            found = [entry for entry in offsets if _fits_along(context, body, place.body, entry, releases[0], tight)]
            entries += [(place.body, entry) for entry in found]
            kept += [place.body] if found else []
        if len(kept) == MAX_PLACES:
            break
    return entries


def fits_closed(context: SkillContext, atom: int, joint: int, place: Pose, *, touch: float = TOUCH) -> bool:
    """Returns whether the object of an atom overlaps nothing while a drawer or door is being closed.

    Args:
      context: of the episode.
      atom: index in the goal; `In`.
      joint: of the drawer or door.
      place: pose of the object now, in the world.
      touch: overlap that counts as none, metres.
    """
    body = int(context.state.scene.goal.bodies[atom])
    for fraction in (1.0, 0.75, 0.5, 0.25):
        pose, moved = pose_while_closing(context.state, atom, joint, place, fraction)
        if not context.kinematics.object_fits(body, pose.moved(ABOVE_FLOOR), moved, touch):
            return False
    return True


def _is_apart(place: Pose, other: Pose) -> bool:
    distance = place.position[:2] - other.position[:2]
    return bool(np.linalg.norm(distance) > 0.02 or np.linalg.norm(place.rotation - other.rotation) > 0.3)


def _fits_along(context: SkillContext, body: int, place: Pose, entry: np.ndarray, end: float, tight: bool) -> bool:
    """Returns whether an object overlaps nothing along an entry, to `end` metres before its place, and beside it.

    In tight places it may rub along walls, and there is no room beside it.
    """
    length, direction, lift = entry_line(entry)
    # Boards are thin: the steps are small.
    path = [place.moved(step * direction + lift) for step in np.arange(end, length, 0.008)]
    beside = [path[1].moved(np.array([x, y, 0.004])) for x, y in (() if tight else BESIDE)]
    touch = RUB if tight else TOUCH
    return all(context.kinematics.object_fits(body, pose, touch=touch) for pose in (*beside, *path))


def entry_line(entry: Float[np.ndarray, "3"]) -> tuple[float, Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Returns length and direction of an entry, and the offset by which an object is carried above its floor."""
    length = float(np.linalg.norm(entry))
    return length, entry / length, np.array([0, 0, CARRIED_ABOVE]) if entry[2] == 0 else np.zeros(3)
