"""Contacts of the hand with what a joint moves: it holds a handle or a knob, pushes, or hooks behind a handle.

A handle is what sticks out most of a drawer or door. Where no hand has room around it, as at a lowest drawer, closed
fingers reach behind it from above and pull.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, product

import mujoco
import numpy as np
from jaxtyping import Bool, Float

from rlgen.demos.scripted.geometry import Pose, carried, joint_axis, joint_position, slides, subtree
from rlgen.demos.scripted.motion import CLOSED
from rlgen.demos.scripted.planning.grasps import TIP, WIDEST, find_grasps
from rlgen.demos.scripted.planning.height_maps import HeightMap, cell_points, cells_of, frame_along
from rlgen.demos.scripted.skills import SkillContext

# Distance of the middle of a hinged part from its axis below which it is a knob, metres.
KNOB = 0.07
# Distances along the way out of the drawer or door: within which cells belong to the handle, and to what sticks out
# most, metres.
HANDLE_DEPTH, HANDLE_TIP = 0.03, 0.008
APPROACH = 0.07
# Angles of the approach below the horizontal.
TILTS = tuple(np.deg2rad(angle) for angle in (90.0, 65.0, 50.0, 35.0, 20.0, 0.0))
# Distances between the fingers before they close on a handle, metres.
OPENINGS = (WIDEST, 0.045)
# Most grasps of a part.
MAX_GRASPS = 40
# Fractions of a part's turn that a hand may make with it.
TURN_FRACTIONS = (1.0, 0.5, 0.0)
# Angles of closed fingers that push, from pointing down to pointing ahead, and depth of the tips below the contact.
PUSH_TILTS, PUSH_BELOW = (0.0, 0.7), 0.012
# Half the depth of two closed fingers, across and along the closing direction.
CLOSED_HALF_DEPTHS = (0.012, 0.020)
# Of closed fingers that hook: angles below the horizontal, distances of the tips behind the outermost of a handle,
# above its top and beside its middle, metres. Where they do not quite fit, they slide down the handle into the gap.
HOOK_TILTS = tuple(np.deg2rad(angle) for angle in (45.0, 50.0, 40.0))
HOOK_BEHIND, HOOK_ABOVE, HOOK_BESIDE = (0.026, 0.023), 0.002, (0.0, 0.015, -0.015)


@dataclass(frozen=True)
class MovingPart:
    """A part of a fixture that a joint moves.

    Attributes:
      joint: index of the joint.
      bodies: mask of the part's bodies.
      fixture: mask of the bodies of the whole fixture.
      target: position that the joint should reach, metres or radians.
    """

    joint: int
    bodies: Bool[np.ndarray, " bodies"]
    fixture: Bool[np.ndarray, " bodies"]
    target: float


def moving_part(model: mujoco.MjModel, joint: int, target: float) -> MovingPart:
    """Returns the part that a joint moves.

    Args:
      model: of the scene.
      joint: index of the joint.
      target: position that it should reach, metres or radians.
    """
    body = int(model.jnt_bodyid[joint])
    return MovingPart(joint, subtree(model, body), subtree(model, int(model.body_rootid[body])), target)


@dataclass(frozen=True)
class HandContact:
    """A way for the hand to hold, push or hook a part.

    Attributes:
      hand: pose of the grip site at the part.
      approach: offset from which the hand comes, metres.
      opening: between the fingers before they close, metres; 0 to push or hook.
      turn_fraction: fraction of the part's turn that the hand makes; a bar may turn between the fingers.
      hooks: whether closed fingers pull from behind a handle.
    """

    hand: Pose
    approach: Float[np.ndarray, "3"]
    opening: float
    turn_fraction: float = 1.0
    hooks: bool = False

    @property
    def grips(self) -> bool:
        """True where the fingers close on the part, False where they are closed before."""
        return self.opening != CLOSED

    @property
    def pushes(self) -> bool:
        """True where closed fingers push the part from behind."""
        return not self.grips and not self.hooks

    @property
    def beside(self) -> Pose:
        """The pose before the part, at the height of the contact, from which closed fingers come straight to it."""
        return self.hand.moved(self.approach * [1.0, 1.0, 0.0])


def axis_distance(point: Float[np.ndarray, "3"], anchor: Float[np.ndarray, "3"], axis: Float[np.ndarray, "3"]) -> float:
    """Returns the distance of a point from a line.

    Args:
      point: metres.
      anchor: of the line, metres.
      axis: direction of the line, of length one.
    """
    return float(np.linalg.norm(np.cross(point - anchor, axis)))


def carried_pose(context: SkillContext, joint: int, hand: Pose, change: float, turn_fraction: float) -> Pose:
    """Returns a pose after a change of a joint that carries it along and turns it by a fraction of its own turn.

    Args:
      context: of the episode.
      joint: index of the joint.
      hand: the pose before.
      change: of the joint's position, metres or radians.
      turn_fraction: of the joint's turn.
    """
    moved = carried(context.state, joint, hand, change)
    if slides(context.state.model, joint):
        return moved
    return moved.turned(moved.position, joint_axis(context.state, joint)[0], (turn_fraction - 1.0) * change)


def find_contacts(context: SkillContext, part: MovingPart, rejected: list[np.ndarray]) -> Iterator[HandContact]:
    """Yields contacts that the arm reaches and can follow, to the part's target first, then as far as possible.

    Hooks come last, whatever is left of the other ones.

    Args:
      context: of the episode.
      part: that is to be moved.
      rejected: positions of the hand at contacts that failed.
    """
    axis, anchor = joint_axis(context.state, part.joint)
    start, middle = joint_position(context.state, part.joint), _middle(context, part)
    opens, slide = abs(part.target) > abs(start), slides(context.state.model, part.joint)
    knob = not slide and axis_distance(middle, anchor, axis) < KNOB
    closed = opens and abs(start) < 0.1 * abs(part.target)
    pushes = () if knob or closed else _pushes(context, part)
    yield from _followed(context, part, chain(pushes, _grips(context, part, knob)), rejected)
    if slide and opens:
        yield from _followed(context, part, _hooks(context, part), rejected)


def _followed(
    context: SkillContext, part: MovingPart, contacts: Iterable[HandContact], rejected: list[np.ndarray]
) -> Iterator[HandContact]:
    """Yields the contacts that the arm can follow to the end, in their order, then the others, furthest first."""
    partial: list[tuple[float, HandContact]] = []
    for contact in contacts:
        if any(np.linalg.norm(contact.hand.position - other) < 0.012 for other in rejected):
            continue
        joints = _reach(context, part, contact)
        if joints is None:
            continue
        fraction, option = best_turn(context, part, contact, joints)
        if fraction == 1.0:
            yield option
        elif fraction > 0.0:
            partial.append((fraction, option))
    yield from (option for _, option in sorted(partial, key=lambda pair: -pair[0]))


def _reach(context: SkillContext, part: MovingPart, contact: HandContact) -> np.ndarray | None:
    """Returns joint positions at a contact that the arm reaches without collisions, or None.

    Fingers that hook have to be where they are sent, to millimetres: the arm must move well there.
    """
    solve, opening, easy = context.kinematics.solve_free, contact.opening, contact.hooks
    touched = _touched(part, contact)
    joints = solve(contact.hand.moved(contact.approach), opening=opening, allowed=touched, easy=easy)
    if joints is not None and contact.pushes:
        joints = solve(contact.beside, opening=opening, start=joints, allowed=touched)
    if joints is None:
        return None
    return solve(contact.hand, opening=opening, start=joints, allowed=None if contact.grips else touched, easy=easy)


def _touched(part: MovingPart, contact: HandContact) -> np.ndarray:
    """Returns the mask of bodies that may be touched: a hand that hooks passes what else the fixture has there."""
    return part.fixture if contact.hooks else part.bodies


def best_turn(
    context: SkillContext, part: MovingPart, contact: HandContact, joints: Float[np.ndarray, "7"]
) -> tuple[float, HandContact]:
    """Returns how far the arm can follow the part at best, and the contact with the turn of the hand for it.

    Args:
      context: of the episode.
      part: that is to be moved.
      contact: of the hand with it.
      joints: of the arm at the contact, radians.
    """
    options = [replace(contact, turn_fraction=turn_fraction) for turn_fraction in TURN_FRACTIONS]
    reached = [(_reachable_fraction(context, part, option, joints), option) for option in options]
    return max(reached, key=lambda pair: pair[0])


def _reachable_fraction(context: SkillContext, part: MovingPart, contact: HandContact, joints: np.ndarray) -> float:
    """Returns the fraction of the part's way that the arm can follow."""
    start, reached = joint_position(context.state, part.joint), 0.0
    touched = _touched(part, contact)
    for fraction in (0.2, 0.4, 0.6, 0.8, 1.0):
        change = fraction * (part.target - start)
        hand = carried_pose(context, part.joint, contact.hand, change, contact.turn_fraction)
        moved = (part.joint, start + change)
        solved = context.kinematics.solve_free(hand, opening=0.02, start=joints, allowed=touched, moved=moved)
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
        points, tilts = _handle_points(context, part, outwards), TILTS
        if not len(points):
            return
        handle = points.mean(axis=0)
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


def _handle_points(context: SkillContext, part: MovingPart, outwards: np.ndarray) -> Float[np.ndarray, "k 3"]:
    """Returns the points of a part that stick out most, metres; none where nothing of it is seen from there."""
    face, mask = _map_part(context, part, -outwards)
    if not mask.any():
        return np.empty((0, 3))
    return cell_points(face, mask & (face.height > face.height[mask].max() - HANDLE_TIP))


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


def _hooks(context: SkillContext, part: MovingPart) -> Iterator[HandContact]:
    """Yields contacts of closed fingers, side by side, that reach behind the handle of a drawer from above."""
    outwards = _direction(context, part, _middle(context, part))
    points = _handle_points(context, part, outwards)
    if not len(points):
        return
    top = np.array([*points[:, :2].mean(axis=0), points[:, 2].max() + HOOK_ABOVE])
    up = np.array([0.0, 0.0, 1.0])
    across = np.cross(up, outwards)
    for beside, behind, tilt in product(HOOK_BESIDE, HOOK_BEHIND, HOOK_TILTS):
        along = -outwards * np.cos(tilt) - up * np.sin(tilt)
        rotation = np.stack([across, np.cross(along, across), along], axis=1)
        hand = Pose(top - behind * outwards + beside * across - TIP * along, rotation)
        for turned in sorted((hand, hand.flipped), key=lambda hand: _joint_travel(context, hand)):
            yield HandContact(turned, -APPROACH * along, CLOSED, hooks=True)


def _joint_travel(context: SkillContext, hand: Pose) -> float:
    """Returns how far the joint turns, radians, that turns furthest on the way to a pose: the last one has an end."""
    joints = context.kinematics.solve(hand)
    return np.inf if joints is None else float(np.abs(joints - context.state.arm_joints).max())
