"""Geoms that are only to be seen while a joint is turned far enough: the disc on a stove."""

import xml.etree.ElementTree as ElementTree
from typing import Any

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


def add_lamps(tree: ElementTree.Element, env: Any) -> None:
    """Gives every such site a geom of the same look, and notes the joint position from which it is to be seen.

    A geom, because views draw geoms; without mass or contacts, so that physics is as it was.

    Args:
      tree: the MJCF, changed in place.
      env: the benchmark's `ControlEnv`.
    """
    sites = {site.get("name"): (body, site) for body in tree.iter("body") for site in body.findall("site")}
    for thing in env.env.fixtures_dict.values():
        ranges = thing.object_properties.get("articulation", {}).get("default_turnon_ranges")
        for name, _ in thing.object_properties["vis_site_names"].values() if ranges else ():
            body, site = sites[name]
            look = {key: site.get(key, "") for key in ("pos", "quat", "size", "type", "rgba") if site.get(key)}
            hollow = {"group": "1", "contype": "0", "conaffinity": "0", "mass": "0"}
            ElementTree.SubElement(body, "geom", {"name": f"{name}_lit", **look, **hollow})
            _note(tree, f"{name}_lit", thing.joints[0], min(ranges))


def _note(tree: ElementTree.Element, geom: str, joint: str, threshold: float) -> None:
    custom = tree.find("custom")
    if custom is None:
        custom = ElementTree.SubElement(tree, "custom")
    ElementTree.SubElement(custom, "numeric", name=f"{NUMERIC}:{geom}:{joint}", data=repr(float(threshold)))
