"""Shapes composed of boxes. Lengths in metres, angles in degrees."""

import math
from collections.abc import Sequence

from rlgen.libero.placeholders.shapes import Box, Color, Lean, Turn, Vector, VisualShape

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
