"""Skills that move drawers, doors and knobs: by grasping them, or by pushing where that is enough."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from rlgen.demos.scripted.geometry import Pose, between_fingers, carried, joint_axis, joint_position, slides, subtree
from rlgen.demos.scripted.grasps import TIP, WIDEST, find_grasps
from rlgen.demos.scripted.height_maps import HeightMap, cell_points, cells_of, frame_along
from rlgen.demos.scripted.motion import CLOSED, FULLY_OPEN, Move
from rlgen.demos.scripted.skills import (
    ANY_TURN,
    Skill,
    SkillContext,
    close_fingers,
    move_to,
    open_fingers,
    pause,
    travel,
)

# Distance of the middle of a hinged part from its axis below which it is a knob, metres.
KNOB = 0.07
# Distances along the way out of the drawer or door: within which cells belong to the handle, and to what sticks out
# most, metres.
HANDLE_DEPTH, HANDLE_TIP = 0.03, 0.008
APPROACH = 0.07
# Distance by which the hand's target leads the part along its path, metres: the part's damping holds the hand back.
LEAD = 0.05
# Distance by which the fingers go on past where they would hold a handle, metres.
DEEPER = 0.01
# Angles of the approach below the horizontal.
TILTS = tuple(np.deg2rad(angle) for angle in (90.0, 65.0, 50.0, 35.0, 20.0, 0.0))
# Distances between the fingers before they close on a handle, metres.
OPENINGS = (WIDEST, 0.045)
# Most grasps of a part.
MAX_GRASPS = 40
# A contact that moved the part by less than this fraction of its way is not tried again.
MIN_PROGRESS = 0.2
# Fraction of the way to its target after which a part that is already in the hand is let go.
NEAR_TARGET = 0.97
# Control steps without progress of the part after which the hand gives up, and the least progress, metres or radians.
STALL_STEPS, MIN_STEP = 25, 0.002
# Fractions of a part's turn that a hand may make with it.
TURN_FRACTIONS = (1.0, 0.5, 0.0)
# Angles of closed fingers that push, from pointing down to pointing ahead, and depth of the tips below the contact.
PUSH_TILTS, PUSH_BELOW = (0.0, 0.7), 0.012
# Half the depth of two closed fingers, across and along the closing direction.
CLOSED_HALF_DEPTHS = (0.012, 0.020)


@dataclass(frozen=True)
class MovingPart:
    """A part of a fixture that a joint moves.

    Attributes:
      joint: index of the joint.
      bodies: mask of the part's bodies.
      target: position that the joint should reach, metres or radians.
    """

    joint: int
    bodies: Bool[np.ndarray, " bodies"]
    target: float


@dataclass(frozen=True)
class HandContact:
    """A way for the hand to hold or push a part.

    Attributes:
      hand: pose of the grip site at the part.
      approach: offset from which the hand comes, metres.
      opening: between the fingers before they close, metres; 0 to push.
      turn_fraction: fraction of the part's turn that the hand makes; a bar may turn between the fingers.
    """

    hand: Pose
    approach: Float[np.ndarray, "3"]
    opening: float
    turn_fraction: float = 1.0

    @property
    def pushes(self) -> bool:
        """True where closed fingers push the part, False where the hand holds it."""
        return self.opening == CLOSED

    @property
    def beside(self) -> Pose:
        """The pose before the part, at the height of the contact, from which closed fingers come straight to it."""
        return self.hand.moved(self.approach * [1.0, 1.0, 0.0])


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
    model = context.state.model
    part = MovingPart(joint, subtree(model, int(model.jnt_bodyid[joint])), target)
    contact = next(_contacts(context, part, rejected), None)
    if contact is None:
        return False
    yield from pause(context, contact.opening)
    before = contact.hand.moved(contact.approach)
    yield from travel(context, before, contact.opening)
    yield from move_to(context, before, contact.opening, near=0.015, turned=0.10, steps=30)
    yield from pause(context, contact.opening)
    if contact.pushes:
        yield from move_to(context, contact.beside, contact.opening, near=0.02, turned=0.10, steps=30)
    # Handles are slippery: the hand goes on past the contact until it is nearly there, or the palm touches.
    deep = contact.hand if contact.pushes else contact.hand.moved(DEEPER * contact.hand.rotation[:, 2])
    yield from move_to(context, deep, contact.opening, near=0.006, turned=0.10, steps=35, speed=0.6, straight=True)
    if not contact.pushes and not (yield from close_fingers(context)):
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
    model, hand = context.state.model, context.state.hand
    part = MovingPart(joint, subtree(model, int(model.jnt_bodyid[joint])), target)
    if not between_fingers(context.state, part.bodies):
        return False
    contact = HandContact(hand, -APPROACH * hand.rotation[:, 2], WIDEST)
    contact = _best_turn(context, part, contact, context.state.arm_joints)[1]
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
    radius = 1.0 if slides(context.state.model, part.joint) else max(_axis_distance(hand.position, anchor, axis), 0.06)
    best, stalled = start, 0
    while not done() and stalled < STALL_STEPS:
        now = joint_position(context.state, part.joint)
        if sign * (now - best) > MIN_STEP:
            best, stalled = now, 0
        stalled += 1
        ahead = now - start + sign * LEAD / radius
        yield Move(_carried_pose(context, part.joint, hand, ahead, contact.turn_fraction), CLOSED, 0.8)
    return done()


def _leave(context: SkillContext, contact: HandContact) -> Skill:
    """Lets go and moves the hand back along its approach, and up from where it was pushing."""
    if not contact.pushes:
        yield from open_fingers(context)
    back = contact.approach / np.linalg.norm(contact.approach) * 0.08
    hand = context.state.hand
    opening = CLOSED if contact.pushes else FULLY_OPEN
    yield from move_to(context, hand.moved(back), opening, near=0.02, turned=ANY_TURN, steps=25)
    if contact.pushes:
        up = hand.moved(back + np.array([0, 0, 0.08]))
        yield from move_to(context, up, FULLY_OPEN, near=0.03, turned=ANY_TURN, steps=25)
    return True


def _axis_distance(point: np.ndarray, anchor: np.ndarray, axis: np.ndarray) -> float:
    return float(np.linalg.norm(np.cross(point - anchor, axis)))


def _carried_pose(context: SkillContext, joint: int, hand: Pose, change: float, turn_fraction: float) -> Pose:
    """Returns a pose after a change of a joint that carries it along and turns it by a fraction of its own turn."""
    moved = carried(context.state, joint, hand, change)
    if slides(context.state.model, joint):
        return moved
    return moved.turned(moved.position, joint_axis(context.state, joint)[0], (turn_fraction - 1.0) * change)


def _contacts(context: SkillContext, part: MovingPart, rejected: list[np.ndarray]) -> Iterator[HandContact]:
    """Yields contacts that the arm reaches and can follow: to the part's target first, then as far as possible."""
    axis, anchor = joint_axis(context.state, part.joint)
    start, middle = joint_position(context.state, part.joint), _middle(context, part)
    opens = abs(part.target) > abs(start) and abs(start) < 0.1 * abs(part.target)
    partial: list[tuple[float, HandContact]] = []
    knob = not slides(context.state.model, part.joint) and _axis_distance(middle, anchor, axis) < KNOB
    pushes = () if knob or opens else _pushes(context, part)
    for contact in (*pushes, *_grips(context, part, knob)):
        if any(np.linalg.norm(contact.hand.position - other) < 0.012 for other in rejected):
            continue
        joints = context.kinematics.solve_free(
            contact.hand.moved(contact.approach), opening=contact.opening, allowed=part.bodies
        )
        if joints is not None and contact.pushes:
            joints = context.kinematics.solve_free(
                contact.beside, opening=contact.opening, start=joints, allowed=part.bodies
            )
        if joints is None:
            continue
        joints = context.kinematics.solve_free(
            contact.hand,
            opening=contact.opening,
            start=joints,
            allowed=part.bodies if contact.pushes else None,
        )
        if joints is None:
            continue
        fraction, option = _best_turn(context, part, contact, joints)
        if fraction == 1.0:
            yield option
        elif fraction > 0.0:
            partial.append((fraction, option))
    yield from (option for _, option in sorted(partial, key=lambda pair: -pair[0]))


def _best_turn(
    context: SkillContext, part: MovingPart, contact: HandContact, joints: np.ndarray
) -> tuple[float, HandContact]:
    """Returns how far the arm can follow the part at best, and the contact with the turn of the hand for it."""
    options = [replace(contact, turn_fraction=turn_fraction) for turn_fraction in TURN_FRACTIONS]
    reached = [(_reachable_fraction(context, part, option, joints), option) for option in options]
    return max(reached, key=lambda pair: pair[0])


def _reachable_fraction(context: SkillContext, part: MovingPart, contact: HandContact, joints: np.ndarray) -> float:
    """Returns the fraction of the part's way that the arm can follow."""
    start, reached = joint_position(context.state, part.joint), 0.0
    for fraction in (0.2, 0.4, 0.6, 0.8, 1.0):
        change = fraction * (part.target - start)
        hand = _carried_pose(context, part.joint, contact.hand, change, contact.turn_fraction)
        moved = (part.joint, start + change)
        solved = context.kinematics.solve_free(hand, opening=0.02, start=joints, allowed=part.bodies, moved=moved)
        if solved is None:
            break
        joints, reached = solved, fraction
    return reached


def _middle(context: SkillContext, part: MovingPart) -> np.ndarray:
    """Returns the mean position of the part's geoms."""
    geoms = part.bodies[context.state.model.geom_bodyid]
    return context.state.data.geom_xpos[geoms].mean(axis=0)


def _direction(context: SkillContext, part: MovingPart, point: np.ndarray) -> np.ndarray:
    """Returns the direction in which a point of the part moves towards the target."""
    axis, anchor = joint_axis(context.state, part.joint)
    sign = np.sign(part.target - joint_position(context.state, part.joint))
    direction = axis if slides(context.state.model, part.joint) else np.cross(axis, point - anchor)
    return sign * direction / max(float(np.linalg.norm(direction)), 1e-9)


def _map_part(context: SkillContext, part: MovingPart, along: np.ndarray) -> tuple[HeightMap, np.ndarray]:
    """Returns a height map of the part along a direction, and a mask of the part's cells."""
    frame = frame_along(_middle(context, part), along)
    height_map = context.mapper.map(frame, (0.16, 0.16), above=0.3, cell=0.004)
    return height_map, cells_of(height_map, part.bodies)


def _grips(context: SkillContext, part: MovingPart, knob: bool) -> Iterator[HandContact]:
    """Yields grasps of the handle, which sticks out most, or of the knob from above, cheapest first."""
    direction = _direction(context, part, _middle(context, part))
    outwards = direction if abs(part.target) > abs(joint_position(context.state, part.joint)) else -direction
    if knob:
        handle, tilts = _middle(context, part), TILTS[:1]
    else:
        face, mask = _map_part(context, part, -outwards)
        if not mask.any():
            return
        handle = cell_points(face, mask & (face.height > face.height[mask].max() - HANDLE_TIP)).mean(axis=0)
        tilts = TILTS
    found = []
    for tilt in tilts:
        along = np.array([0, 0, -1.0]) if knob else -outwards * np.cos(tilt) + np.array([0, 0, -1.0]) * np.sin(tilt)
        frame = frame_along(handle, along / np.linalg.norm(along))
        height_map = context.mapper.map(frame, (0.13, 0.13), above=0.12, cell=0.003)
        mask = cells_of(height_map, part.bodies)
        if not knob:
            mask = _handle_cells(height_map, mask, handle, outwards)
        for opening in OPENINGS:
            for grasp in find_grasps(height_map, mask, handle, np.arange(-6, 6) * np.pi / 12, opening=opening):
                narrow = 0.5 if opening < WIDEST else 0.0
                found.append((grasp.cost + narrow, grasp, opening))
    for _, grasp, opening in sorted(found, key=lambda entry: entry[0])[:MAX_GRASPS]:
        for hand in (grasp.hand, grasp.hand.flipped):
            yield HandContact(hand, -APPROACH * hand.rotation[:, 2], opening)


def _handle_cells(height_map: HeightMap, mask: np.ndarray, handle: np.ndarray, outwards: np.ndarray) -> np.ndarray:
    """Returns the cells of a mask that are about as far out as the handle."""
    kept = np.zeros_like(mask)
    points = cell_points(height_map, mask)
    kept[np.nonzero(mask)] = np.abs((points - handle) @ outwards) < HANDLE_DEPTH
    return kept


def _pushes(context: SkillContext, part: MovingPart) -> Iterator[HandContact]:
    """Yields contacts of closed fingers behind the part: far from a hinge, in the middle of a drawer."""
    face, mask = _map_part(context, part, _direction(context, part, _middle(context, part)))
    if not mask.any():
        return
    points = cell_points(face, mask)
    axis, anchor = joint_axis(context.state, part.joint)
    center = points.mean(axis=0)
    if slides(context.state.model, part.joint):
        costs = np.linalg.norm((points - center)[:, :2], axis=1)
    else:
        distances = np.linalg.norm(np.cross(points - anchor, axis), axis=1)
        costs = np.abs(distances - 0.85 * distances.max())
    costs = costs - 0.3 * points[:, 2]
    for index in np.argsort(costs)[:: max(len(points) // 200, 1)][:30]:
        point = points[index]
        direction = _direction(context, part, point)
        level = direction * [1, 1, 0] / max(float(np.linalg.norm(direction[:2])), 1e-6)
        for tilt in PUSH_TILTS:
            along = np.array([0, 0, -np.cos(tilt)]) + np.sin(tilt) * level
            for turn, half in enumerate(CLOSED_HALF_DEPTHS):
                closing = np.cross(along, np.cross(level, along)) if turn else np.cross([0, 0, 1.0], level)
                closing /= np.linalg.norm(closing)
                tip = point - level * (half + 0.006) - [0, 0, PUSH_BELOW]
                rotation = np.stack([closing, np.cross(along, closing), along], axis=1)
                hand = Pose(tip - TIP * along, rotation)
                yield HandContact(hand, np.array([0, 0, 0.10]) - 0.04 * level, CLOSED)
