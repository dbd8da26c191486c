"""Building blocks of placeholder assets. Lengths in metres, masses in kilograms, angles in degrees."""

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
