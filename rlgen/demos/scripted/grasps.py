"""Grasps with two fingers: candidates from a height map, best first.

In a height map along the direction of the fingers, a grasp is a run of material across the closing direction, thin
enough for the hand, with room beside it for both fingers and before it for the palm. The rule is the same for a box, a
can, the wall of a bowl, the rim of a plate and the handle of a pan.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from rlgen.demos.scripted.geometry import Pose
from rlgen.demos.scripted.grasp_search import DEEPEST, SHALLOW, TIP, search
from rlgen.demos.scripted.height_maps import HeightMap, turned_map

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
