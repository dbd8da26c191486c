"""Grasps with two fingers: candidates from a height map, best first.

In a height map along the direction of the fingers, a grasp is a run of material across the closing direction, thin
enough for the hand, with room beside it for both fingers and before it for the palm. The rule is the same for a box, a
can, the wall of a bowl, the rim of a plate and the handle of a pan.

The search along the x axis of a map is compiled: a run is a stretch of material along the closing direction, widened by
half a finger at both ends, that open fingers can enclose.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from rlgen.core.compiled import compiled
from rlgen.demos.scripted.geometry import Pose
from rlgen.demos.scripted.planning.height_maps import HeightMap, turned_map

# The Panda's hand in the grip site's frame, metres: half the width of a finger, its thickness a centimetre above
# the tip, distance of the tip beyond the site and of the palm before it, and the palm's half width and half length.
FINGER_HALF_WIDTH = 0.0095
FINGER_THICKNESS = 0.016
TIP = 0.0092
PALM = 0.031
PALM_HALF_WIDTH = 0.020
PALM_HALF_LENGTH = 0.102
# The pads grip from half a centimetre to two above the tip; rims of plates are no higher than the first.
SHALLOW = 0.006
DEEPEST = 0.032
# Width of the strip along the fingers in which faces are compared, metres.
STRIP = 0.012
# Material this far below the fingertips still blocks them; this much overlap with the palm is ignored, metres.
BELOW_TIP, PALM_TOLERANCE = 0.003, 0.004
# Least number of grippable cells among the five across the fingers; least total clearance of open fingers, metres.
MIN_GRIPPABLE, CLEARANCE = 4, 0.006
# Least fraction of a face that must exist; its largest deviation from straight across the fingers, metres.
MIN_FACE, MAX_SLANT = 0.7, 0.009
# Distance between fully open fingers with some clearance, metres.
WIDEST = 0.078
# Largest distance of the fingertips below the top of an object (handles of pots and mugs are lower than their rims),
# distance of the second level, and step between levels from there on, metres.
LOWEST, SECOND, STEP = 0.12, 0.013, 0.008
# Most candidates for one direction of the fingers, and in all.
MAX_FOUND, MAX_GRASPS = 20_000, 60


@dataclass(frozen=True)
class Grasp:
    """A pose of the grip site at which the fingers close.

    Attributes:
      hand: in the world.
      cost: of slanted faces, a long lever to the center of mass, and little depth.
    """

    hand: Pose
    cost: float


def find_grasps(
    height_map: HeightMap,
    target: Bool[np.ndarray, "n m"],
    center: Float[np.ndarray, "3"],
    turns: Sequence[float],
    *,
    opening: float = WIDEST,
) -> list[Grasp]:
    """Returns candidates in a height map, the cheapest first, no two alike.

    Args:
      height_map: along the direction in which the fingers will point.
      target: cells of the object to be grasped.
      center: the object's center of mass, metres.
      turns: angles of the closing direction from the map's x axis, radians.
      opening: between the fingers before they close, metres.
    """
    marked = HeightMap(height_map.frame, height_map.cell, height_map.height, np.where(target, 1, 0))
    found = [_grasps_along_x(turned_map(marked, turn), center, opening) for turn in turns]
    costs = np.concatenate([cost for _, _, cost in found])
    positions = np.concatenate([position for _, position, _ in found])
    frames = np.repeat(np.arange(len(found)), [len(cost) for _, _, cost in found])
    rotations = [rotation for rotation, _, _ in found]
    order = np.argsort(costs, kind="stable")
    return _distinct(Grasp(Pose(positions[i], rotations[frames[i]]), float(costs[i])) for i in order)


def _grasps_along_x(
    height_map: HeightMap, center: np.ndarray, opening: float
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "k 3"], Float[np.ndarray, " k"]]:
    """Returns rotation, positions and costs of the candidates that close along the map's x axis."""
    rotation, target = height_map.frame.rotation, height_map.body == 1
    top = height_map.height[target].max() if target.any() else -np.inf
    tips = np.array([top - SHALLOW - 0.002, *np.arange(top - SECOND, top - LOWEST, -STEP)] if target.any() else [])
    runs, values = np.empty((MAX_FOUND, 4), np.int64), np.empty((MAX_FOUND, 2))
    count = search(height_map.height, target, tips, height_map.cell, opening, runs, values)
    levels, columns, starts, ends = runs[:count].T
    slant, depth = values[:count].T
    middle = [(extent - 1) // 2 for extent in height_map.height.shape]
    offset = (
        (0.5 * (starts + ends - 1) - middle[0]) * height_map.cell,
        (columns - middle[1]) * height_map.cell,
        -(tips[levels] + TIP),
    )
    position = height_map.frame.position + np.stack(offset, axis=1) @ rotation.T
    lever = (position - center) - ((position - center) @ rotation[:, 2:]) * rotation[:, 2]
    cost = slant / 0.003 + 12 * np.linalg.norm(lever, axis=1) + (DEEPEST - depth) / 0.01
    return rotation, position, cost


def _distinct(grasps: Iterable[Grasp], near: float = 0.012, likeness: float = 0.98) -> list[Grasp]:
    """Returns grasps, cheapest first, without those that are like a cheaper one."""
    kept: list[Grasp] = []
    positions, closings = np.empty((MAX_GRASPS, 3)), np.empty((MAX_GRASPS, 3))
    for grasp in grasps:
        count, position, closing = len(kept), grasp.hand.position, grasp.hand.rotation[:, 0]
        distance = np.linalg.norm(positions[:count] - position, axis=1)
        if not np.any((distance < near) & (abs(closings[:count] @ closing) > likeness)):
            positions[count], closings[count] = position, closing
            kept.append(grasp)
        if len(kept) == MAX_GRASPS:
            break
    return kept


@compiled()
def search(height, target, tips, cell, opening, found, values):
    """Finds grasps that close along the first axis, level by level, column by column.

    Args:
      height: `Float[n m]`, metres, -inf where nothing is.
      target: `Bool[n m]`, cells of the object to be grasped.
      tips: `Float[levels]`, heights of the fingertips to try, metres.
      cell: of the map, metres.
      opening: between the open fingers, metres.
      found: written, `Int64[k 4]`: level, column, first and one after last row of the run.
      values: written, `Float[k 2]`: slant of the faces and depth of the fingers, metres.

    Returns:
      The number of grasps, at most k.
    """
    rows, columns = height.shape
    solid, blocked = np.empty((rows, columns), np.bool_), np.empty((rows, columns), np.bool_)
    counts = np.zeros((rows + 1, columns + 1), np.int32)
    grippable = np.empty(rows, np.bool_)
    count = 0
    for level in range(len(tips)):
        tip = tips[level]
        if not _any_grippable(height, target, tip):
            continue
        _mark_solid(height, tip, cell, solid, blocked)
        _count_above(height, tip + TIP + PALM - PALM_TOLERANCE, counts)
        for column in range(columns):
            if not _mark_grippable(height, target, tip, column, grippable):
                continue
            end = 0
            while end < rows:
                start = end
                while start < rows and not blocked[start, column]:
                    start += 1
                end = start
                while end < rows and blocked[end, column]:
                    end += 1
                if start == rows or (end - start) * cell > opening - CLEARANCE or not grippable[start:end].any():
                    continue
                if _other_between(solid, target, start, end, column, cell):
                    continue
                middle = 0.5 * (start + end - 1)
                if _palm_collides(counts, _half_even(middle), column, cell):
                    continue
                if not _fingers_fit(blocked, column, middle, cell, opening):
                    continue
                slant = _slant(solid, start, end, column, cell)
                depth = _depth(height, target, start, end, column, tip)
                if slant > MAX_SLANT or depth == -np.inf:
                    continue
                if count == len(found):
                    return count
                found[count] = (level, column, start, end)
                values[count] = (slant, depth)
                count += 1
    return count


@compiled()
def _any_grippable(height, target, tip):
    for i in range(height.shape[0]):
        for j in range(height.shape[1]):
            if target[i, j] and height[i, j] > tip + SHALLOW:
                return True
    return False


@compiled()
def _mark_solid(height, tip, cell, solid, blocked):
    """Marks cells as high as the fingertips, and cells that the middle of a finger cannot enter because of them."""
    rows, columns = height.shape
    half = round(FINGER_HALF_WIDTH / cell)
    for i in range(rows):
        clear = columns
        for j in range(columns):
            solid[i, j] = height[i, j] > tip - BELOW_TIP
            clear = 0 if solid[i, j] else clear + 1
            blocked[i, j] = clear <= half
        clear = columns
        for j in range(columns - 1, -1, -1):
            clear = 0 if solid[i, j] else clear + 1
            blocked[i, j] = blocked[i, j] or clear <= half


@compiled()
def _count_above(height, limit, counts):
    """Writes the summed-area table of the cells that are higher than a limit."""
    for i in range(height.shape[0]):
        row = 0
        for j in range(height.shape[1]):
            row += height[i, j] > limit
            counts[i + 1, j + 1] = counts[i, j + 1] + row


@compiled()
def _mark_grippable(height, target, tip, column, grippable):
    """Marks rows where most of the five cells across the fingers are target, high enough for the pads."""
    rows, columns = height.shape
    anything = False
    for i in range(rows):
        among = 0
        for step in range(-2, 3):
            # A map is mirrored at its edges.
            j = column + step
            j = -1 - j if j < 0 else 2 * columns - 1 - j if j >= columns else j
            among += target[i, j] and height[i, j] > tip + SHALLOW
        grippable[i] = among >= MIN_GRIPPABLE
        anything |= grippable[i]
    return anything


@compiled()
def _other_between(solid, target, start, end, column, cell):
    """Returns whether something other than the target would be between the fingers."""
    half = round(FINGER_HALF_WIDTH / cell)
    for i in range(start, end):
        for j in range(max(column - half, 0), min(column + half + 1, solid.shape[1])):
            if solid[i, j] and not target[i, j]:
                return True
    return False


@compiled()
def _half_even(value):
    """Rounds to the nearest integer, halves to the even one."""
    below = int(np.floor(value))
    if value - below == 0.5:
        return below + below % 2
    return int(np.floor(value + 0.5))


@compiled()
def _palm_collides(counts, row, column, cell):
    """Returns whether the palm would touch something."""
    half = (round(PALM_HALF_LENGTH / cell), round(PALM_HALF_WIDTH / cell))
    top, bottom = max(row - half[0], 0), min(row + half[0] + 1, counts.shape[0] - 1)
    left, right = max(column - half[1], 0), min(column + half[1] + 1, counts.shape[1] - 1)
    return counts[bottom, right] - counts[top, right] - counts[bottom, left] + counts[top, left] > 0


@compiled()
def _fingers_fit(blocked, column, middle, cell, opening):
    """Returns whether both open fingers have room; cells beyond the map count as free."""
    for side in (-1, 1):
        inner = middle + side * (opening / 2) / cell
        outer = middle + side * (opening / 2 + FINGER_THICKNESS) / cell
        low, high = int(np.floor(min(inner, outer))), int(np.ceil(max(inner, outer))) + 1
        for i in range(max(low, 0), min(high, len(blocked))):
            if blocked[i, column]:
                return False
    return True


@compiled()
def _slant(solid, start, end, column, cell):
    """Returns the slant of the faces across a finger's width, metres; infinite where too little of a face exists."""
    half = round(STRIP / 2 / cell)
    low, high = max(start - 1, 0), min(end + 1, len(solid))
    left, right = max(column - half, 0), min(column + half + 1, solid.shape[1])
    filled, nearest, furthest = 0, (len(solid), -1), (len(solid), -1)
    for j in range(left, right):
        near, far = -1, -1
        for i in range(low, high):
            if solid[i, j]:
                near, far = i if near < 0 else near, i
        if near >= 0:
            filled += 1
            nearest = (min(nearest[0], near), max(nearest[1], near))
            furthest = (min(furthest[0], far), max(furthest[1], far))
    if filled < MIN_FACE * (right - left):
        return np.inf
    return max(nearest[1] - nearest[0], furthest[1] - furthest[0]) * cell


@compiled()
def _depth(height, target, start, end, column, tip):
    """Returns the height of the run's top above the fingertips, metres.

    -inf where the run is a gap, such as between two bars, that is narrower than a finger.
    """
    top = -np.inf
    for i in range(start, end):
        if target[i, column]:
            top = max(top, height[i, column])
    return min(top - tip, DEEPEST)
