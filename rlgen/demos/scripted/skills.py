"""The elements of all skills: moving, waiting and the fingers, and the context that skills share."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from rlgen.demos.scripted.geometry import Pose, SceneState, angle_between
from rlgen.demos.scripted.kinematics import HeldObject, Kinematics
from rlgen.demos.scripted.motion import CLOSED, FULLY_OPEN, METERS_PER_ACTION, Move, Style, draw_pause
from rlgen.demos.scripted.planning.height_maps import HeightMapper
from rlgen.demos.scripted.planning.places import PlaceFinder

# A skill yields a move per control step, while `SkillContext.state` is kept up to date, and returns its success.
Skill = Generator[Move, None, bool]
# Opening at which the fingers count as open, metres.
OPENED = 0.06
# Opening below which nothing is between closed fingers, and change per control step at which they have stopped, metres.
NOTHING_BETWEEN, FINGERS_STOPPED = 0.002, 5e-4
# Distance from the grip site down to the fingertips, with a margin, metres.
BELOW_HAND = 0.015
# A hand that gets no nearer by MIN_PROGRESS metres in STALL_STEPS control steps is blocked; a radian counts as metres.
MIN_PROGRESS, STALL_STEPS, METERS_PER_RADIAN = 0.001, 10, 0.05
# An orientation tolerance that any hand meets, radians.
ANY_TURN = 9.0
# Distance from a straight way at its end, metres, and by how much more for every metre before it, at which a hand is on
# it; its turn there, radians, and part of the way that it may be past the end.
ON_WAY, FUNNEL, ON_WAY_TURN, PAST_END = 0.012, 0.1, 0.2, 0.15
# Distance from a grasp at which the hand was blocked, metres.
BLOCKED = 0.015
# Relative speed with a load.
LOADED_SPEED = 0.9
# Half widths swept by the hand, empty and loaded; distance between waypoints, and tolerance at them, metres.
HAND_WIDTH, LOAD_WIDTH, WAYPOINT_DISTANCE, WAYPOINT_TOLERANCE = 0.06, 0.10, 0.10, 0.05
# Horizontal offsets to get out from under something, metres.
SIDESTEPS = tuple(
    np.array([radius * np.cos(angle), radius * np.sin(angle), 0.0])
    for radius in (0.0, 0.04, 0.08, 0.12, 0.16)
    for angle in (np.arange(8) * np.pi / 4 if radius else (0.0,))
)


@dataclass(frozen=True)
class Habit:
    """The usual grasps of an object.

    Attributes:
      kinds: their signatures (`planning.plans.grasp_signature`), the most usual first.
      closing: x axis of the hand, in the world, in the most usual one.
    """

    kinds: Float[np.ndarray, "k 6"]
    closing: Float[np.ndarray, "3"]


# By the object's body.
Habits = Mapping[int, Habit]


@dataclass
class SkillContext:
    """The state, tools and style that the skills of an episode share.

    Attributes:
      state: current state.
      kinematics, mapper, places: answers to questions about other states.
      style, random: manner of this episode, and its source of variation.
      habits: grasps that are preferred, where the expert has any.
      hurried: whether there is no time for pauses and bends.
    """

    state: SceneState
    kinematics: Kinematics
    mapper: HeightMapper
    places: PlaceFinder
    style: Style
    random: np.random.Generator
    habits: Habits = field(default_factory=dict)
    hurried: bool = False


def move_to(
    context: SkillContext,
    target: Pose,
    opening: float,
    *,
    near: float = 0.01,
    turned: float = 0.15,
    steps: int = 70,
    speed: float = 1.0,
    straight: bool = False,
) -> Skill:
    """Moves the hand straight to a pose; fails where it does not arrive in time or no longer gets nearer.

    Args:
      context: of the episode.
      target: pose of the grip site.
      opening: between the fingers, metres.
      near: largest distance at which the hand has arrived, metres.
      turned: largest rotation at which it has, radians.
      steps: most control steps.
      speed: relative to the style's speed.
      straight: whether to come back to the straight line from the current position wherever the hand gets off it, as a
        moving arm does by up to two centimetres, instead of heading for the target from there.
    """
    # In a hurry the hand is as fast as it can be, in any style.
    speed = speed / context.style.speed if context.hurried else speed
    nearest, stalled, start = np.inf, 0, context.state.hand.position
    ahead = METERS_PER_ACTION * speed * context.style.speed / context.style.gain
    for _ in range(steps):
        hand = context.state.hand
        distance = float(np.linalg.norm(target.position - hand.position))
        angle = angle_between(hand.rotation, target.rotation)
        if distance < near and angle < turned:
            return True
        left = distance + METERS_PER_RADIAN * angle
        nearest, stalled = (left, 0) if left < nearest - MIN_PROGRESS else (nearest, stalled + 1)
        if stalled >= STALL_STEPS:
            return False
        goal = on_line(start, target.position, hand.position, ahead) if straight else target.position
        yield Move(Pose(goal, target.rotation), opening, speed)
    return False


def on_way(context: SkillContext, start: Pose, end: Pose) -> bool:
    """Returns whether the hand is on the straight way from one pose to another, turned like the second.

    A skill that begins there goes on: to go back to the start first would contradict whole episodes, which pass such
    states in the other direction.

    Args:
      context: of the episode.
      start: of the way.
      end: of the way.
    """
    hand, way = context.state.hand, end.position - start.position
    length = max(float(np.linalg.norm(way)), 1e-9)
    along = float((hand.position - start.position) @ way) / length
    aside = np.linalg.norm(hand.position - start.position - along / length * way)
    within = ON_WAY + FUNNEL * max(length - along, 0.0)
    turn = angle_between(hand.rotation, end.rotation)
    return bool(0 <= along <= (1 + PAST_END) * length and aside < within and turn < ON_WAY_TURN)


def on_line(
    start: Float[np.ndarray, "3"], end: Float[np.ndarray, "3"], position: Float[np.ndarray, "3"], ahead: float
) -> Float[np.ndarray, "3"]:
    """Returns the point of a line that is some way further than the one nearest to a position, at most its end.

    Args:
      start: of the line, metres.
      end: of the line.
      position: that is near it.
      ahead: how much further, metres.
    """
    length = float(np.linalg.norm(end - start))
    way = float((position - start) @ (end - start)) / max(length, 1e-9) + ahead
    return end if way >= length else start + way / length * (end - start)


def wait(steps: int, opening: float) -> Skill:
    """Holds still for some control steps."""
    for _ in range(steps):
        yield Move(None, opening)
    return True


def pause(context: SkillContext, opening: float) -> Skill:
    """Waits now and then, as humans do, in a style that does."""
    steps = draw_pause(context.style, context.random)
    yield from wait(0 if context.hurried else steps, opening)
    return True


def close_fingers(context: SkillContext) -> Skill:
    """Closes the fingers until they stop; fails where nothing is between them."""
    before, hand = context.state.opening, context.state.hand
    for step in range(2 * context.style.close_steps):
        # The target is the hand's own pose: control steps without motion are dropped from datasets.
        yield Move(hand, CLOSED)
        now = context.state.opening
        if step + 1 >= context.style.close_steps and abs(now - before) < FINGERS_STOPPED:
            break
        before = now
    return context.state.opening > NOTHING_BETWEEN


def has_started_to_close(context: SkillContext, hand: Pose) -> bool:
    """Returns whether another actor has begun to close the fingers where the hand should be.

    Args:
      context: of the episode.
      hand: pose of the grip site where they should close.
    """
    here = np.linalg.norm(context.state.hand.position - hand.position) < BLOCKED
    return bool(here) and context.state.opening < OPENED


def open_fingers(context: SkillContext, steps: int = 12) -> Skill:
    """Opens the fingers until the hand can leave."""
    hand = context.state.hand
    for _ in range(steps):
        yield Move(hand, FULLY_OPEN)
        if context.state.opening > OPENED:
            break
    return True


def travel(
    context: SkillContext, target: Pose, opening: float, *, held: HeldObject | None = None, near: float = 0.02
) -> Skill:
    """Moves the hand over all obstacles to a pose, or to above it where an obstacle is under the path there.

    Args:
      context: of the episode.
      target: pose of the grip site.
      opening: between the fingers, metres.
      held: object in the hand.
      near: largest distance at which the hand has arrived, metres.
    """
    speed = LOADED_SPEED if held is not None else 1.0
    if held is not None:
        rise = _path_heights(context, target, held)[0] - context.state.hand.position[2]
        yield from _sidestep(context, held, rise)
    heights = _path_heights(context, target, held)
    start = context.state.hand.position
    if start[2] < heights[0] - 0.03:
        # An empty hand turns on its way up already: turning takes long.
        rotation = context.state.hand.rotation if held is not None else target.rotation
        up = Pose(np.array([*start[:2], heights[0]]), rotation)
        yield from move_to(context, up, opening, near=0.03, turned=ANY_TURN, speed=speed)
    path, arc = (target.position - start)[:2], _arc(context)
    aside = arc * np.array([-path[1], path[0]]) / max(float(np.linalg.norm(path)), 1e-6)
    for fraction, height in zip(np.linspace(0, 1, len(heights))[1:-1], heights[1:-1], strict=True):
        there = start[:2] + fraction * path + np.sin(np.pi * fraction) * aside
        waypoint = Pose(np.array([*there, height]), target.rotation)
        yield from move_to(context, waypoint, opening, near=WAYPOINT_TOLERANCE, turned=ANY_TURN, speed=speed, steps=30)
    over = Pose(np.array([*target.position[:2], heights[-1]]), target.rotation)
    return (yield from move_to(context, over, opening, near=near, speed=speed))


def _sidestep(context: SkillContext, held: HeldObject, rise: float) -> Skill:
    """Moves sideways where the load would otherwise hit something on its way up, such as an open drawer."""
    here, hand = context.state.body_pose(held.body), context.state.hand
    ups = [np.array([0, 0, up]) for up in np.arange(0.02, rise, 0.02)]
    for offset in SIDESTEPS:
        aside = [here.moved(fraction * offset) for fraction in (0.25, 0.5, 0.75, 1.0)]
        path = (*aside, *(aside[-1].moved(up) for up in ups))
        if all(context.kinematics.object_fits(held.body, pose) for pose in path):
            if offset.any():
                target = hand.moved(offset)
                yield from move_to(context, target, CLOSED, near=0.015, turned=ANY_TURN, steps=25, speed=LOADED_SPEED)
            return True
    return False


def _path_heights(context: SkillContext, target: Pose, held: HeldObject | None) -> list[float]:
    """Returns heights of the grip site at waypoints from here to above the target at which hand and load are clear."""
    hand = context.state.hand
    path = (target.position - hand.position)[:2]
    length = float(np.linalg.norm(path))
    x = np.array([*(path / length), 0.0]) if length > 1e-3 else np.array([1.0, 0, 0])
    middle = np.array([*(hand.position[:2] + path / 2), max(hand.position[2], target.position[2])])
    frame = Pose(middle, np.stack([x, np.cross([0, 0, -1.0], x), [0, 0, -1.0]], axis=1))
    below = BELOW_HAND if held is None else max(BELOW_HAND, _load_depth(context, held))
    width = (HAND_WIDTH if held is None else LOAD_WIDTH) + abs(_arc(context))
    body = None if held is None else held.body
    height_map = context.mapper.map(frame, (length / 2 + width, width), above=0.5, cell=0.02, without=body)
    tops = middle[2] + height_map.height.max(axis=1)
    along = np.linspace(-length / 2 - width, length / 2 + width, len(tops))
    stops = np.linspace(-length / 2, length / 2, 2 + int(length / WAYPOINT_DISTANCE))
    lowest = np.linspace(min(hand.position[2], target.position[2]), target.position[2], len(stops))
    reach = width + WAYPOINT_DISTANCE / 2
    return [
        float(max(low, tops[np.abs(along - stop) <= reach].max() + below + context.style.clearance))
        for stop, low in zip(stops, lowest, strict=True)
    ]


def _arc(context: SkillContext) -> float:
    """Returns the sideways offset of the middle of paths, metres; in a hurry they are straight."""
    return 0.0 if context.hurried else context.style.arc


def _load_depth(context: SkillContext, held: HeldObject) -> float:
    """Returns the distance from the grip site down to the lowest point of the load, metres."""
    pose = context.state.body_pose(held.body)
    frame = Pose(pose.position + np.array([0, 0, 30.0]), np.eye(3))
    put = (held.body, Pose(frame.position, pose.rotation))
    under = context.mapper.map(frame, (0.15, 0.15), above=0.4, cell=0.015, put=put)
    return float(under.height.max() + context.state.hand.position[2] - pose.position[2])
