"""What lights up: the disc on a stove that is turned on, which the benchmark shows as a site.

Part of the builder (`rlgen.libero.build`): it reads objects of libero and robosuite but imports neither.
"""

import xml.etree.ElementTree as ElementTree
from typing import Any

from rlgen.libero.lamps import NUMERIC


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
