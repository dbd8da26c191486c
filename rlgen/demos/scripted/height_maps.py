"""A grid of parallel rays in one compiled loop: MuJoCo's own `mj_ray`, without the interpreter between two of them."""

import copy
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Int
from numba import njit, types
from numba.core.typing.templates import Signature

from rlgen.demos.scripted.geometry import Pose, Sight, place_body, robot_bodies
from rlgen.libero.physics import kernel

# Model, data, point, direction, groups, static geoms too, body left out, geom that was hit, normal there.
_RAY = Signature(types.float64, (types.uintp,) * 5 + (types.int32, types.int32) + (types.uintp,) * 2, recvr=None)
_mj_ray = types.ExternalFunction("mj_ray", _RAY)


@njit(nogil=True, cache=True)
def cast_grid(model, data, corner, first, second, along, distance, geom):
    """Casts `distance.shape` rays; `rlgen.libero.physics.kernel.link_mujoco` must have been called.

    Args:
      model: address of the `mjModel`.
      data: address of its `mjData`, whose kinematics are those of the present positions.
      corner: where the first ray begins, `Float[3]`, metres.
      first: from a ray to the next one along the grid's first axis, `Float[3]`, metres.
      second: and along the second.
      along: direction of all, `Float[3]`, of length one, contiguous.
      distance: written, `Float[n m]`: metres to what was hit, -1 for nothing.
      geom: written, `Int32[n m]`: the geom that was hit, -1 for none.
    """
    point, hit = np.empty(3), np.empty(1, np.int32)
    for i in range(distance.shape[0]):
        for j in range(distance.shape[1]):
            for k in range(3):
                point[k] = corner[k] + i * first[k] + j * second[k]
            distance[i, j] = _mj_ray(model, data, point.ctypes.data, along.ctypes.data, 0, 1, -1, hit.ctypes.data, 0)
            geom[i, j] = hit[0]


FAR = np.array([0.0, 0.0, 20.0])


@dataclass(frozen=True)
class HeightMap:
    """What rays hit that go along the z axis of a frame.

    Attributes:
      frame: origin in the middle of the map; rays go along +z.
      cell: metres between rays.
      height: how far before the frame's xy plane each ray ended (towards where it came from), metres; -inf for none.
      body: what it hit, -1 for nothing.
    """

    frame: Pose
    cell: float
    height: Float[np.ndarray, "n m"]
    body: Int[np.ndarray, "n m"]


class Terrain:
    """Takes maps of the world without the robot. Owns an `MjData`."""

    def __init__(self, sight: Sight):
        self._sight, self._model = sight, copy.copy(sight.model)
        # Rays pass through what is invisible, which collision geometry is, and the arm is to be.
        self._model.geom_matid[:] = -1
        self._model.geom_rgba[:, 3] = np.where(robot_bodies(sight.scene)[self._model.geom_bodyid], 0.0, 1.0)
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
        """Casts a grid of rays.

        Args:
          frame: middle of the map, and the rays' direction as its z axis.
          reach: half extents along the frame's x and y, metres.
          above: how far before the frame's plane the rays begin, metres; what is beyond that is not seen.
          cell: metres between rays.
          without: a movable object to leave out.
          put: an object to put somewhere else first.
        """
        model, data = self._model, self._data
        data.qpos[:] = self._sight.data.qpos
        if without is not None:
            place_body(data, model, without, Pose(FAR, np.eye(3)))
        if put is not None:
            place_body(data, model, *put)
        mujoco.mj_kinematics(model, data)
        counts = [round(extent / cell) for extent in reach]
        steps = cell * frame.rotation[:, :2].T
        along = np.ascontiguousarray(frame.rotation[:, 2])
        corner = frame.position - above * along - counts @ steps
        way = np.empty((2 * counts[0] + 1, 2 * counts[1] + 1))
        geom = np.empty(way.shape, np.int32)
        cast_grid(model._address, data._address, corner, *steps, along, way, geom)
        height = np.where(way >= 0, above - way, -np.inf)
        body = np.where(way >= 0, model.geom_bodyid[geom], -1)
        return HeightMap(frame, cell, height, body)


def turned_map(seen: HeightMap, angle: float) -> HeightMap:
    """The same map in a frame turned about its z axis, by the nearest ray; what was outside is -inf."""
    cosine, sine = np.cos(angle), np.sin(angle)
    counts = [(extent - 1) // 2 for extent in seen.height.shape]
    x, y = np.meshgrid(*(np.arange(-count, count + 1) for count in counts), indexing="ij")
    i = np.rint(cosine * x - sine * y).astype(int) + counts[0]
    j = np.rint(sine * x + cosine * y).astype(int) + counts[1]
    inside = (i >= 0) & (i < seen.height.shape[0]) & (j >= 0) & (j < seen.height.shape[1])
    i, j = np.where(inside, i, 0), np.where(inside, j, 0)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    return HeightMap(
        Pose(seen.frame.position, seen.frame.rotation @ turn),
        seen.cell,
        np.where(inside, seen.height[i, j], -np.inf),
        np.where(inside, seen.body[i, j], -1),
    )


def looking_down(position: Float[np.ndarray, "3"]) -> Pose:
    """A frame whose z axis points down, x along the world's x."""
    return Pose(np.asarray(position, float), np.diag([1.0, -1.0, -1.0]))


def facing(point: Float[np.ndarray, "3"], along: Float[np.ndarray, "3"]) -> Pose:
    """A frame at a point whose z axis is a direction; x is level, or the world's x where z is vertical."""
    level = np.cross([0.0, 0.0, 1.0], along)
    if np.linalg.norm(level) < 1e-3:
        level = np.array([1.0, 0.0, 0.0])
    level /= np.linalg.norm(level)
    return Pose(point, np.stack([level, np.cross(along, level), along], axis=1))


def belongs(seen: HeightMap, members: Bool[np.ndarray, " bodies"]) -> Bool[np.ndarray, "n m"]:
    """Where a map shows one of some bodies."""
    return (seen.body >= 0) & members[seen.body]
