"""Places for an object, at which an atom of the goal holds: poses of its body at rest, best first."""

from dataclasses import dataclass
from itertools import islice

import mujoco
import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from rlgen.core.compiled import compiled
from rlgen.demos.scripted.geometry import Pose, SceneState, set_body_pose
from rlgen.demos.scripted.height_maps import HeightMapper, downward_frame, turned_map
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
# Most places to choose from.
MAX_PLACES = 120
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
      cost: of the distance from the region's middle, the turn and poor support.
    """

    body: Pose
    cost: float


class PlaceFinder:
    """A search for places on height maps of the current state."""

    def __init__(self, state: SceneState, mapper: HeightMapper):
        self._state, self._mapper = state, mapper
        self._data = mujoco.MjData(state.model)
        self._arrays = kernel_arrays.make_data_arrays(state.model, self._data)

    def find(self, atom: int, rotation: Float[np.ndarray, "3 3"], *, roofed: bool) -> list[Place]:
        """Returns places for the object of an atom, the cheapest first.

        Args:
          atom: index in the goal; `In` or `On`.
          rotation: the object's current orientation, before it is turned about the vertical.
          roofed: whether the region has a roof, as a shelf: it is mapped from its middle downwards.
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
        floor = np.where(np.isfinite(ground.height), center[2] + ground.height, -np.inf)[:, ::-1]
        middle = [(extent - 1) // 2 for extent in floor.shape]
        found = []
        for turn in TURNS:
            lower = turned_map(under, -turn).height
            turned = Rotation.from_rotvec([0, 0, turn]).as_matrix() @ rotation
            for offset in _offsets(half):
                row, column = (round(step / CELL) for step in offset)
                height, lean = rest(floor, lower, row + middle[0], column + middle[1])
                if np.isfinite(height):
                    distance = float(np.linalg.norm(offset / np.maximum(half[:2], 0.02)))
                    distance = abs(distance - SHARED_DISTANCE) if shared else distance
                    pose = Pose(np.array([*(center[:2] + offset), height]), turned)
                    found.append(Place(pose, 0.5 * distance + 0.3 * abs(turn) + 15 * CELL * lean))
        found.sort(key=lambda place: place.cost)
        return list(islice((place for place in found if self._meets_atom(atom, body, place.body)), MAX_PLACES))

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


def _offsets(half: np.ndarray, count: int = 3) -> list[np.ndarray]:
    """Returns a grid of horizontal offsets over a region, metres."""
    steps = np.arange(-count, count + 1) / (count + 1)
    return [np.array([x, y]) for x in steps * half[0] for y in steps * half[1]]


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
