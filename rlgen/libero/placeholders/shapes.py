"""Building blocks of placeholder assets: shapes, parts, objects, and shapes composed of boxes.

Lengths in metres, masses in kilograms, angles in degrees.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Vector = tuple[float, float, float]
Color = tuple[float, float, float]


@dataclass(frozen=True)
class Turn:
    """A rotation about one coordinate axis."""

    axis: Literal["x", "y", "z"]
    degrees: float

    @property
    def quaternion(self) -> tuple[float, float, float, float]:
        """Returns the rotation as `(w, x, y, z)`."""
        half = math.radians(self.degrees) / 2
        x, y, z = (math.sin(half) if axis == self.axis else 0.0 for axis in "xyz")
        return math.cos(half), x, y, z


@dataclass(frozen=True)
class Lean:
    """The rotation of a wall of a round object: leaning outwards from z by `tilt`, on the side at `azimuth`."""

    azimuth: float
    tilt: float

    @property
    def quaternion(self) -> tuple[float, float, float, float]:
        """Returns the rotation about y by the tilt, then about z by the azimuth, as `(w, x, y, z)`."""
        a, t = math.radians(self.azimuth) / 2, math.radians(self.tilt) / 2
        return (
            math.cos(a) * math.cos(t),
            -math.sin(a) * math.sin(t),
            math.cos(a) * math.sin(t),
            math.sin(a) * math.cos(t),
        )


@dataclass(frozen=True)
class Box:
    """A box.

    Attributes:
      half: half sizes.
      at: center in the object's frame.
      turn: rotation in the object's frame.
      density: relative to the other boxes of the object, to put the center of mass in the right position.
    """

    half: Vector
    at: Vector = (0.0, 0.0, 0.0)
    turn: Turn | Lean | None = None
    density: float = 1.0

    kind = "box"

    @property
    def size(self) -> tuple[float, ...]:
        """Half extents."""
        return self.half

    @property
    def weight(self) -> float:
        """Returns volume times relative density."""
        return 8 * math.prod(self.half) * self.density


@dataclass(frozen=True)
class Cylinder:
    """A cylinder about its own z, for visual shapes only: it makes too few contacts to be gripped well."""

    radius: float
    half_height: float
    at: Vector = (0.0, 0.0, 0.0)
    turn: Turn | None = None

    kind = "cylinder"

    @property
    def size(self) -> tuple[float, ...]:
        """Radius and half height."""
        return self.radius, self.half_height


@dataclass(frozen=True)
class VisualShape:
    """A colored shape without collisions."""

    shape: Box | Cylinder
    color: Color


@dataclass(frozen=True)
class Region:
    """A box-shaped site that goals refer to; `quaternion` `(w, x, y, z)` is the benchmark's own."""

    name: str
    half: Vector
    at: Vector
    quaternion: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class BurnerLight:
    """The flat cylinder that the benchmark shows while a stove is on."""

    name: str
    radius: float
    half_height: float
    at: Vector
    color: Color


@dataclass(frozen=True)
class Joint:
    """The joint between a part and its parent.

    Attributes:
      name: the benchmark's name.
      kind: `slide` for drawers, `hinge` for doors and knobs.
      axis: of the motion, through the part's origin.
      limits: metres or radians.
      damping: N s/m or N m s/rad.
    """

    name: str
    kind: Literal["slide", "hinge"]
    axis: Vector
    limits: tuple[float, float]
    damping: float


@dataclass(frozen=True)
class Part:
    """A body of a fixture.

    Attributes:
      name: the benchmark's name; that of the root is `object`.
      collision: boxes that collide.
      visuals: visible shapes.
      mass: of the boxes together, distributed by weight; None where the benchmark gives the inertia itself.
      contact: attributes of the collision boxes.
      regions: sites that goals refer to.
      burner_light: the light of a stove.
      at: origin in the frame of the parent.
      turn: rotation in the frame of the parent.
      joint: to the parent; None for a fixed part.
      parts: children, in the benchmark's order, which is the order of the joints.
    """

    name: str
    collision: Sequence[Box] = ()
    visuals: Sequence[VisualShape] = ()
    mass: float | None = None
    contact: Mapping[str, str] = field(default_factory=dict)
    regions: Sequence[Region] = ()
    burner_light: BurnerLight | None = None
    at: Vector = (0.0, 0.0, 0.0)
    turn: Turn | None = None
    joint: Joint | None = None
    parts: Sequence["Part"] = ()


@dataclass(frozen=True)
class PlacementExtent:
    """The extent of an object from its origin, as the benchmark's placement reads it from sites.

    Attributes:
      bottom: height of its `bottom_site`.
      top: height of its `top_site`.
      radius: its `horizontal_radius`, which keeps objects apart.
    """

    bottom: float = -0.06
    top: float = 0.04
    radius: float = 0.025


@dataclass(frozen=True)
class Placeholder:
    """A rigid object.

    Attributes:
      name: the benchmark's category.
      family: folder of the asset tree that the benchmark reads the category from.
      mass: of the whole object, that of the benchmark's.
      collision: boxes that collide; the mass is distributed among them by weight.
      visuals: visible shapes; the first one's color is unique among objects and also that of the collision boxes.
      regions: sites that goals refer to.
      extent: for the benchmark's placement; not necessarily close to the object's outline.
    """

    name: str
    family: str
    mass: float
    collision: Sequence[Box]
    visuals: Sequence[VisualShape]
    regions: Sequence[Region] = ()
    extent: PlacementExtent = PlacementExtent()

    @property
    def file(self) -> str:
        """Returns the path at which the benchmark looks for it, relative to the asset tree."""
        return f"{self.family}/{self.name}/{self.name}.xml"


@dataclass(frozen=True)
class Fixture:
    """A fixture with moving parts: a cabinet, a stove, a microwave.

    Attributes:
      name: the benchmark's category.
      root: its tree of parts.
      extent: for the benchmark's placement.
    """

    name: str
    root: Part
    extent: PlacementExtent

    @property
    def file(self) -> str:
        """Returns the path at which the benchmark looks for it, relative to the asset tree."""
        return f"articulated_objects/{self.name}.xml"


# Degrees by which the walls of a ring are off the eighths of a circle. Objects are placed square to each other, and
# for a leaning box with an edge parallel to that of another box MuJoCo 3.8 reports contacts decimetres deep.
SKEWS = (1.0, -2.0, 3.0, -1.0, 2.5, -3.0, 0.5, -0.5)


def colored(boxes: Sequence[Box], color: Color) -> tuple[VisualShape, ...]:
    """Returns visual shapes of boxes, in one color."""
    return tuple(VisualShape(box, color) for box in boxes)


def octagonal_prism(apothem: float, half_height: float, at: Vector) -> tuple[Box, ...]:
    """Makes an upright prism about y: four crossed slabs whose union is a regular octagon.

    The two diagonal slabs are a little shorter: a standing can rests on eight corners, not sixteen.

    Args:
      apothem: distance of the sides from the axis.
      half_height: half the height.
      at: center.
    """
    side = apothem * math.tan(math.radians(22.5))
    recess = 0.0003
    return tuple(
        Box((apothem, half_height - (recess if degrees % 90 else 0.0), side), at, Turn("y", degrees))
        for degrees in (0.0, 45.0, 90.0, 135.0)
    )


def disc(radius: float, half_height: float, at: Vector, density: float = 1.0) -> tuple[Box, ...]:
    """Makes a flat and nearly round shape: two crossed bars about z, five eighths as wide as they are long.

    Args:
      radius: half the length of the bars.
      half_height: half the height.
      at: center.
      density: relative to the other boxes of the object.
    """
    width = 0.625 * radius
    halves = ((radius, width, half_height), (width, radius, half_height))
    return tuple(Box(half, at, density=density) for half in halves)


def ring(
    bottom: tuple[float, float], top: tuple[float, float], thickness: float, center: tuple[float, float] = (0.0, 0.0)
) -> tuple[Box, ...]:
    """Makes eight flat walls about z, leaning outwards or inwards.

    Args:
      bottom: apothem of the outer side and height there.
      top: the same at the upper edge.
      thickness: of the walls.
      center: x and y of the axis.
    """
    run, rise = top[0] - bottom[0], top[1] - bottom[1]
    tilt = math.atan2(run, rise)
    radius = (bottom[0] + top[0]) / 2 - thickness / 2 * math.cos(tilt)
    height = (bottom[1] + top[1]) / 2 + thickness / 2 * math.sin(tilt)
    half = (thickness / 2, max(bottom[0], top[0]) * math.tan(math.radians(22.5)), math.hypot(run, rise) / 2)
    walls = []
    for azimuth in (45.0 * index + skew for index, skew in enumerate(SKEWS)):
        x, y = (radius * turn(math.radians(azimuth)) for turn in (math.cos, math.sin))
        walls.append(Box(half, (center[0] + x, center[1] + y, height), Lean(azimuth, math.degrees(tilt))))
    return tuple(walls)
