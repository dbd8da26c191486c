"""Placeholders of tray, rack, caddy and shelf, and of the books and the bottle that they hold.

Regions are the benchmark's to the last digit. Outer dimensions, frames and masses are near the benchmark's.
"""

from rlgen.libero.placeholders.shapes import Box, Color, Cylinder, Placeholder, Region, Turn, VisualShape, colored

FAMILY = "turbosquid_objects"
PINE: Color = (0.88, 0.74, 0.52)
CHERRY: Color = (0.60, 0.33, 0.33)
TEAK: Color = (0.45, 0.28, 0.15)
BEECH: Color = (0.74, 0.50, 0.36)
INK: Color = (0.05, 0.05, 0.08)
PAPER: Color = (0.93, 0.91, 0.84)
AMBER: Color = (0.75, 0.60, 0.0)
GLASS: Color = (0.05, 0.30, 0.12)
LABEL: Color = (0.90, 0.86, 0.75)
UPRIGHT = (0.70711, 0.0, 0.70711, 0.0)
HALF_ROUND = (0.0, 0.0, 1.0, 0.0)


def _book(name: str, mass: float, block: Box, cover: Color) -> Placeholder:
    """Makes a standing book with its spine towards -y."""
    x, y, z = block.half
    pages = Box((0.8 * x, 0.05 * y, 0.97 * z), (block.at[0], block.at[1] + 0.96 * y, block.at[2]))
    return Placeholder(name, FAMILY, mass, (block,), (VisualShape(block, cover), VisualShape(pages, PAPER)))


BOOKS = (
    _book("black_book", 0.04255, Box((0.01434, 0.0552, 0.0672), (-0.0005, -0.0121, 0.0694)), INK),
    _book("yellow_book", 0.02813, Box((0.01177, 0.0489, 0.0611), (0.0016, 0.0001, 0.0631)), AMBER),
)
# Eight-sided about z, so that it does not roll on its side; a box for its shoulder and one for its neck.
_BODY = tuple(
    Box((0.0212, 0.0088, 0.0385 - (0.0003 if degrees % 90 else 0.0)), (0.0004, 0.0001, 0.0396), Turn("z", degrees))
    for degrees in (0.0, 45.0, 90.0, 135.0)
)
_SHOULDER = Box((0.0125, 0.0125, 0.0075), (0.0002, 0.0, 0.0856), density=2.5)
_NECK = Box((0.0066, 0.0066, 0.0325), (0.0002, 0.0, 0.1255), density=3.5)
WINE_BOTTLE = Placeholder(
    "wine_bottle",
    FAMILY,
    0.01539,
    (*_BODY, _SHOULDER, _NECK),
    (
        VisualShape(Cylinder(0.0215, 0.0385, (0.0004, 0.0001, 0.0396)), GLASS),
        VisualShape(Cylinder(0.0219, 0.0160, (0.0004, 0.0001, 0.0400)), LABEL),
        *colored((_SHOULDER, _NECK), GLASS),
    ),
)
_TRAY = (
    Box((0.1440, 0.0807, 0.0040), (0.0078, -0.0044, 0.0032)),
    Box((0.0023, 0.0778, 0.0250), (-0.1392, -0.0055, 0.0295)),
    Box((0.0023, 0.0778, 0.0250), (0.1532, -0.0055, 0.0295)),
    Box((0.1440, 0.0025, 0.0294), (0.0078, -0.0849, 0.0332)),
    Box((0.1440, 0.0025, 0.0284), (0.0078, 0.0762, 0.0312)),
    Box((0.0067, 0.0786, 0.0012), (-0.1335, -0.0049, 0.0797)),
    Box((0.0067, 0.0786, 0.0012), (0.1471, -0.0049, 0.0797)),
)
_POSTS = tuple(Box((0.0055, 0.0055, 0.0392), (x, y, 0.0408)) for x in (-0.1320, 0.1453) for y in (-0.0780, 0.0685))
TRAY = Placeholder(
    "wooden_tray",
    FAMILY,
    0.05715,
    _TRAY,
    (*colored(_TRAY, PINE), *colored(_POSTS, TEAK)),
    (Region("contain_region", (0.04038, 0.07839, 0.13549), (0.00863, -0.00471, 0.04255), UPRIGHT),),
)
# A plank that slopes down towards -y to a lip, which is where a bottle lies, and a second one below.
_SLOPE = Turn("x", 31.3)
_RACK = (
    Box((0.1344, 0.0789, 0.0045), (0.0, -0.0061, 0.2512), _SLOPE),
    Box((0.1322, 0.0011, 0.0087), (0.0, -0.0748, 0.2207), _SLOPE),
    Box((0.1344, 0.0789, 0.0045), (0.0, -0.0427, 0.1273), _SLOPE),
    Box((0.0930, 0.1269, 0.0075), (0.0, 0.0025, 0.0053)),
    Box((0.0091, 0.0076, 0.1616), (0.0, 0.0089, 0.1703), Turn("x", -15.8)),
)
WINE_RACK = Placeholder(
    "wine_rack",
    FAMILY,
    0.15275,
    _RACK,
    colored(_RACK, CHERRY),
    (Region("top_region", (0.10087, 0.022, 0.00251), (0.0, -0.08003, 0.21745), (0.85491, -0.51877, 0.0, 0.0)),),
)


def _panel(y: float) -> tuple[Box, Box]:
    """Makes a side of a compartment of the caddy: low in front, high behind."""
    return Box((0.0706, 0.0036, 0.0333), (0.0, y, 0.0452)), Box((0.0200, 0.0036, 0.0300), (0.0500, y, 0.1050))


_CADDY = (
    Box((0.0755, 0.2169, 0.0062), (0.0, 0.0, 0.0076)),
    Box((0.0040, 0.2098, 0.0815), (0.0668, 0.0, 0.0868)),
    Box((0.0040, 0.2098, 0.0346), (-0.0669, 0.0, 0.0395)),
    Box((0.0040, 0.0766, 0.0450), (-0.0669, -0.1398, 0.1190)),
    Box((0.0706, 0.0062, 0.0824), (0.0, -0.0680, 0.0850)),
    Box((0.0706, 0.0062, 0.0824), (0.0, -0.2094, 0.0850)),
    Box((0.0040, 0.0668, 0.0434), (-0.0016, 0.0, 0.0552)),
    *_panel(0.0706),
    *_panel(0.2084),
)
_NOOK = (0.06196, 0.06216, 0.06046)
CADDY = Placeholder(
    "desk_caddy",
    FAMILY,
    0.27796,
    _CADDY,
    colored(_CADDY, BEECH),
    (
        Region("right_contain_region", _NOOK, (0.00631, -0.14339, 0.06558), HALF_ROUND),
        Region("left_contain_region", _NOOK, (0.00631, 0.14551, 0.06558), HALF_ROUND),
        Region("back_contain_region", (0.02775, 0.06216, 0.06046), (0.03364, -0.00064, 0.08558), HALF_ROUND),
        Region(
            "front_contain_region",
            (0.02775, 0.03595, 0.06216),
            (-0.03102, -0.00064, 0.04054),
            (0.0, 0.0, 0.70711, -0.70711),
        ),
    ),
)
_SHELF = (
    Box((0.0071, 0.0954, 0.1044), (-0.1538, 0.0163, 0.1046)),
    Box((0.0071, 0.0954, 0.1044), (0.1631, 0.0163, 0.1046)),
    Box((0.1633, 0.0023, 0.1044), (0.0029, 0.1094, 0.1046)),
    Box((0.1532, 0.0894, 0.0010), (0.0052, 0.0187, 0.0699)),
    Box((0.1757, 0.0951, 0.0021), (0.0050, 0.0164, 0.2082)),
)
SHELF = Placeholder(
    "wooden_two_layer_shelf",
    FAMILY,
    0.20633,
    _SHELF,
    colored(_SHELF, TEAK),
    (
        Region("top_side", (0.17557, 0.09438, 0.00147), (0.00496, 0.01567, 0.20688)),
        Region("top_region", (0.06739, 0.08564, 0.15093), (0.00538, 0.01687, 0.13672), (0.70711, 0.0, -0.70711, 0.0)),
        Region("bottom_region", (0.03528, 0.08564, 0.1558), (0.00555, 0.01687, 0.01407), UPRIGHT),
    ),
)
FURNITURE = (*BOOKS, WINE_BOTTLE, TRAY, WINE_RACK, CADDY, SHELF)
