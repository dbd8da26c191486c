"""What all skills are made of: going somewhere, waiting, the fingers, and the tools they share."""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from rlgen.demos.scripted.geometry import Pose, Sight, rotation_between
from rlgen.demos.scripted.height_maps import Terrain
from rlgen.demos.scripted.motion import OPEN, Move, Style, hesitation
from rlgen.demos.scripted.places import Places
from rlgen.demos.scripted.reach import Held, Reach

# A skill yields a move a control step, while `Workplace.sight` is kept up to date, and returns whether it succeeded.
Skill = Generator[Move, None, bool]
CLOSED, OPENED = 0.0, 0.06
# From the grip site down to the fingertips, and a little.
BELOW_HAND = 0.015
# A hand that got no millimetre nearer for some control steps is held by something; a radian counts as metres.
GAIN, PATIENCE, TURN_COUNTS = 0.001, 10, 0.05
# Share of the speed with something in the hand.
LOADED = 0.9
# Half widths of what is swept by the hand and by the hand with a load, and between points of a way, metres; and how
# near such a point is passed.
HAND_WIDTH, LOAD_WIDTH, STOPS, PASSING = 0.06, 0.10, 0.10, 0.05
# Ways to get out from under something, metres.
ASIDE = tuple(
    np.array([radius * np.cos(angle), radius * np.sin(angle), 0.0])
    for radius in (0.0, 0.04, 0.08, 0.12, 0.16)
    for angle in (np.arange(8) * np.pi / 4 if radius else (0.0,))
)


@dataclass
class Workplace:
    """What a skill works with.

    Attributes:
      sight: the present state.
      reach, terrain, places: questions about poses that are not there yet.
      style, random: how this episode is performed.
      hurried: whether there is no time for hesitations and bends.
    """

    sight: Sight
    reach: Reach
    terrain: Terrain
    places: Places
    style: Style
    random: np.random.Generator
    hurried: bool = False


def go(
    work: Workplace,
    target: Pose,
    opening: float,
    *,
    near: float = 0.01,
    turned: float = 0.15,
    steps: int = 70,
    speed: float = 1.0,
) -> Skill:
    """Until the hand is there; false where it does not arrive in time or no longer gets nearer."""
    # Who is in a hurry is as fast as can be, whatever the style.
    speed = speed / work.style.speed if work.hurried else speed
    nearest, since = np.inf, 0
    for _ in range(steps):
        hand = work.sight.hand
        away = float(np.linalg.norm(target.position - hand.position))
        aside = float(np.linalg.norm(rotation_between(hand.rotation, target.rotation)))
        if away < near and aside < turned:
            return True
        left = away + TURN_COUNTS * min(aside, 1.0)
        nearest, since = (left, 0) if left < nearest - GAIN else (nearest, since + 1)
        if since >= PATIENCE:
            return False
        yield Move(target, opening, speed)
    return False


def wait(work: Workplace, steps: int, opening: float) -> Skill:
    """Holds still."""
    for _ in range(steps):
        yield Move(None, opening)
    return True


def hesitate(work: Workplace, opening: float) -> Skill:
    """Waits as people do now and then, in a style that does."""
    steps = hesitation(work.style, work.random)
    yield from wait(work, 0 if work.hurried else steps, opening)
    return True


def close_fingers(work: Workplace) -> Skill:
    """Closes until the fingers stand still; false where nothing is between them."""
    before, hand = work.sight.opening, work.sight.hand
    for step in range(2 * work.style.close_steps):
        # The hand keeps its place by its own actions: steps without any are dropped from datasets.
        yield Move(hand, CLOSED)
        now = work.sight.opening
        if step + 1 >= work.style.close_steps and abs(now - before) < 5e-4:
            break
        before = now
    return work.sight.opening > 0.002


def open_fingers(work: Workplace, steps: int = 12) -> Skill:
    """Opens until the hand is wide enough to go."""
    hand = work.sight.hand
    for _ in range(steps):
        yield Move(hand, OPEN)
        if work.sight.opening > OPENED:
            break
    return True


def travel(work: Workplace, target: Pose, opening: float, *, held: Held | None = None, near: float = 0.02) -> Skill:
    """Over whatever is in the way, to the target or to above it where something lies under the way there."""
    speed = LOADED if held is not None else 1.0
    if held is not None:
        yield from _from_under(work, held, _way_over(work, target, held)[0] - work.sight.hand.position[2])
    heights = _way_over(work, target, held)
    begin = work.sight.hand.position
    if begin[2] < heights[0] - 0.03:
        up = Pose(np.array([*begin[:2], heights[0]]), work.sight.hand.rotation)
        yield from go(work, up, opening, near=0.03, turned=9.0, speed=speed)
    way, arc = (target.position - begin)[:2], _arc(work)
    aside = arc * np.array([-way[1], way[0]]) / max(float(np.linalg.norm(way)), 1e-6)
    for share, height in zip(np.linspace(0, 1, len(heights))[1:-1], heights[1:-1], strict=True):
        there = begin[:2] + share * way + np.sin(np.pi * share) * aside
        between = Pose(np.array([*there, height]), target.rotation)
        yield from go(work, between, opening, near=PASSING, turned=9.0, speed=speed, steps=30)
    over = Pose(np.array([*target.position[:2], heights[-1]]), target.rotation)
    return (yield from go(work, over, opening, near=near, speed=speed))


def _from_under(work: Workplace, held: Held, rise: float) -> Skill:
    """Sideways first where what is held would hit something on its way up, such as an open drawer."""
    here, hand = work.sight.body(held.body), work.sight.hand
    ups = [np.array([0, 0, up]) for up in np.arange(0.02, rise, 0.02)]
    for offset in ASIDE:
        way = [here.moved(share * offset) for share in (0.25, 0.5, 0.75, 1.0)]
        if all(work.reach.fits(held.body, pose) for pose in (*way, *(way[-1].moved(up) for up in ups))):
            if offset.any():
                yield from go(work, hand.moved(offset), CLOSED, near=0.015, turned=9.0, steps=25, speed=LOADED)
            return True
    return False


def _way_over(work: Workplace, target: Pose, held: Held | None) -> list[float]:
    """Heights of the grip site along the way, from here to above the target, at which hand and load are clear."""
    hand = work.sight.hand
    way = (target.position - hand.position)[:2]
    length = float(np.linalg.norm(way))
    x = np.array([*(way / length), 0.0]) if length > 1e-3 else np.array([1.0, 0, 0])
    middle = np.array([*(hand.position[:2] + way / 2), max(hand.position[2], target.position[2])])
    frame = Pose(middle, np.stack([x, np.cross([0, 0, -1.0], x), [0, 0, -1.0]], axis=1))
    below = BELOW_HAND if held is None else max(BELOW_HAND, _load_depth(work, held))
    width = (HAND_WIDTH if held is None else LOAD_WIDTH) + abs(_arc(work))
    body = None if held is None else held.body
    seen = work.terrain.map(frame, (length / 2 + width, width), above=0.5, cell=0.02, without=body)
    tops = middle[2] + seen.height.max(axis=1)
    along = np.linspace(-length / 2 - width, length / 2 + width, len(tops))
    stops = np.linspace(-length / 2, length / 2, 2 + int(length / STOPS))
    lowest = np.linspace(min(hand.position[2], target.position[2]), target.position[2], len(stops))
    return [
        float(max(low, tops[np.abs(along - stop) <= width + STOPS / 2].max() + below + work.style.clearance))
        for stop, low in zip(stops, lowest, strict=True)
    ]


def _arc(work: Workplace) -> float:
    """How far ways bend to a side; in a hurry they are straight."""
    return 0.0 if work.hurried else work.style.arc


def _load_depth(work: Workplace, held: Held) -> float:
    """How far what is held reaches below the grip site."""
    pose = work.sight.body(held.body)
    frame = Pose(pose.position + np.array([0, 0, 30.0]), np.eye(3))
    put = (held.body, Pose(frame.position, pose.rotation))
    under = work.terrain.map(frame, (0.15, 0.15), above=0.4, cell=0.015, put=put)
    return float(under.height.max() + work.sight.hand.position[2] - pose.position[2])
