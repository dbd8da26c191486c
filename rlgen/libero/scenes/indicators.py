"""Indicators: geoms that are visible only while a joint is turned far enough, as the red disc on a stove that is on.

The benchmark shows them as sites, which its renderer hides and shows. In a scene bundle they are geoms, since renderers
render geoms; without mass and contacts, so that the physics stay the same.
"""

import xml.etree.ElementTree as ElementTree
from typing import Any

import mujoco
import numpy as np

# A number of the model with the name `lit_from:<geom>:<joint>` is the joint position from which the geom is visible.
NUMERIC = "lit_from"
OUT_OF_VIEW = np.array([0.0, 0.0, -1000.0])


def read_indicators(model: mujoco.MjModel) -> tuple[tuple[int, int, float], ...]:
    """Returns geom, address of its joint in qpos, and joint position from which it is visible, of each indicator."""
    found = []
    for index in range(model.nnumeric):
        kind, _, rest = model.numeric(index).name.partition(":")
        if kind == NUMERIC:
            geom, _, joint = rest.partition(":")
            address = int(model.joint(joint).qposadr[0])
            found.append((model.geom(geom).id, address, float(model.numeric(index).data[0])))
    return tuple(found)


class Indicators:
    """The indicators of a model, which may have none."""

    def __init__(self, model: mujoco.MjModel):
        self._indicators = read_indicators(model)

    def hide_unlit(self, data: mujoco.MjData) -> None:
        """Moves the indicators that are off out of view; must be called after kinematics and before rendering."""
        for geom, address, threshold in self._indicators:
            if data.qpos[address] < threshold:
                data.geom_xpos[geom] = OUT_OF_VIEW


def add_indicators(tree: ElementTree.Element, env: Any) -> None:
    """Adds a geom of the same appearance for each such site, and the joint position from which it is visible.

    Args:
      tree: the MJCF, changed in place.
      env: the benchmark's `ControlEnv`.
    """
    sites = {site.get("name"): (body, site) for body in tree.iter("body") for site in body.findall("site")}
    for fixture in env.env.fixtures_dict.values():
        ranges = fixture.object_properties.get("articulation", {}).get("default_turnon_ranges")
        for name, _ in fixture.object_properties["vis_site_names"].values() if ranges else ():
            body, site = sites[name]
            appearance = {key: site.get(key, "") for key in ("pos", "quat", "size", "type", "rgba") if site.get(key)}
            visual_only = {"group": "1", "contype": "0", "conaffinity": "0", "mass": "0"}
            ElementTree.SubElement(body, "geom", {"name": f"{name}_lit", **appearance, **visual_only})
            _add_numeric(tree, f"{name}_lit", fixture.joints[0], min(ranges))


def _add_numeric(tree: ElementTree.Element, geom: str, joint: str, threshold: float) -> None:
    custom = tree.find("custom")
    if custom is None:
        custom = ElementTree.SubElement(tree, "custom")
    ElementTree.SubElement(custom, "numeric", name=f"{NUMERIC}:{geom}:{joint}", data=repr(float(threshold)))
