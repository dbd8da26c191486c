"""Height maps of a scene: grids of parallel rays, cast by MuJoCo's `mj_ray` in one compiled loop."""

import copy
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Int
from numba import types
from numba.core.typing.templates import Signature

from rlgen.core.compiled import compiled
from rlgen.demos.scripted.geometry import Pose, SceneState, robot_bodies, set_body_pose
from rlgen.libero.physics import kernel

# Model, data, point, direction, groups, static geoms too, body left out, geom that was hit, normal there.
_RAY = Signature(types.float64, (types.uintp,) * 5 + (types.int32, types.int32) + (types.uintp,) * 2, recvr=None)
_mj_ray = types.ExternalFunction("mj_ray", _RAY)


@compiled()
def cast_grid(model, data, corner, first, second, along, distance, geom):
    """Casts `distance.shape` rays; `rlgen.libero.physics.kernel.link_mujoco` must have been called.

    Args:
      model: address of the `mjModel`.
      data: address of its `mjData`, whose kinematics are those of the current positions.
      corner: start of the first ray, `Float[3]`, metres.
      first: step between rays along the grid's first axis, `Float[3]`, metres.
      second: step along the second axis.
      along: direction of all rays, `Float[3]`, of length one, contiguous.
      distance: written, `Float[n m]`: metres to the hit, -1 for none.
      geom: written, `Int32[n m]`: the geom that was hit, -1 for none.
    """
    point, hit = np.empty(3), np.empty(1, np.int32)
    for i in range(distance.shape[0]):
        for j in range(distance.shape[1]):
            for k in range(3):
                point[k] = corner[k] + i * first[k] + j * second[k]
            distance[i, j] = _mj_ray(model, data, point.ctypes.data, along.ctypes.data, 0, 1, -1, hit.ctypes.data, 0)
            geom[i, j] = hit[0]


# Where an object is moved to that a map leaves out.
FAR_AWAY = np.array([0.0, 0.0, 20.0])


@dataclass(frozen=True)
class HeightMap:
    """Heights of the surface that rays along the z axis of a frame hit first.

    Attributes:
      frame: origin in the middle of the map; rays go along +z.
      cell: distance between rays, metres.
      height: of the hit above the frame's xy plane, against the direction of the rays, metres; -inf for no hit.
      body: that was hit, -1 for none.
    """

    frame: Pose
    cell: float
    height: Float[np.ndarray, "n m"]
    body: Int[np.ndarray, "n m"]


class HeightMapper:
    """A source of height maps of the current state without the robot."""

    def __init__(self, state: SceneState):
        self._state, self._model = state, copy.copy(state.model)
        # Rays ignore invisible geoms: this makes collision geometry visible, and the arm invisible.
        self._model.geom_matid[:] = -1
        self._model.geom_rgba[:, 3] = np.where(robot_bodies(state.scene)[self._model.geom_bodyid], 0.0, 1.0)
        self._data = mujoco.MjData(self._model)
        kernel.link_mujoco()

    def map(
        self,
        frame: Pose,
        reach: tuple[float, float],
        *,
        above: float,
        cell: float,
        without: int | None = None,
        put: tuple[int, Pose] | None = None,
    ) -> HeightMap:
        """Returns the height map of a rectangle.

        Args:
          frame: origin in the middle of the map; its z axis is the direction of the rays.
          reach: half extents along the frame's x and y, metres.
          above: distance from the start of the rays to the frame's plane, metres; rays miss what is further up.
          cell: distance between rays, metres.
          without: a movable object to leave out.
          put: an object and the pose that it is given first.
        """
        model, data = self._model, self._data
        data.qpos[:] = self._state.data.qpos
        if without is not None:
            set_body_pose(data, model, without, Pose(FAR_AWAY, np.eye(3)))
        if put is not None:
            set_body_pose(data, model, *put)
        mujoco.mj_kinematics(model, data)
        counts = [round(extent / cell) for extent in reach]
        steps = cell * frame.rotation[:, :2].T
        along = np.ascontiguousarray(frame.rotation[:, 2])
        corner = frame.position - above * along - counts @ steps
        distance = np.empty((2 * counts[0] + 1, 2 * counts[1] + 1))
        geom = np.empty(distance.shape, np.int32)
        cast_grid(model._address, data._address, corner, *steps, along, distance, geom)
        height = np.where(distance >= 0, above - distance, -np.inf)
        body = np.where(distance >= 0, model.geom_bodyid[geom], -1)
        return HeightMap(frame, cell, height, body)


def turned_map(height_map: HeightMap, angle: float) -> HeightMap:
    """Returns a map in its frame turned about the z axis, by the nearest ray; cells from outside are -inf.

    Args:
      height_map: the map.
      angle: of the turn, radians.
    """
    cosine, sine = np.cos(angle), np.sin(angle)
    counts = [(extent - 1) // 2 for extent in height_map.height.shape]
    x, y = np.meshgrid(*(np.arange(-count, count + 1) for count in counts), indexing="ij")
    i = np.rint(cosine * x - sine * y).astype(int) + counts[0]
    j = np.rint(sine * x + cosine * y).astype(int) + counts[1]
    inside = (i >= 0) & (i < height_map.height.shape[0]) & (j >= 0) & (j < height_map.height.shape[1])
    i, j = np.where(inside, i, 0), np.where(inside, j, 0)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    return HeightMap(
        Pose(height_map.frame.position, height_map.frame.rotation @ turn),
        height_map.cell,
        np.where(inside, height_map.height[i, j], -np.inf),
        np.where(inside, height_map.body[i, j], -1),
    )


def slimmed(height_map: HeightMap) -> HeightMap:
    """Returns a map of which every cell has the least height of it and its neighbors: what it shows is smaller."""
    height = np.pad(height_map.height, 1, constant_values=-np.inf)
    least = np.lib.stride_tricks.sliding_window_view(height, (3, 3)).min(axis=(2, 3))
    return HeightMap(height_map.frame, height_map.cell, least, height_map.body)


def downward_frame(position: Float[np.ndarray, "3"]) -> Pose:
    """Returns a frame whose z axis points down and whose x axis is the world's."""
    return Pose(np.asarray(position, float), np.diag([1.0, -1.0, -1.0]))


def frame_along(point: Float[np.ndarray, "3"], direction: Float[np.ndarray, "3"]) -> Pose:
    """Returns a frame at a point with a direction as z axis; x is level, or the world's x where z is vertical."""
    level = np.cross([0.0, 0.0, 1.0], direction)
    if np.linalg.norm(level) < 1e-3:
        level = np.array([1.0, 0.0, 0.0])
    level /= np.linalg.norm(level)
    return Pose(point, np.stack([level, np.cross(direction, level), direction], axis=1))


def cells_of(height_map: HeightMap, bodies: Bool[np.ndarray, " bodies"]) -> Bool[np.ndarray, "n m"]:
    """Returns a mask of the cells that show one of the bodies."""
    return (height_map.body >= 0) & bodies[height_map.body]


def cell_points(height_map: HeightMap, mask: Bool[np.ndarray, "n m"]) -> Float[np.ndarray, "k 3"]:
    """Returns the points of the surface in the cells of a mask, in the world, metres."""
    i, j = np.nonzero(mask)
    middle = [(extent - 1) // 2 for extent in height_map.height.shape]
    local = np.stack(
        [(i - middle[0]) * height_map.cell, (j - middle[1]) * height_map.cell, -height_map.height[i, j]], axis=1
    )
    return height_map.frame.position + local @ height_map.frame.rotation.T
