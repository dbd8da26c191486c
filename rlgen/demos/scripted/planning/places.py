"""Places for an object, at which an atom of the goal holds: poses of its body at rest, best first."""

from collections.abc import Iterator
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from rlgen.core.compiled import compiled
from rlgen.demos.scripted.geometry import Pose, SceneState, set_body_pose
from rlgen.demos.scripted.planning.height_maps import HeightMapper, downward_frame, slimmed, turned_map
from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.goals import STACKED

# Of the maps, metres.
CELL = 0.005
# Half extent of the map of an object's underside, metres, and the height at which it is mapped, away from the scene.
UNDERSIDE, UNDERSIDE_HEIGHT = 0.15, 30.0
# Height above the middle of a region without a roof from which it is mapped, metres.
OPEN_SKY = 0.5
# Turns about the vertical, radians.
TURNS = tuple(np.deg2rad(angle) for angle in (0, *(sign * step for step in range(15, 91, 15) for sign in (1, -1))))
# Most steps from the middle of a region to its edge.
MOST_STEPS = 15
# Distance from the middle of a region that several objects share, in half extents.
SHARED_DISTANCE = 0.75
# Distance from a place at which its atom must still hold, because nothing is put down exactly, metres.
MARGIN = 0.008
# Distance between an object and its support at which the support bears it, metres.
FLUSH = 0.004


@dataclass(frozen=True)
class Place:
    """A pose at rest.

    Attributes:
      body: pose of the object's body, in the world.
      cost: of the distance from the region's middle, the turn, poor support and height.
    """

    body: Pose
    cost: float


class PlaceFinder:
    """A search for places on height maps of the current state."""

    def __init__(self, state: SceneState, mapper: HeightMapper):
        self._state, self._mapper = state, mapper
        self._data = mujoco.MjData(state.model)
        self._arrays = kernel_arrays.make_data_arrays(state.model, self._data)

    def find(
        self, atom: int, rotation: Float[np.ndarray, "3 3"], *, roofed: bool, slim: bool = False
    ) -> Iterator[Place]:
        """Yields places for the object of an atom, the cheapest first.

        Args:
          atom: index in the goal; `In` or `On`.
          rotation: the object's current orientation, before it is turned about the vertical.
          roofed: whether the region has a roof, as a shelf: it is mapped from its middle downwards.
          slim: whether to take the object for a cell smaller on all sides: maps are too coarse to show that it fits
            between walls that it all but touches. Such places need another look.
        """
        goal = self._state.scene.goal
        body = int(goal.bodies[atom])
        center, half = self._region(atom)
        # The first of several objects in a region leaves room for the others.
        shared = np.sum((goal.targets == goal.targets[atom]) & (goal.kinds == goal.kinds[atom])) > 1
        reach = float(half.max()) + 0.10
        above = 0.0 if roofed else OPEN_SKY
        ground = self._mapper.map(downward_frame(center), (reach, reach), above=above, cell=CELL, without=body)
        up = Pose(np.array([0.0, 0.0, UNDERSIDE_HEIGHT]), np.eye(3))
        put = (body, Pose(up.position, rotation))
        under = self._mapper.map(up, (UNDERSIDE, UNDERSIDE), above=0.4, cell=CELL, put=put)
        under = slimmed(under) if slim else under
        floor = np.where(np.isfinite(ground.height), center[2] + ground.height, -np.inf)[:, ::-1]
        middle = [(extent - 1) // 2 for extent in floor.shape]
        steps = _steps(half)
        rows, columns = (np.rint(step / CELL).astype(int) + center for step, center in zip(steps, middle, strict=True))
        distances = np.hypot(*np.meshgrid(*(steps[k] / max(half[k], 0.02) for k in (0, 1)), indexing="ij"))
        distances = np.abs(distances - SHARED_DISTANCE) if shared else distances
        heights, leans = np.empty((2, len(TURNS), *distances.shape))
        for turn, *rests in zip(TURNS, heights, leans, strict=True):
            rest_at(floor, turned_map(under, -turn).height, rows, columns, *rests)
        turns = np.abs(TURNS)[:, None, None]
        costs = 0.5 * distances + 0.3 * turns + 15 * (CELL * leans + heights)
        order = np.argsort(costs, axis=None, kind="stable")[: np.isfinite(costs).sum()]
        for turn, row, column in zip(*np.unravel_index(order, costs.shape), strict=True):
            offset = np.array([steps[0][row], steps[1][column]])
            turned = Rotation.from_rotvec([0, 0, TURNS[turn]]).as_matrix() @ rotation
            pose = Pose(np.array([*(center[:2] + offset), heights[turn, row, column]]), turned)
            if self._meets_atom(atom, body, pose):
                yield Place(pose, float(costs[turn, row, column]))

    def _region(self, atom: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the middle of an atom's region and its half extents along the world's axes, metres."""
        goal, data = self._state.scene.goal, self._state.data
        place = int(goal.targets[atom])
        if goal.kinds[atom] == STACKED:
            return data.xpos[place].copy(), np.array([0.015, 0.015, 0.05])
        rotation = data.site_xmat[place].reshape(3, 3)
        return data.site_xpos[place].copy(), np.abs(rotation) @ goal.sizes[atom]

    def _meets_atom(self, atom: int, body: int, pose: Pose) -> bool:
        """Returns whether the atom holds with the object in a pose and a little beside it."""
        goal, model, data = self._state.scene.goal[atom], self._state.model, self._data
        for shift in ((0, 0), (MARGIN, 0), (-MARGIN, 0), (0, MARGIN), (0, -MARGIN)):
            data.qpos[:] = self._state.data.qpos
            set_body_pose(data, model, body, pose.moved(np.array([*shift, 0.001])))
            mujoco.mj_kinematics(model, data)
            if not kernel.goal_reached(self._arrays, kernel_arrays.goal_arrays(goal)):
                return False
        return True


def _steps(half: np.ndarray) -> list[np.ndarray]:
    """Returns offsets from a region's middle along both axes, within the region, as many as make sense, metres."""
    counts = [min(int(extent / CELL), MOST_STEPS) for extent in half[:2]]
    return [extent * np.arange(-count, count + 1) / (count + 1) for extent, count in zip(half, counts, strict=False)]


@compiled()
def rest(floor, lower, row, column):
    """Returns the height of an object's origin at rest, metres, and the distance of its middle from its support, cells.

    Both are infinite where nothing carries the object, or part of it is beyond the floor's map.

    Args:
      floor: `Float[n m]`, heights of the floor, metres; -inf where nothing is.
      lower: `Float[k l]`, depth of the object's underside below its origin, metres; -inf beside it.
      row: of the floor's cell under the middle of `lower`.
      column: of that cell.
    """
    top, left = row - (lower.shape[0] - 1) // 2, column - (lower.shape[1] - 1) // 2
    height = -np.inf
    for i in range(lower.shape[0]):
        for j in range(lower.shape[1]):
            if lower[i, j] > -np.inf:
                if not (0 <= top + i < floor.shape[0] and 0 <= left + j < floor.shape[1]):
                    return np.inf, np.inf
                height = max(height, floor[top + i, left + j] + lower[i, j])
    if height == -np.inf:
        return np.inf, np.inf
    bearing, cells, bearing_row, bearing_column, middle_row, middle_column = 0, 0, 0, 0, 0, 0
    for i in range(lower.shape[0]):
        for j in range(lower.shape[1]):
            if lower[i, j] > -np.inf:
                cells, middle_row, middle_column = cells + 1, middle_row + i, middle_column + j
                if floor[top + i, left + j] + lower[i, j] > height - FLUSH:
                    bearing, bearing_row, bearing_column = bearing + 1, bearing_row + i, bearing_column + j
    row_offset = bearing_row / bearing - middle_row / cells
    return height, np.hypot(row_offset, bearing_column / bearing - middle_column / cells)


@compiled()
def rest_at(floor, lower, rows, columns, heights, leans):
    """Writes what `rest` returns for every row and column.

    Args:
      floor: as of `rest`.
      lower: as of `rest`.
      rows: `Int[rows]`, of the middle.
      columns: `Int[columns]`, likewise.
      heights: `Float[rows columns]`, is filled.
      leans: likewise.
    """
    for i in range(len(rows)):
        for j in range(len(columns)):
            heights[i, j], leans[i, j] = rest(floor, lower, rows[i], columns[j])
