"""Placeholder of the basket that objects are put into."""

from rlgen.libero.placeholders.compounds import colored
from rlgen.libero.placeholders.shapes import Box, Color, Placeholder, Region, Turn

FAMILY = "stable_scanned_objects"
STRAW: Color = (0.66, 0.45, 0.22)
WICKER: Color = (0.78, 0.60, 0.36)
# The walls lean outwards by three degrees or so, as the benchmark's do: objects that land on the rim slide in.
_FLOOR = (Box((0.0766, 0.0724, 0.0085), (0.0025, 0.0, 0.0131)),)
_WALLS = (
    Box((0.0067, 0.0724, 0.0637), (-0.0727, 0.0, 0.0766), Turn("y", -4.3)),
    Box((0.0067, 0.0724, 0.0637), (0.0756, 0.0, 0.0766), Turn("y", 2.9)),
    Box((0.0724, 0.0067, 0.0637), (0.0, -0.0688, 0.0818), Turn("x", 2.6)),
    Box((0.0724, 0.0067, 0.0637), (0.0, 0.0688, 0.0818), Turn("x", -2.6)),
)
_INSIDE = Region("contain_region", (0.06108, 0.06108, 0.06949), (0.0, 0.0, 0.07185), (0.0, 0.0, 0.0, 1.0))
BASKET = Placeholder(
    "basket",
    FAMILY,
    mass=0.136,
    collision=(*_FLOOR, *_WALLS),
    visuals=(*colored(_FLOOR, STRAW), *colored(_WALLS[:2], WICKER), *colored(_WALLS[2:], STRAW)),
    regions=(_INSIDE,),
)
CONTAINERS = (BASKET,)
