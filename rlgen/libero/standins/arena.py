"""The floor arena: a ground plane, six walls, two lights and the benchmark's cameras."""

from dataclasses import dataclass
from xml.etree import ElementTree

from rlgen.libero.standins.mjcf import numbers, to_text
from rlgen.libero.standins.shapes import Vector

FLOOR_FILE = "scenes/libero_floor_base_style.xml"
FLOOR_TEXTURE = "textures/light-gray-floor-tile.png"
WALL_TEXTURE = "textures/light-gray-plaster.png"

Quaternion = tuple[float, float, float, float]


@dataclass(frozen=True)
class Camera:
    """A fixed camera; the benchmark moves `agentview` and `frontview` afterwards."""

    name: str
    at: Vector
    quaternion: Quaternion


@dataclass(frozen=True)
class Wall:
    """A thin box that is seen but not felt."""

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


def floor_arena_xml() -> str:
    """The arena as `EmptyArena` reads it: a body `floor`, textures `texplane` and `tex-wall`."""
    root = ElementTree.Element("mujoco", model="floor_arena")
    _assets(ElementTree.SubElement(root, "asset"))
    world = ElementTree.SubElement(root, "worldbody")
    floor = ElementTree.SubElement(world, "body", name="floor", pos="0 0 0")
    ground = {"name": "floor", "type": "plane", "pos": "0 0 0", "size": "3 3 .125"}
    ElementTree.SubElement(floor, "geom", ground, group="1", condim="3", material="floorplane")
    for wall in WALLS:
        place = {"pos": numbers(wall.at), "quat": numbers(wall.quaternion), "size": numbers(wall.half)}
        seen = {"name": f"wall_{wall.name}_visual", "type": "box", "group": "1", "material": "walls_mat"}
        ElementTree.SubElement(world, "geom", seen | place, contype="0", conaffinity="0")
    for index, at in enumerate(LIGHTS, start=1):
        shine = {"diffuse": ".8 .8 .8", "specular": "0.3 0.3 0.3", "castshadow": "false"}
        place = {"name": f"light{index}", "pos": numbers(at), "dir": "0 -.15 -1"}
        ElementTree.SubElement(world, "light", place | shine)
    for camera in CAMERAS:
        place = {"name": camera.name, "pos": numbers(camera.at), "quat": numbers(camera.quaternion)}
        ElementTree.SubElement(world, "camera", place, mode="fixed")
    return to_text(root)


def _assets(asset: ElementTree.Element) -> None:
    """Sky, and the two textures whose file names the benchmark replaces by those of its arena style."""
    sky = {"type": "skybox", "builtin": "gradient", "width": "64", "height": "64"}
    ElementTree.SubElement(asset, "texture", sky, rgb1=".9 .9 1", rgb2=".2 .3 .4")
    for name, file, material in (
        ("texplane", FLOOR_TEXTURE, "floorplane"),
        ("tex-wall", WALL_TEXTURE, "walls_mat"),
    ):
        ElementTree.SubElement(asset, "texture", name=name, type="2d", file=f"../{file}")
        matt = {"reflectance": "0", "shininess": "0.05", "specular": "0.1"}
        ElementTree.SubElement(asset, "material", matt, name=material, texture=name, texrepeat="3 3", texuniform="true")
