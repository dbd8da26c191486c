"""What a stand-in is made of. Lengths in metres, masses in kilograms, angles in degrees."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Vector = tuple[float, float, float]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Turn:
    """A rotation about one coordinate axis."""

    axis: Literal["x", "y", "z"]
    degrees: float

    @property
    def quaternion(self) -> tuple[float, float, float, float]:
        """The same rotation as `(w, x, y, z)`."""
        half = math.radians(self.degrees) / 2
        x, y, z = (math.sin(half) if axis == self.axis else 0.0 for axis in "xyz")
        return math.cos(half), x, y, z


@dataclass(frozen=True)
class Box:
    """A box given by half its edges, its centre in the object's frame, and at most one turn.

    `density` is relative to the other boxes of the object; it puts the centre of mass where it belongs.
    """

    half: Vector
    at: Vector = (0.0, 0.0, 0.0)
    turn: Turn | None = None
    density: float = 1.0

    kind = "box"

    @property
    def size(self) -> tuple[float, ...]:
        return self.half

    @property
    def weight(self) -> float:
        """Volume times relative density."""
        return 8 * math.prod(self.half) * self.density


@dataclass(frozen=True)
class Cylinder:
    """A cylinder about its own z, to be looked at only: it makes too few contacts to be gripped well."""

    radius: float
    half_height: float
    at: Vector = (0.0, 0.0, 0.0)
    turn: Turn | None = None

    kind = "cylinder"

    @property
    def size(self) -> tuple[float, ...]:
        return self.radius, self.half_height


@dataclass(frozen=True)
class Paint:
    """A shape that is seen but not felt."""

    shape: Box | Cylinder
    colour: Colour


@dataclass(frozen=True)
class Region:
    """A box-shaped site that a goal can refer to; `quaternion` is the benchmark's own, `(w, x, y, z)`."""

    name: str
    half: Vector
    at: Vector
    quaternion: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Reach:
    """How far an object reaches from its origin, as the benchmark's placement takes it to.

    Attributes:
      bottom: height of its `bottom_site`.
      top: height of its `top_site`.
      radius: its `horizontal_radius`, which keeps placed objects apart.
    """

    bottom: float = -0.06
    top: float = 0.04
    radius: float = 0.025


@dataclass(frozen=True)
class StandIn:
    """One movable object.

    Attributes:
      name: the benchmark's category.
      family: folder of the asset tree that the benchmark reads the category from.
      mass: of the whole object, as the real one has it.
      solid: what collides; the mass is shared among the boxes by weight.
      look: what is seen; the first colour is like no other object's, and collision boxes have it, too.
      regions: sites that goals refer to.
      reach: what placement goes by; it is not the object's outline, nor need it be near it.
    """

    name: str
    family: str
    mass: float
    solid: Sequence[Box]
    look: Sequence[Paint]
    regions: Sequence[Region] = ()
    reach: Reach = Reach()

    @property
    def file(self) -> str:
        """Where the benchmark looks for it, relative to the asset tree."""
        return f"{self.family}/{self.name}/{self.name}.xml"


def paint(boxes: Sequence[Box], colour: Colour) -> tuple[Paint, ...]:
    """Shows boxes as they are, in one colour."""
    return tuple(Paint(box, colour) for box in boxes)


def octagonal_prism(apothem: float, half_height: float, at: Vector) -> tuple[Box, ...]:
    """An upright prism about y: four crossed slabs whose union is a regular octagon.

    The two diagonal slabs are a little shorter: a standing can rests on eight corners, not sixteen.
    """
    side = apothem * math.tan(math.radians(22.5))
    recess = 0.0003
    return tuple(
        Box((apothem, half_height - (recess if degrees % 90 else 0.0), side), at, Turn("y", degrees))
        for degrees in (0.0, 45.0, 90.0, 135.0)
    )
