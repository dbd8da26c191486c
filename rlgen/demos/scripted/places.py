"""Where to put an object so that an atom of the goal holds: poses of its body at rest, best first."""

from dataclasses import dataclass
from itertools import islice

import mujoco
import numpy as np
from jaxtyping import Float
from numba import njit
from scipy.spatial.transform import Rotation

from rlgen.demos.scripted.geometry import Pose, Sight, place_body
from rlgen.demos.scripted.height_maps import Terrain, looking_down, turned_map
from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.goals import STACKED

CELL = 0.005
# Half extent of the maps of an object's underside.
UNDERSIDE = 0.15
# From where one looks down on a region that has no roof, metres above its middle.
OPEN_SKY = 0.5
# Turns about the vertical, radians, and how many places are enough to choose from.
TURNS = tuple(np.deg2rad(angle) for angle in (0, *(sign * step for step in range(15, 91, 15) for sign in (1, -1))))
ENOUGH = 120
# How far from the middle, in half extents, one of several things is put.
SHARED = 0.75
# How far from a place its atom must still hold, because nothing is put down exactly.
MARGIN = 0.008
# What comes as near to its support as this bears an object, metres.
FLUSH = 0.004


@dataclass(frozen=True)
class Place:
    """A pose at rest.

    Attributes:
      body: of the object's body, in the world.
      cost: distance from the region's middle, how far it must be turned, how badly it is supported.
    """

    body: Pose
    cost: float


class Places:
    """Finds places. Owns an `MjData`."""

    def __init__(self, sight: Sight, terrain: Terrain):
        self._sight, self._terrain = sight, terrain
        self._data = mujoco.MjData(sight.model)
        self._views = kernel_arrays.make_data_arrays(sight.model, self._data)

    def find(self, atom: int, rotation: Float[np.ndarray, "3 3"], *, roofed: bool) -> list[Place]:
        """Places for the object of an atom, the cheapest first.

        Args:
          atom: number in the goal; `In` or `On`.
          rotation: how the object stands now, before it is turned about the vertical.
          roofed: whether to look down from the region's middle, as into a shelf.
        """
        goal = self._sight.scene.goal
        body = int(goal.bodies[atom])
        centre, half = self._region(atom)
        # Where others go too, the first leaves room.
        shared = np.sum((goal.targets == goal.targets[atom]) & (goal.kinds == goal.kinds[atom])) > 1
        reach = float(half.max()) + 0.10
        above = 0.0 if roofed else OPEN_SKY
        ground = self._terrain.map(looking_down(centre), (reach, reach), above=above, cell=CELL, without=body)
        up = Pose(np.array([0.0, 0.0, 30.0]), np.eye(3))
        put = (body, Pose(up.position, rotation))
        under = self._terrain.map(up, (UNDERSIDE, UNDERSIDE), above=0.4, cell=CELL, put=put)
        floor = np.where(np.isfinite(ground.height), centre[2] + ground.height, -np.inf)[:, ::-1]
        middle = [(extent - 1) // 2 for extent in floor.shape]
        found = []
        for turn in TURNS:
            lower = turned_map(under, -turn).height
            placeholderg = Rotation.from_rotvec([0, 0, turn]).as_matrix() @ rotation
            for offset in _offsets(half):
                row, column = (round(step / CELL) for step in offset)
                height, lean = rest(floor, lower, row + middle[0], column + middle[1])
                if np.isfinite(height):
                    away = float(np.linalg.norm(offset / np.maximum(half[:2], 0.02)))
                    away = abs(away - SHARED) if shared else away
                    pose = Pose(np.array([*(centre[:2] + offset), height]), placeholderg)
                    found.append(Place(pose, 0.5 * away + 0.3 * abs(turn) + 15 * CELL * lean))
        found.sort(key=lambda place: place.cost)
        return list(islice((place for place in found if self._holds(atom, body, place.body)), ENOUGH))

    def _region(self, atom: int) -> tuple[np.ndarray, np.ndarray]:
        """Middle and half extents along the world's axes."""
        goal, data = self._sight.scene.goal, self._sight.data
        place = int(goal.targets[atom])
        if goal.kinds[atom] == STACKED:
            return data.xpos[place].copy(), np.array([0.015, 0.015, 0.05])
        rotation = data.site_xmat[place].reshape(3, 3)
        return data.site_xpos[place].copy(), np.abs(rotation) @ goal.sizes[atom]

    def _holds(self, atom: int, body: int, pose: Pose) -> bool:
        """Whether poses meet the atom there and a little beside."""
        goal, model, data = self._sight.scene.goal[atom], self._sight.model, self._data
        for shift in ((0, 0), (MARGIN, 0), (-MARGIN, 0), (0, MARGIN), (0, -MARGIN)):
            data.qpos[:] = self._sight.data.qpos
            place_body(data, model, body, pose.moved(np.array([*shift, 0.001])))
            mujoco.mj_kinematics(model, data)
            if not kernel.goal_reached(self._views, kernel_arrays.goal_arrays(goal)):
                return False
        return True


def _offsets(half: np.ndarray, count: int = 3) -> list[np.ndarray]:
    """A grid over a region, seen from above."""
    steps = np.arange(-count, count + 1) / (count + 1)
    return [np.array([x, y]) for x in steps * half[0] for y in steps * half[1]]


@njit(nogil=True, cache=True)
def rest(floor, lower, row, column):
    """Height of an object's origin where it comes to rest, and how far beside its support it would lean, in cells.

    Infinite, both, where nothing is known to carry it or some of it is beyond the floor's map.

    Args:
      floor: `Float[n m]`, heights of what is there, metres; -inf where nothing is.
      lower: `Float[k l]`, how far the object reaches below its origin, metres; -inf beside it.
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
    bearing, cells, ahead, aside, middle, centre = 0, 0, 0, 0, 0, 0
    for i in range(lower.shape[0]):
        for j in range(lower.shape[1]):
            if lower[i, j] > -np.inf:
                cells, middle, centre = cells + 1, middle + i, centre + j
                if floor[top + i, left + j] + lower[i, j] > height - FLUSH:
                    bearing, ahead, aside = bearing + 1, ahead + i, aside + j
    return height, np.hypot(ahead / bearing - middle / cells, aside / bearing - centre / cells)
