"""Writes a stand-in as the MJCF that the benchmark's object classes read."""

from collections.abc import Sequence
from xml.etree import ElementTree

from rlgen.libero.standins.shapes import Box, Cylinder, StandIn

# Contact constants of every object of the benchmark: stiff, little slip, and much torsional friction.
CONTACT = {"solimp": "0.998 0.998 0.001", "solref": "0.001 1", "friction": "0.95 0.3 0.1"}


def numbers(values: Sequence[float]) -> str:
    """Numbers as MJCF wants them, to a tenth of a micrometre."""
    return " ".join(f"{value:.7g}" for value in values)


def to_text(root: ElementTree.Element) -> str:
    """An indented document, the same on every machine."""
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def object_xml(row: StandIn) -> str:
    """One object: collision boxes in group 0, painted shapes in group 1, and the sites that placement reads.

    The benchmark takes the body named `object`, adds a free joint, and prefixes names with the instance's.
    """
    root = ElementTree.Element("mujoco", model=row.name)
    # Not reflective: a mirror image of every flat face would double what is drawn.
    asset = ElementTree.SubElement(root, "asset")
    ElementTree.SubElement(asset, "material", name="plain", specular="0.2", shininess="0.2")
    frame = ElementTree.SubElement(ElementTree.SubElement(root, "worldbody"), "body")
    body = ElementTree.SubElement(frame, "body", name="object")
    for region in row.regions:
        shape = {"type": "box", "quat": numbers(region.quaternion), "group": "0"}
        _site(body, region.name, region.at, region.half, **shape)
    for part in row.look:
        painted = {"group": "1", "mass": "0", "contype": "0", "conaffinity": "0", "material": "plain"}
        _geom(body, part.shape, rgba=numbers((*part.colour, 1.0)), **painted)
    total = sum(box.weight for box in row.solid)
    for box in row.solid:
        # The object's first colour, so that a view of the collision geometry alone still tells objects apart.
        share = numbers([row.mass * box.weight / total])
        _geom(body, box, rgba=numbers((*row.look[0].colour, 1.0)), group="0", mass=share, **CONTACT)
    _site(frame, "bottom_site", (0.0, 0.0, row.reach.bottom), (0.005,))
    _site(frame, "top_site", (0.0, 0.0, row.reach.top), (0.005,))
    _site(frame, "horizontal_radius_site", (row.reach.radius, row.reach.radius, 0.0), (0.005,))
    return to_text(root)


def _geom(body: ElementTree.Element, shape: Box | Cylinder, **attributes: str) -> None:
    place = {"type": shape.kind, "size": numbers(shape.size), "pos": numbers(shape.at)}
    if shape.turn is not None:
        place["quat"] = numbers(shape.turn.quaternion)
    ElementTree.SubElement(body, "geom", place | attributes)


def _site(
    parent: ElementTree.Element, name: str, at: Sequence[float], size: Sequence[float], **attributes: str
) -> None:
    invisible = {"name": name, "pos": numbers(at), "size": numbers(size), "rgba": "0 0 0 0"}
    ElementTree.SubElement(parent, "site", invisible | attributes)
