"""Writes a stand-in as the MJCF that the benchmark's object classes read."""

from collections.abc import Sequence
from xml.etree import ElementTree

from rlgen.libero.placeholders.shapes import Box, Cylinder, Fixture, Paint, Part, Placeholder, Reach, Region

# Contact constants of every object of the benchmark: stiff, little slip, and much torsional friction.
CONTACT = {"solimp": "0.998 0.998 0.001", "solref": "0.001 1", "friction": "0.95 0.3 0.1"}


def numbers(values: Sequence[float]) -> str:
    """Numbers as MJCF wants them, to a tenth of a micrometre."""
    return " ".join(f"{value:.7g}" for value in values)


def to_text(root: ElementTree.Element) -> str:
    """An indented document, the same on every machine."""
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def object_xml(row: Placeholder) -> str:
    """One object: collision boxes in group 0, painted shapes in group 1, and the sites that placement reads.

    The benchmark takes the body named `object`, adds a free joint, and prefixes names with the instance's.
    """
    root, frame = _document(row.name, row.reach)
    body = ElementTree.SubElement(frame, "body", name="object")
    _regions(body, row.regions)
    _look(body, row.look)
    # The object's first colour, so that a view of the collision geometry alone still tells objects apart.
    color = numbers((*row.look[0].color, 1.0))
    total = sum(box.weight for box in row.solid)
    for box in row.solid:
        share = numbers([row.mass * box.weight / total])
        _geom(body, box, rgba=color, group="0", mass=share, **CONTACT)
    return to_text(root)


def fixture_xml(row: Fixture) -> str:
    """A fixture with its parts, which the benchmark fixes to the table."""
    root, frame = _document(row.name, row.reach)
    _part(frame, row.root)
    return to_text(root)


def _document(name: str, reach: Reach) -> tuple[ElementTree.Element, ElementTree.Element]:
    """An empty MJCF, and in it the frame that has the sites of placement."""
    root = ElementTree.Element("mujoco", model=name)
    # Not reflective: a mirror image of every flat face would double what is drawn.
    asset = ElementTree.SubElement(root, "asset")
    ElementTree.SubElement(asset, "material", name="plain", specular="0.2", shininess="0.2")
    frame = ElementTree.SubElement(ElementTree.SubElement(root, "worldbody"), "body")
    _site(frame, "bottom_site", (0.0, 0.0, reach.bottom), (0.005,))
    _site(frame, "top_site", (0.0, 0.0, reach.top), (0.005,))
    _site(frame, "horizontal_radius_site", (reach.radius, reach.radius, 0.0), (0.005,))
    return root, frame


def _part(parent: ElementTree.Element, part: Part) -> None:
    place = {"name": part.name, "pos": numbers(part.at)}
    if part.turn is not None:
        place["quat"] = numbers(part.turn.quaternion)
    body = ElementTree.SubElement(parent, "body", place)
    if part.joint is not None:
        joint = part.joint
        motion = {"name": joint.name, "type": joint.kind, "axis": numbers(joint.axis), "damping": str(joint.damping)}
        ElementTree.SubElement(body, "joint", motion, limited="true", range=numbers(joint.limits))
        if part.mass is None:
            # What the benchmark gives its drawers and its knob; it is what makes them so sluggish.
            ElementTree.SubElement(body, "inertial", pos="0 0 0", mass="3", diaginertia="1 1 1")
    _regions(body, part.regions)
    if part.glow is not None:
        lamp = {"type": "cylinder", "pos": numbers(part.glow.at), "rgba": numbers((*part.glow.color, 1.0))}
        size = numbers((part.glow.radius, part.glow.half_height))
        ElementTree.SubElement(body, "site", lamp, name=part.glow.name, size=size)
    _look(body, part.look)
    total = sum(box.weight for box in part.solid)
    for box in part.solid:
        share = {} if part.mass is None else {"mass": numbers([part.mass * box.weight / total])}
        color = numbers((*part.look[0].color, 1.0))
        _geom(body, box, rgba=color, group="0", **share, **part.contact)
    for child in part.parts:
        _part(body, child)


def _regions(body: ElementTree.Element, regions: Sequence[Region]) -> None:
    for region in regions:
        shape = {"type": "box", "quat": numbers(region.quaternion), "group": "0"}
        _site(body, region.name, region.at, region.half, **shape)


def _look(body: ElementTree.Element, look: Sequence[Paint]) -> None:
    for paint in look:
        painted = {"group": "1", "mass": "0", "contype": "0", "conaffinity": "0", "material": "plain"}
        _geom(body, paint.shape, rgba=numbers((*paint.color, 1.0)), **painted)


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
