"""Placeholders of arenas: a ground plane, walls, two lights, cameras, tables, and their textures."""

import io
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from rlgen.libero.placeholders.mjcf import CONTACT, format_numbers, to_text
from rlgen.libero.placeholders.shapes import Vector

# Textures of floors and walls in the benchmark's five arenas, and their mean colors.
FLOOR_TEXTURES = {
    "textures/light-gray-floor-tile.png": (195, 186, 177),
    "textures/gray_ceramic_tile.png": (186, 171, 155),
    "textures/seamless_wood_planks_floor.png": (221, 196, 140),
}
WALL_TEXTURES = {
    "textures/light-gray-plaster.png": (223, 219, 212),
    "textures/yellow_linen_wall_texture.png": (219, 214, 181),
}
Quaternion = tuple[float, float, float, float]


@dataclass(frozen=True)
class Camera:
    """A fixed camera; the benchmark moves `agentview` and `frontview` afterwards."""

    name: str
    at: Vector
    quaternion: Quaternion


@dataclass(frozen=True)
class Wall:
    """A thin box without collisions."""

    name: str
    at: Vector
    quaternion: Quaternion
    half: Vector


_HALF = 0.70710678
_DIAGONAL = (0.65328148, 0.27059805)
CAMERAS = (
    Camera("frontview", (1.0, 0.0, 1.45), (0.56, 0.43, 0.43, 0.56)),
    Camera("birdview", (-0.2, 0.0, 3.0), (_HALF, 0.0, 0.0, _HALF)),
    Camera("agentview", (0.5, 0.0, 1.35), (0.653, 0.271, 0.271, 0.653)),
    Camera("sideview", (-0.0565177, 1.2761224, 1.4879572), (0.0099051, 0.006878, 0.5912228, 0.8064181)),
)
WALLS = (
    Wall("leftcorner", (-1.25, 2.25, 1.5), (*(_DIAGONAL[:1] * 2), *(_DIAGONAL[1:] * 2)), (1.06, 1.5, 0.01)),
    Wall(
        "rightcorner",
        (-1.25, -2.25, 1.5),
        (_DIAGONAL[0], _DIAGONAL[0], -_DIAGONAL[1], -_DIAGONAL[1]),
        (1.06, 1.5, 0.01),
    ),
    Wall("left", (1.25, 3.0, 1.5), (_HALF, _HALF, 0.0, 0.0), (1.75, 1.5, 0.01)),
    Wall("right", (1.25, -3.0, 1.5), (_HALF, -_HALF, 0.0, 0.0), (1.75, 1.5, 0.01)),
    Wall("rear", (-2.0, 0.0, 1.5), (0.5, 0.5, 0.5, 0.5), (1.5, 1.5, 0.01)),
    Wall("front", (3.0, 0.0, 1.5), (0.5, 0.5, -0.5, -0.5), (3.0, 1.5, 0.01)),
)
LIGHTS: tuple[Vector, ...] = ((1.0, 1.0, 4.0), (-3.0, -3.0, 4.0))
# The kitchen is square.
KITCHEN_WALLS = (
    Wall("left", (0.5, 3.0, 1.5), (_HALF, _HALF, 0.0, 0.0), (2.5, 1.5, 0.01)),
    Wall("right", (0.5, -3.0, 1.5), (_HALF, -_HALF, 0.0, 0.0), (2.5, 1.5, 0.01)),
    Wall("rear", (-2.0, 0.0, 1.5), (0.5, 0.5, 0.5, 0.5), (3.0, 1.5, 0.01)),
    Wall("front", (3.0, 0.0, 1.5), (0.5, 0.5, -0.5, -0.5), (3.0, 1.5, 0.01)),
)
TEXTURE_SIZE = 64  # pixels
WOOD = (0.77, 0.71, 0.63)
DARK_WOOD = (0.27, 0.19, 0.15)


def arena_files() -> dict[str, str]:
    """Returns the five arenas as MJCF, by their names in the asset tree."""
    return {
        "scenes/libero_floor_base_style.xml": _floor(),
        "scenes/libero_tabletop_base_style.xml": _bench(WALLS, None),
        "scenes/libero_kitchen_tabletop_base_style.xml": _bench(KITCHEN_WALLS, KITCHEN_LIGHT),
        "scenes/libero_living_room_tabletop_base_style.xml": _living_room(),
        "scenes/libero_study_base_style.xml": _study(),
    }


def _floor() -> str:
    """Makes the arena of tasks on the floor, which is a body here."""
    root, world = _room(floor_body=True)
    _surroundings(world, WALLS)
    return to_text(root)


def _bench(walls: tuple[Wall, ...], light: dict[str, str] | None) -> str:
    """Makes an arena with a table, whose size and position the benchmark sets: only names and types matter here."""
    root, world = _room(floor_body=False)
    if light is not None:
        ElementTree.SubElement(world, "light", light)
    table = ElementTree.SubElement(world, "body", name="table", pos="0 0 0.4")
    top = {"type": "box", "pos": "0 0 0", "size": "0.4 0.4 0.4", "rgba": format_numbers((*WOOD, 1.0))}
    ElementTree.SubElement(table, "geom", top, name="table_collision", group="0", friction="1 0.005 0.0001")
    ElementTree.SubElement(table, "geom", top, name="table_visual", **VISUAL_ONLY)
    ElementTree.SubElement(table, "site", name="table_top", pos="0 0 0.4", size="0.001 0.001 0.001", rgba="0 0 0 0")
    for index in range(1, 5):
        leg = {"type": "cylinder", "pos": "0 0 0", "size": "0.05 0.1", "rgba": format_numbers((*WOOD, 1.0))}
        ElementTree.SubElement(table, "geom", leg, name=f"table_leg{index}_visual", **VISUAL_ONLY)
    _surroundings(world, walls)
    return to_text(root)


def _living_room() -> str:
    """Makes an arena with a long low table on a block."""
    root, world = _room(floor_body=True)
    table = ElementTree.SubElement(world, "body", name="living_room_table")
    frame = ElementTree.SubElement(table, "body", name="living_room_table_col", pos="-0.25 0.25 0", quat=QUARTER)
    _slab(frame, (0.8620, 0.5814, 0.0118), (-0.2110, -0.0073, 0.4249))
    _slab(frame, (0.4352, 0.4116, 0.2088), (0.0, 0.0, 0.2041))
    _surroundings(world, WALLS)
    return to_text(root)


def _study() -> str:
    """Makes an arena with a desk, whose legs are out of reach and visual only."""
    root, world = _room(floor_body=False)
    desk = ElementTree.SubElement(world, "body", name="study_table")
    _slab(desk, (0.6895, 1.3927, 0.0358), (0.0, 0.0, 0.8493))
    for x in (-0.5, 0.5):
        for y in (-0.7, 0.71):
            leg = {"type": "box", "pos": format_numbers((x, y, 0.407)), "size": "0.02 0.05 0.406"}
            ElementTree.SubElement(desk, "geom", leg | VISUAL_ONLY, rgba=format_numbers((*DARK_WOOD, 1.0)))
    _surroundings(world, WALLS)
    return to_text(root)


# Rotates the table's own axes towards +x, as in the benchmark's living room.
QUARTER = "0.707 0 0 0.707"
VISUAL_ONLY = {"group": "1", "contype": "0", "conaffinity": "0"}
KITCHEN_LIGHT = {
    "name": "light_kitchen",
    "pos": "-1.75 0 1.6",
    "dir": "0 0 -1",
    "directional": "true",
    "diffuse": ".8 .8 .8",
    "specular": "0.8 0.8 0.8",
    "castshadow": "false",
}


def _slab(body: ElementTree.Element, half: Vector, at: Vector) -> None:
    """Adds a box that collides and is visible."""
    shape = {
        "type": "box",
        "pos": format_numbers(at),
        "size": format_numbers(half),
        "rgba": format_numbers((*DARK_WOOD, 1.0)),
    }
    ElementTree.SubElement(body, "geom", shape, group="0", density="100", **CONTACT)
    ElementTree.SubElement(body, "geom", shape | VISUAL_ONLY)


def _room(floor_body: bool) -> tuple[ElementTree.Element, ElementTree.Element]:
    """Makes a room with a ground and nothing else; some of the benchmark's problems look for a body `floor`."""
    root = ElementTree.Element("mujoco", model="arena")
    _assets(ElementTree.SubElement(root, "asset"))
    world = ElementTree.SubElement(root, "worldbody")
    under = ElementTree.SubElement(world, "body", name="floor", pos="0 0 0") if floor_body else world
    ground = {"name": "floor", "type": "plane", "pos": "0 0 0", "size": "3 3 .125"}
    ElementTree.SubElement(under, "geom", ground, group="1", condim="3", material="floorplane")
    return root, world


def _surroundings(world: ElementTree.Element, walls: tuple[Wall, ...]) -> None:
    for wall in walls:
        pose = {
            "pos": format_numbers(wall.at),
            "quat": format_numbers(wall.quaternion),
            "size": format_numbers(wall.half),
        }
        visual = {"name": f"wall_{wall.name}_visual", "type": "box", "material": "walls_mat"}
        ElementTree.SubElement(world, "geom", visual | pose | VISUAL_ONLY)
    for index, at in enumerate(LIGHTS, start=1):
        shine = {"diffuse": ".8 .8 .8", "specular": "0.3 0.3 0.3", "castshadow": "false"}
        pose = {"name": f"light{index}", "pos": format_numbers(at), "dir": "0 -.15 -1"}
        ElementTree.SubElement(world, "light", pose | shine)
    for camera in CAMERAS:
        pose = {"name": camera.name, "pos": format_numbers(camera.at), "quat": format_numbers(camera.quaternion)}
        ElementTree.SubElement(world, "camera", pose, mode="fixed")


def _assets(asset: ElementTree.Element) -> None:
    """Adds the sky, and the two textures whose files the benchmark replaces by those of its arena style."""
    sky = {"type": "skybox", "builtin": "gradient", "width": "64", "height": "64"}
    ElementTree.SubElement(asset, "texture", sky, rgb1=".9 .9 1", rgb2=".2 .3 .4")
    for name, file, material in (
        ("texplane", next(iter(FLOOR_TEXTURES)), "floorplane"),
        ("tex-wall", next(iter(WALL_TEXTURES)), "walls_mat"),
    ):
        ElementTree.SubElement(asset, "texture", name=name, type="2d", file=f"../{file}")
        matt = {"reflectance": "0", "shininess": "0.05", "specular": "0.1"}
        ElementTree.SubElement(asset, "material", matt, name=material, texture=name, texrepeat="3 3", texuniform="true")


def texture_files() -> dict[str, bytes]:
    """Returns the textures as PNG bytes, by their names in the asset tree."""
    floors = {name: _png(floor_pixels(color)) for name, color in FLOOR_TEXTURES.items()}
    walls = {name: _png(np.broadcast_to(np.array(color, np.uint8), (8, 8, 3))) for name, color in WALL_TEXTURES.items()}
    return floors | walls


def floor_pixels(color: tuple[int, int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Generates four rows of planks, each shifted against the next and of another shade, with light joints."""
    image = np.empty((TEXTURE_SIZE, TEXTURE_SIZE, 3), np.uint8)
    joint_color = np.minimum(np.array(color) + 34, 255)
    height = TEXTURE_SIZE // 4
    for course, (joint, shade) in enumerate(zip((60, 15, 31, 47), (2, -7, 4, -3), strict=True)):
        rows = slice(course * height, (course + 1) * height)
        image[rows] = np.array(color) + shade
        image[course * height] = joint_color
        image[rows, joint] = joint_color
    return image


def _png(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    # Stored, not deflated: compressed bytes differ between builds of zlib, and the tree is identified by its contents.
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", compress_level=0)
    return buffer.getvalue()
