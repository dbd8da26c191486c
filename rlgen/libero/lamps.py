"""Geoms that are only to be seen while a joint is turned far enough: the disc on a stove."""

import mujoco
import numpy as np

# A number of the model with this name, a geom's and a joint's, is the joint position from which the geom is seen.
NUMERIC = "lit_from"
_AWAY = np.array([0.0, 0.0, -1000.0])


class Lamps:
    """The lamps of a model; without any, nothing happens."""

    def __init__(self, model: mujoco.MjModel):
        self._lamps: list[tuple[int, int, float]] = []
        for index in range(model.nnumeric):
            kind, _, rest = model.numeric(index).name.partition(":")
            if kind == NUMERIC:
                geom, _, joint = rest.partition(":")
                address = int(model.joint(joint).qposadr[0])
                self._lamps.append((model.geom(geom).id, address, float(model.numeric(index).data[0])))

    def put_out(self, data: mujoco.MjData) -> None:
        """Moves those that are off out of every picture; call after kinematics, before drawing."""
        for geom, address, threshold in self._lamps:
            if data.qpos[address] < threshold:
                data.geom_xpos[geom] = _AWAY
