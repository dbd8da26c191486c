"""What a stand-in is made of. Lengths in metres, masses in kilograms, angles in degrees."""

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
        """The same rotation as `(w, x, y, z)`."""
        half = math.radians(self.degrees) / 2
        x, y, z = (math.sin(half) if axis == self.axis else 0.0 for axis in "xyz")
        return math.cos(half), x, y, z


@dataclass(frozen=True)
class Lean:
    """A slab that leans outwards, away from z by `tilt`, on the side of a round thing that `azimuth` tells."""

    azimuth: float
    tilt: float

    @property
    def quaternion(self) -> tuple[float, float, float, float]:
        """About y by the tilt, then about z by the azimuth, as `(w, x, y, z)`."""
        a, t = math.radians(self.azimuth) / 2, math.radians(self.tilt) / 2
        return (
            math.cos(a) * math.cos(t),
            -math.sin(a) * math.sin(t),
            math.cos(a) * math.sin(t),
            math.sin(a) * math.cos(t),
        )


@dataclass(frozen=True)
class Box:
    """A box given by half its edges, its centre in the object's frame, and how it is turned.

    `density` is relative to the other boxes of the object; it puts the centre of mass where it belongs.
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
    color: Color


@dataclass(frozen=True)
class Region:
    """A box-shaped site that a goal can refer to; `quaternion` is the benchmark's own, `(w, x, y, z)`."""

    name: str
    half: Vector
    at: Vector
    quaternion: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Glow:
    """A flat cylinder that the benchmark shows while its stove is on."""

    name: str
    radius: float
    half_height: float
    at: Vector
    color: Color


@dataclass(frozen=True)
class Joint:
    """How a part moves against the part that it belongs to.

    Attributes:
      name: the benchmark's.
      kind: a drawer slides, a door and a knob turn on a hinge.
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
      name: the benchmark's; the root's is `object`.
      solid: what collides.
      look: what is seen.
      mass: of the boxes together, shared by weight; None where the benchmark states the inertia itself.
      contact: attributes of the collision boxes.
      regions: sites that goals refer to.
      glow: what lights up.
      at: origin in the frame of the part that it belongs to.
      turn: orientation there.
      joint: None for what stands fast.
      parts: what belongs to it, in the benchmark's order, which is the order of the joints.
    """

    name: str
    solid: Sequence[Box] = ()
    look: Sequence[Paint] = ()
    mass: float | None = None
    contact: Mapping[str, str] = field(default_factory=dict)
    regions: Sequence[Region] = ()
    glow: Glow | None = None
    at: Vector = (0.0, 0.0, 0.0)
    turn: Turn | None = None
    joint: Joint | None = None
    parts: Sequence["Part"] = ()


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
class Placeholder:
    """One thing in one piece.

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


@dataclass(frozen=True)
class Fixture:
    """Something with parts that move: a cabinet, a stove, a microwave.

    Attributes:
      name: the benchmark's category.
      root: its tree of parts.
      reach: what placement goes by.
    """

    name: str
    root: Part
    reach: Reach

    @property
    def file(self) -> str:
        """Where the benchmark looks for it, relative to the asset tree."""
        return f"articulated_objects/{self.name}.xml"
