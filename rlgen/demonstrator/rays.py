"""A grid of parallel rays in one compiled loop: MuJoCo's own `mj_ray`, without the interpreter between two of them."""

import numpy as np
from numba import njit, types
from numba.core.typing.templates import Signature

# Model, data, point, direction, groups, static geoms too, body left out, geom that was hit, normal there.
_RAY = Signature(types.float64, (types.uintp,) * 5 + (types.int32, types.int32) + (types.uintp,) * 2, recvr=None)
_mj_ray = types.ExternalFunction("mj_ray", _RAY)


@njit(nogil=True, cache=True)
def cast_grid(model, data, corner, first, second, along, distance, geom):
    """Casts `distance.shape` rays; `rlgen.libero.kernel.link_mujoco` must have been called.

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
