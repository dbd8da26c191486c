"""Where two fingers can close on something: candidates from a height map, best first.

Seen along the way that the fingers point, a grasp is a run of material across the closing direction, thin enough
for the hand, with room beside it for both fingers and before it for the palm: a box, a can, the wall of a bowl, the
rim of a plate, the handle of a pan are all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import maximum_filter, maximum_filter1d, uniform_filter1d

from rlgen.demonstrator.pose import Pose
from rlgen.demonstrator.terrain import HeightMap, turned_map

# The Panda's hand in the grip site's frame, metres: half the width of a finger, its thickness a centimetre above
# the tip, how far the tip is beyond the site, the palm before it, and the palm's half width and half length.
FINGER_HALF_WIDTH = 0.0095
FINGER_THICKNESS = 0.016
TIP = 0.0092
PALM = 0.031
PALM_HALF_WIDTH = 0.020
PALM_HALF_LENGTH = 0.102
WIDEST = 0.078
# The pads grip from half a centimetre to two above the tip; rims of plates are no higher than the first.
PAD_LOW, SHALLOW = 0.010, 0.006
DEEPEST = 0.032
STRIP = 0.012
# How far below its top a thing may be gripped: the handles of pots and mugs are lower than their rims.
LOWEST = 0.12


@dataclass(frozen=True)
class Grasp:
    """A pose of the grip site at which the fingers close.

    Attributes:
      hand: in the world.
      cost: what speaks against it: slanted faces, a long lever to the centre of mass, little depth.
    """

    hand: Pose
    cost: float


def find_grasps(
    seen: HeightMap,
    target: Bool[np.ndarray, "n m"],
    centre: Float[np.ndarray, "3"],
    turns: Sequence[float],
    *,
    opening: float = WIDEST,
) -> list[Grasp]:
    """Candidates in a height map, the cheapest first, none alike.

    Args:
      seen: along the way that the fingers will point.
      target: where the map shows what is to be grasped.
      centre: its centre of mass.
      turns: angles of the closing direction from the map's x axis, radians.
      opening: between the fingers before they close, metres.
    """
    marked = HeightMap(seen.frame, seen.cell, seen.height, np.where(target, 1, np.where(seen.body >= 0, 0, -1)))
    found = [grasp for turn in turns for grasp in _along(turned_map(marked, turn), centre, opening)]
    return _distinct(sorted(found, key=lambda grasp: grasp.cost))


def _along(seen: HeightMap, centre: np.ndarray, opening: float) -> list[Grasp]:
    """Candidates that close along the map's x axis."""
    height, target = seen.height, seen.body == 1
    if not target.any():
        return []
    top = height[target].max()
    levels = (top - SHALLOW - 0.002, *np.arange(top - PAD_LOW - 0.003, top - LOWEST, -0.008))
    return [grasp for level in levels for grasp in _at_level(seen, target, float(level), centre, opening)]


def _at_level(seen: HeightMap, target: np.ndarray, tip: float, centre: np.ndarray, opening: float) -> list[Grasp]:
    """Candidates with the fingertips at a height."""
    height, cell = seen.height, seen.cell
    firm = uniform_filter1d((target & (height > tip + SHALLOW)).astype(float), 5, axis=1) > 0.6
    if not firm.any():
        return []
    solid = height > tip - 0.003
    wide = 2 * round(FINGER_HALF_WIDTH / cell) + 1
    blocked = maximum_filter1d(solid, wide, axis=1)
    strange = maximum_filter1d(solid & ~target, wide, axis=1)
    palm = (2 * round(PALM_HALF_LENGTH / cell) + 1, 2 * round(PALM_HALF_WIDTH / cell) + 1)
    covered = maximum_filter(height > tip + TIP + PALM - 0.004, palm)
    runs = _runs(blocked)
    columns, begins, ends = runs
    fits = (ends - begins) * cell <= opening - 0.006
    fits &= (_counts(firm, runs) > 0) & (_counts(strange, runs) == 0)
    fits &= ~covered[np.rint(0.5 * (begins + ends - 1)).astype(int), columns]
    found = []
    for column, begin, end in zip(columns[fits], begins[fits], ends[fits], strict=True):
        if not _fingers_fit(blocked[:, column], 0.5 * (begin + end - 1), cell, opening):
            continue
        grasp = _grasp(seen, target, solid, tip, (column, begin, end), centre)
        if grasp is not None:
            found.append(grasp)
    return found


def _runs(mask: Bool[np.ndarray, "n m"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column, first and one after last index of every run along the first axis."""
    bordered = np.zeros((mask.shape[1], len(mask) + 2), np.int8)
    bordered[:, 1:-1] = mask.T
    edges = np.diff(bordered, axis=1)
    columns, begins = np.nonzero(edges == 1)
    return columns, begins, np.nonzero(edges == -1)[1]


def _counts(mask: Bool[np.ndarray, "n m"], runs: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """How many cells of each run are in a mask."""
    columns, begins, ends = runs
    before = np.zeros((len(mask) + 1, mask.shape[1]), np.int32)
    np.cumsum(mask, axis=0, out=before[1:])
    return before[ends, columns] - before[begins, columns]


def _fingers_fit(blocked: np.ndarray, middle: float, cell: float, opening: float) -> bool:
    """Whether both open fingers have room; beyond the map nothing is known to be in the way."""
    for side in (-1, 1):
        ends = middle + side * np.array([opening / 2, opening / 2 + FINGER_THICKNESS]) / cell
        low, high = int(np.floor(ends.min())), int(np.ceil(ends.max())) + 1
        if blocked[max(low, 0) : max(high, 0)].any():
            return False
    return True


def _grasp(
    seen: HeightMap,
    target: np.ndarray,
    solid: np.ndarray,
    tip: float,
    run: tuple[int, int, int],
    centre: np.ndarray,
) -> Grasp | None:
    """The grasp of one run, or None where its faces are no faces."""
    column, begin, end = run
    cell, half = seen.cell, round(STRIP / 2 / seen.cell)
    strip = slice(max(column - half, 0), column + half + 1)
    window = solid[max(begin - 1, 0) : end + 1, strip]
    filled = window.any(axis=0)
    if filled.mean() < 0.7:
        return None
    near = np.argmax(window[:, filled], axis=0)
    far = len(window) - 1 - np.argmax(window[::-1][:, filled], axis=0)
    slant = max(np.ptp(near), np.ptp(far)) * cell
    if slant > 0.009:
        return None
    gripped = target[begin:end, column]
    if not gripped.any():
        # A gap, such as between two bars, that is narrower than a finger.
        return None
    depth = min(float(np.max(seen.height[begin:end, column][gripped])) - tip, DEEPEST)
    counts = [(extent - 1) // 2 for extent in seen.height.shape]
    offset = np.array([(0.5 * (begin + end - 1) - counts[0]) * cell, (column - counts[1]) * cell, -(tip + TIP)])
    position = seen.frame.position + seen.frame.rotation @ offset
    lever = (position - centre) - seen.frame.rotation[:, 2] * ((position - centre) @ seen.frame.rotation[:, 2])
    cost = slant / 0.003 + 12 * float(np.linalg.norm(lever)) + (DEEPEST - depth) / 0.01
    return Grasp(Pose(position, seen.frame.rotation), cost)


def _distinct(grasps: Sequence[Grasp], near: float = 0.012, likeness: float = 0.98, most: int = 60) -> list[Grasp]:
    """The cheapest of those that are near each other."""
    kept: list[Grasp] = []
    places, closings = np.empty((most, 3)), np.empty((most, 3))
    for grasp in grasps:
        count, position, closing = len(kept), grasp.hand.position, grasp.hand.rotation[:, 0]
        away = np.linalg.norm(places[:count] - position, axis=1)
        if not np.any((away < near) & (abs(closings[:count] @ closing) > likeness)):
            places[count], closings[count] = position, closing
            kept.append(grasp)
        if len(kept) == most:
            break
    return kept
