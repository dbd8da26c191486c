"""Where two fingers can close on something: candidates from a height map, best first.

Seen along the way that the fingers point, a grasp is a run of material across the closing direction, thin enough
for the hand, with room beside it for both fingers and before it for the palm: a box, a can, the wall of a bowl, the
rim of a plate, the handle of a pan are all the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from rlgen.demos.scripted.geometry import Pose
from rlgen.demos.scripted.grasp_search import DEEPEST, SHALLOW, TIP, search
from rlgen.demos.scripted.height_maps import HeightMap, turned_map

WIDEST = 0.078
# How far below its top a thing may be gripped: the handles of pots and mugs are lower than their rims. From the
# second level on, so far below its top, and in such steps, metres.
LOWEST, SECOND, STEP = 0.12, 0.013, 0.008
# Candidates kept for one direction of the fingers, and in all.
ROOM, MOST = 20_000, 60


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
    marked = HeightMap(seen.frame, seen.cell, seen.height, np.where(target, 1, 0))
    found = [_along(turned_map(marked, turn), centre, opening) for turn in turns]
    costs = np.concatenate([cost for _, _, cost in found])
    positions = np.concatenate([position for _, position, _ in found])
    frames = np.repeat(np.arange(len(found)), [len(cost) for _, _, cost in found])
    rotations = [rotation for rotation, _, _ in found]
    order = np.argsort(costs, kind="stable")
    return _distinct(Grasp(Pose(positions[i], rotations[frames[i]]), float(costs[i])) for i in order)


def _along(
    seen: HeightMap, centre: np.ndarray, opening: float
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "k 3"], Float[np.ndarray, " k"]]:
    """Rotation, positions and costs of the candidates that close along the map's x axis."""
    rotation, target = seen.frame.rotation, seen.body == 1
    top = seen.height[target].max() if target.any() else -np.inf
    tips = np.array([top - SHALLOW - 0.002, *np.arange(top - SECOND, top - LOWEST, -STEP)] if target.any() else [])
    runs, values = np.empty((ROOM, 4), np.int64), np.empty((ROOM, 2))
    count = search(seen.height, target, tips, seen.cell, opening, runs, values)
    levels, columns, begins, ends = runs[:count].T
    slant, depth = values[:count].T
    middle = [(extent - 1) // 2 for extent in seen.height.shape]
    offset = (
        (0.5 * (begins + ends - 1) - middle[0]) * seen.cell,
        (columns - middle[1]) * seen.cell,
        -(tips[levels] + TIP),
    )
    position = seen.frame.position + np.stack(offset, axis=1) @ rotation.T
    lever = (position - centre) - ((position - centre) @ rotation[:, 2:]) * rotation[:, 2]
    cost = slant / 0.003 + 12 * np.linalg.norm(lever, axis=1) + (DEEPEST - depth) / 0.01
    return rotation, position, cost


def _distinct(grasps: Iterable[Grasp], near: float = 0.012, likeness: float = 0.98) -> list[Grasp]:
    """The cheapest of those that are near each other."""
    kept: list[Grasp] = []
    places, closings = np.empty((MOST, 3)), np.empty((MOST, 3))
    for grasp in grasps:
        count, position, closing = len(kept), grasp.hand.position, grasp.hand.rotation[:, 0]
        away = np.linalg.norm(places[:count] - position, axis=1)
        if not np.any((away < near) & (abs(closings[:count] @ closing) > likeness)):
            places[count], closings[count] = position, closing
            kept.append(grasp)
        if len(kept) == MOST:
            break
    return kept
