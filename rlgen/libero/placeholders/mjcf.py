"""MJCF of placeholder assets, in the form that the benchmark's object classes read."""

from collections.abc import Sequence
from xml.etree import ElementTree

from rlgen.libero.placeholders.shapes import (
    Box,
    Cylinder,
    Fixture,
    Part,
    Placeholder,
    PlacementExtent,
    Region,
    VisualShape,
)

# Contact parameters of every object of the benchmark: stiff, with little slip and much torsional friction.
CONTACT = {"solimp": "0.998 0.998 0.001", "solref": "0.001 1", "friction": "0.95 0.3 0.1"}


def format_numbers(values: Sequence[float]) -> str:
    """Formats numbers for an attribute of MJCF, with seven significant digits."""
    return " ".join(f"{value:.7g}" for value in values)


def to_text(root: ElementTree.Element) -> str:
    """Returns the document as indented text, the same on every machine."""
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def object_xml(placeholder: Placeholder) -> str:
    """Returns the MJCF of an object: collision boxes in group 0, visual shapes in group 1, and placement sites.

    The benchmark takes the body named `object`, adds a free joint, and prefixes names with that of the instance.
    """
    root, frame = _document(placeholder.name, placeholder.extent)
    body = ElementTree.SubElement(frame, "body", name="object")
    _add_regions(body, placeholder.regions)
    _add_visuals(body, placeholder.visuals)
    # In the object's first color, objects can be distinguished even where only collision geoms are rendered.
    color = format_numbers((*placeholder.visuals[0].color, 1.0))
    total = sum(box.weight for box in placeholder.collision)
    for box in placeholder.collision:
        mass = format_numbers([placeholder.mass * box.weight / total])
        _add_geom(body, box, rgba=color, group="0", mass=mass, **CONTACT)
    return to_text(root)


def fixture_xml(fixture: Fixture) -> str:
    """Returns the MJCF of a fixture with its parts, which the benchmark fixes to the table."""
    root, frame = _document(fixture.name, fixture.extent)
    _add_part(frame, fixture.root)
    return to_text(root)


def _document(name: str, extent: PlacementExtent) -> tuple[ElementTree.Element, ElementTree.Element]:
    """Returns an empty MJCF, and in it the body with the sites that the benchmark's placement reads."""
    root = ElementTree.Element("mujoco", model=name)
    # Not reflective: every flat face would show a mirror image.
    asset = ElementTree.SubElement(root, "asset")
    ElementTree.SubElement(asset, "material", name="plain", specular="0.2", shininess="0.2")
    frame = ElementTree.SubElement(ElementTree.SubElement(root, "worldbody"), "body")
    _add_site(frame, "bottom_site", (0.0, 0.0, extent.bottom), (0.005,))
    _add_site(frame, "top_site", (0.0, 0.0, extent.top), (0.005,))
    _add_site(frame, "horizontal_radius_site", (extent.radius, extent.radius, 0.0), (0.005,))
    return root, frame


def _add_part(parent: ElementTree.Element, part: Part) -> None:
    pose = {"name": part.name, "pos": format_numbers(part.at)}
    if part.turn is not None:
        pose["quat"] = format_numbers(part.turn.quaternion)
    body = ElementTree.SubElement(parent, "body", pose)
    if part.joint is not None:
        joint = part.joint
        motion = {
            "name": joint.name,
            "type": joint.kind,
            "axis": format_numbers(joint.axis),
            "damping": str(joint.damping),
        }
        ElementTree.SubElement(body, "joint", motion, limited="true", range=format_numbers(joint.limits))
        if part.mass is None:
            # The inertia of the benchmark's drawers and knob, which makes them sluggish.
            ElementTree.SubElement(body, "inertial", pos="0 0 0", mass="3", diaginertia="1 1 1")
    _add_regions(body, part.regions)
    if part.burner_light is not None:
        light = part.burner_light
        shape = {"type": "cylinder", "pos": format_numbers(light.at), "rgba": format_numbers((*light.color, 1.0))}
        size = format_numbers((light.radius, light.half_height))
        ElementTree.SubElement(body, "site", shape, name=light.name, size=size)
    _add_visuals(body, part.visuals)
    total = sum(box.weight for box in part.collision)
    for box in part.collision:
        mass = {} if part.mass is None else {"mass": format_numbers([part.mass * box.weight / total])}
        color = format_numbers((*part.visuals[0].color, 1.0))
        _add_geom(body, box, rgba=color, group="0", **mass, **part.contact)
    for child in part.parts:
        _add_part(body, child)


def _add_regions(body: ElementTree.Element, regions: Sequence[Region]) -> None:
    for region in regions:
        shape = {"type": "box", "quat": format_numbers(region.quaternion), "group": "0"}
        _add_site(body, region.name, region.at, region.half, **shape)


def _add_visuals(body: ElementTree.Element, visuals: Sequence[VisualShape]) -> None:
    for visual in visuals:
        attributes = {"group": "1", "mass": "0", "contype": "0", "conaffinity": "0", "material": "plain"}
        _add_geom(body, visual.shape, rgba=format_numbers((*visual.color, 1.0)), **attributes)


def _add_geom(body: ElementTree.Element, shape: Box | Cylinder, **attributes: str) -> None:
    fixed = {"type": shape.kind, "size": format_numbers(shape.size), "pos": format_numbers(shape.at)}
    if shape.turn is not None:
        fixed["quat"] = format_numbers(shape.turn.quaternion)
    ElementTree.SubElement(body, "geom", fixed | attributes)


def _add_site(
    parent: ElementTree.Element, name: str, at: Sequence[float], size: Sequence[float], **attributes: str
) -> None:
    invisible = {"name": name, "pos": format_numbers(at), "size": format_numbers(size), "rgba": "0 0 0 0"}
    ElementTree.SubElement(parent, "site", invisible | attributes)
