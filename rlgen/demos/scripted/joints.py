"""Moving drawers, doors and knobs: by grasping them, or by pushing where that is enough."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import mujoco
import numpy as np
from jaxtyping import Bool, Float

from rlgen.demos.scripted.geometry import Pose, parts
from rlgen.demos.scripted.grasp_search import TIP
from rlgen.demos.scripted.grasps import WIDEST, find_grasps
from rlgen.demos.scripted.height_maps import HeightMap, belongs, facing
from rlgen.demos.scripted.motion import OPEN, Move
from rlgen.demos.scripted.skills import Skill, Workplace, close_fingers, go, hesitate, open_fingers, travel

# A hinged part smaller than this around its axis is a knob, metres.
KNOB = 0.07
HANDLE_DEPTH = 0.03
APPROACH = 0.07
# How far before the part the hand is asked to be, metres along its path; the part's damping holds it back.
LEAD = 0.05
# Angles of the approach below the horizontal.
TILTS = tuple(np.deg2rad(angle) for angle in (90.0, 65.0, 50.0, 35.0, 20.0, 0.0))
# Between the fingers before they close on a handle, metres.
OPENINGS = (WIDEST, 0.045)
HOLDS = 40
# A hold that moved the part by less than this share of its way is not tried again.
WORTH = 0.2
# Shares of a part's turn that a hand may make with it.
FOLLOWS = (1.0, 0.5, 0.0)
# Angles at which closed fingers push, from pointing down to pointing ahead, and how far the tips reach below.
PUSH_TILTS, PUSH_BELOW = (0.0, 0.7), 0.012
# Half the depth of two closed fingers, across and along the closing direction.
CLOSED_HALF = (0.012, 0.020)


@dataclass(frozen=True)
class Link:
    """A part that a joint moves.

    Attributes:
      joint: number of the joint.
      members: its bodies.
      target: where the joint should go.
    """

    joint: int
    members: Bool[np.ndarray, " bodies"]
    target: float


@dataclass(frozen=True)
class Hold:
    """How the hand meets a part.

    Attributes:
      hand: pose of the grip site there.
      approach: where the hand comes from, metres.
      opening: between the fingers before they close, metres; 0 to push.
      follows: share of the part's turn that the hand makes; a bar may turn between the fingers.
    """

    hand: Pose
    approach: Float[np.ndarray, "3"]
    opening: float
    follows: float = 1.0

    @property
    def pushes(self) -> bool:
        """With closed fingers rather than around the part."""
        return self.opening == 0.0


def operate(work: Workplace, joint: int, target: float, done: Callable[[], bool], refused: list[np.ndarray]) -> Skill:
    """Moves a joint towards a value until it is done; false where no way is left or the part hardly moved.

    Args:
      work: what to work with.
      joint: number of the joint.
      target: its position, metres or radians.
      done: whether that is far enough.
      refused: where the hand slipped before; grows.
    """
    model = work.sight.model
    link = Link(joint, parts(model, int(model.jnt_bodyid[joint])), target)
    hold = next(_holds(work, link, refused), None)
    if hold is None:
        return False
    yield from hesitate(work, hold.opening)
    before = hold.hand.moved(hold.approach)
    yield from travel(work, before, hold.opening)
    yield from go(work, before, hold.opening, near=0.010, turned=0.10, steps=30)
    yield from hesitate(work, hold.opening)
    yield from go(work, hold.hand, hold.opening, near=0.008, turned=0.10, steps=35, speed=0.6)
    if not hold.pushes and not (yield from close_fingers(work)):
        refused.append(hold.hand.position)
        yield from _leave(work, hold)
        return False
    before = position(work, joint)
    yield from _drag(work, link, hold, done)
    yield from _leave(work, hold)
    if abs(position(work, joint) - before) < WORTH * abs(target - before):
        refused.append(hold.hand.position)
        return False
    return True


def _drag(work: Workplace, link: Link, hold: Hold, done: Callable[[], bool]) -> Skill:
    """Along the joint's path, a little before the part."""
    start, hand = position(work, link.joint), work.sight.hand
    axis, anchor = _axis(work, link.joint)
    sign = np.sign(link.target - start)
    radius = 1.0 if _slides(work, link.joint) else max(_distance(hand.position, anchor, axis), 0.06)
    best, since = start, 0
    while not done() and since < 25:
        now = position(work, link.joint)
        if sign * (now - best) > 0.002:
            best, since = now, 0
        since += 1
        ahead = now - start + sign * LEAD / radius
        yield Move(_carried(work, link.joint, hand, ahead, hold.follows), 0.0, 0.8)
    return done()


def _leave(work: Workplace, hold: Hold) -> Skill:
    """Lets go and backs off the way the hand came."""
    if not hold.pushes:
        yield from open_fingers(work)
    back = hold.approach / np.linalg.norm(hold.approach) * 0.08
    hand = work.sight.hand
    yield from go(work, hand.moved(back), 0.0 if hold.pushes else OPEN, near=0.02, turned=9.0, steps=25)
    yield from go(work, hand.moved(back + np.array([0, 0, 0.08])), OPEN, near=0.03, turned=9.0, steps=25)
    return True


def position(work: Workplace, joint: int) -> float:
    """Of a joint, metres or radians."""
    return float(work.sight.data.qpos[work.sight.model.jnt_qposadr[joint]])


def _slides(work: Workplace, joint: int) -> bool:
    return work.sight.model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE


def _axis(work: Workplace, joint: int) -> tuple[np.ndarray, np.ndarray]:
    """Direction and a point of a joint's axis, in the world."""
    return work.sight.data.xaxis[joint].copy(), work.sight.data.xanchor[joint].copy()


def _distance(point: np.ndarray, anchor: np.ndarray, axis: np.ndarray) -> float:
    return float(np.linalg.norm(np.cross(point - anchor, axis)))


def _carried(work: Workplace, joint: int, hand: Pose, way: float, follows: float) -> Pose:
    """A pose that moves with the part, and turns with it as far as it `follows`."""
    axis, anchor = _axis(work, joint)
    if _slides(work, joint):
        return hand.moved(axis * way)
    turned = hand.turned(anchor, axis, way)
    return turned.turned(turned.position, axis, (follows - 1.0) * way)


def _holds(work: Workplace, link: Link, refused: list[np.ndarray]) -> Iterator[Hold]:
    """Ways to move the part that the arm can follow to the end, the best first."""
    axis, anchor = _axis(work, link.joint)
    start, middle = position(work, link.joint), _middle(work, link)
    shut = abs(link.target) > abs(start) and abs(start) < 0.1 * abs(link.target)
    partly: list[tuple[float, Hold]] = []
    knob = not _slides(work, link.joint) and _distance(middle, anchor, axis) < KNOB
    pushes = () if knob or shut else _pushes(work, link)
    for hold in (*pushes, *_grips(work, link, knob)):
        if any(np.linalg.norm(hold.hand.position - other) < 0.012 for other in refused):
            continue
        opened = hold.opening
        joints = work.reach.clear(hold.hand.moved(hold.approach), opening=opened, allowed=link.members)
        if joints is None:
            continue
        joints = work.reach.clear(
            hold.hand, opening=opened, start=joints, allowed=link.members if hold.pushes else None
        )
        if joints is None:
            continue
        reached = [(_followed(work, link, replace(hold, follows=follows), joints), follows) for follows in FOLLOWS]
        share, follows = max(reached, key=lambda pair: pair[0])
        if share == 1.0:
            yield replace(hold, follows=follows)
        elif share > 0.0:
            partly.append((share, replace(hold, follows=follows)))
    yield from (hold for _, hold in sorted(partly, key=lambda pair: -pair[0]))


def _followed(work: Workplace, link: Link, hold: Hold, joints: np.ndarray) -> float:
    """How much of the part's way the arm can go with it."""
    start, reached = position(work, link.joint), 0.0
    for share in (0.33, 0.67, 1.0):
        way = share * (link.target - start)
        there = _carried(work, link.joint, hold.hand, way, hold.follows)
        moved = (link.joint, start + way)
        solved = work.reach.clear(there, opening=0.02, start=joints, allowed=link.members, moved=moved)
        if solved is None:
            break
        joints, reached = solved, share
    return reached


def _middle(work: Workplace, link: Link) -> np.ndarray:
    """Of the part's geoms."""
    geoms = link.members[work.sight.model.geom_bodyid]
    return work.sight.data.geom_xpos[geoms].mean(axis=0)


def _way(work: Workplace, link: Link, point: np.ndarray) -> np.ndarray:
    """Direction in which a point of the part moves towards the target."""
    axis, anchor = _axis(work, link.joint)
    sign = np.sign(link.target - position(work, link.joint))
    way = axis if _slides(work, link.joint) else np.cross(axis, point - anchor)
    return sign * way / max(float(np.linalg.norm(way)), 1e-9)


def _face(work: Workplace, link: Link, along: np.ndarray, reach: float = 0.16) -> tuple[HeightMap, np.ndarray]:
    """The part seen along a direction, and where the map shows it."""
    middle = _middle(work, link)
    seen = work.terrain.map(facing(middle, along), (reach, reach), above=0.3, cell=0.004)
    return seen, belongs(seen, link.members)


def _points(seen: HeightMap, where: Bool[np.ndarray, "n m"]) -> Float[np.ndarray, "k 3"]:
    """World positions of some rays' ends."""
    i, j = np.nonzero(where)
    middle = [(extent - 1) // 2 for extent in seen.height.shape]
    local = np.stack([(i - middle[0]) * seen.cell, (j - middle[1]) * seen.cell, -seen.height[i, j]], axis=1)
    return seen.frame.position + local @ seen.frame.rotation.T


def _grips(work: Workplace, link: Link, knob: bool) -> Iterator[Hold]:
    """Grasps of the handle: what stands out most, or of the knob from above."""
    way = _way(work, link, _middle(work, link))
    outwards = way if abs(link.target) > abs(position(work, link.joint)) else -way
    if knob:
        handle, tilts = _middle(work, link), TILTS[:1]
    else:
        seen, where = _face(work, link, -outwards)
        if not where.any():
            return
        handle = _points(seen, where & (seen.height > seen.height[where].max() - 0.008)).mean(axis=0)
        tilts = TILTS
    found = []
    for tilt in tilts:
        along = np.array([0, 0, -1.0]) if knob else -outwards * np.cos(tilt) + np.array([0, 0, -1.0]) * np.sin(tilt)
        frame = facing(handle, along / np.linalg.norm(along))
        seen = work.terrain.map(frame, (0.13, 0.13), above=0.12, cell=0.003)
        where = belongs(seen, link.members)
        if not knob:
            where = _near(seen, where, handle, outwards)
        for opening in OPENINGS:
            for grasp in find_grasps(seen, where, handle, np.arange(-6, 6) * np.pi / 12, opening=opening):
                narrow = 0.5 if opening < WIDEST else 0.0
                found.append((grasp.cost + narrow, grasp, opening))
    for _, grasp, opening in sorted(found, key=lambda entry: entry[0])[:HOLDS]:
        for hand in (grasp.hand, grasp.hand.flipped):
            yield Hold(hand, -APPROACH * hand.rotation[:, 2], opening)


def _near(seen: HeightMap, where: np.ndarray, handle: np.ndarray, outwards: np.ndarray) -> np.ndarray:
    """Only what is about as far out as the handle."""
    kept = np.zeros_like(where)
    points = _points(seen, where)
    kept[np.nonzero(where)] = np.abs((points - handle) @ outwards) < HANDLE_DEPTH
    return kept


def _pushes(work: Workplace, link: Link) -> Iterator[Hold]:
    """Closed fingers, pointing down, behind the part: far from a hinge, in the middle of a drawer."""
    way = _way(work, link, _middle(work, link))
    seen, where = _face(work, link, way)
    if not where.any():
        return
    points = _points(seen, where)
    axis, anchor = _axis(work, link.joint)
    centre = points.mean(axis=0)
    if _slides(work, link.joint):
        costs = np.linalg.norm((points - centre)[:, :2], axis=1)
    else:
        distances = np.linalg.norm(np.cross(points - anchor, axis), axis=1)
        costs = np.abs(distances - 0.85 * distances.max())
    costs = costs - 0.3 * points[:, 2]
    for index in np.argsort(costs)[:: max(len(points) // 200, 1)][:30]:
        point = points[index]
        towards = _way(work, link, point)
        level = towards * [1, 1, 0] / max(float(np.linalg.norm(towards[:2])), 1e-6)
        for tilt in PUSH_TILTS:
            along = np.array([0, 0, -np.cos(tilt)]) + np.sin(tilt) * level
            for turn, half in enumerate(CLOSED_HALF):
                closing = np.cross(along, np.cross(level, along)) if turn else np.cross([0, 0, 1.0], level)
                closing /= np.linalg.norm(closing)
                tip = point - level * (half + 0.006) - [0, 0, PUSH_BELOW]
                rotation = np.stack([closing, np.cross(along, closing), along], axis=1)
                yield Hold(Pose(tip - TIP * along, rotation), np.array([0, 0, 0.10]) - 0.04 * level, 0.0)
