"""Placeholders of bowls, plate, ramekin, mugs, pan, pot and basket, all with z upright.

A round object is eight flat walls on a floor of crossed bars. Outer dimensions, frames and masses are the
benchmark's.
"""

from rlgen.libero.placeholders.shapes import Box, Color, Placeholder, Region, Turn, VisualShape, colored, disc, ring

SCANNED = "stable_scanned_objects"
SQUID = "turbosquid_objects"
BLACK: Color = (0.16, 0.16, 0.17)
CHALK: Color = (0.98, 0.98, 0.98)
PEARL: Color = (0.84, 0.80, 0.90)
CREAM: Color = (0.90, 0.86, 0.78)
SLATE: Color = (0.33, 0.37, 0.43)
BRICK: Color = (0.66, 0.06, 0.22)
SAND: Color = (0.85, 0.66, 0.30)
ICE: Color = (0.75, 0.88, 0.75)
ROSE: Color = (1.0, 0.80, 0.84)
CHROME: Color = (0.50, 0.56, 0.64)
RIM: Color = (0.35, 0.20, 0.12)


def _dish(
    name: str, mass: float, floor: tuple[Box, ...], walls: tuple[Box, ...], inside: Color, out: Color
) -> Placeholder:
    return Placeholder(name, SCANNED, mass, (*floor, *walls), (*colored(walls, out), *colored(floor, inside)))


# A bowl is a small disc, a flat cone that widens from it, and a steep wall. In some stored states it overlaps with a
# neighboring object, and the shape of its lower part decides whether the two are pushed apart gently. Apothems are a
# little smaller than the real radii, corners a little larger.
BOWLS = (
    _dish(
        "akita_black_bowl",
        0.00559,
        (*disc(0.0240, 0.0026, (0.0, 0.0, 0.0042)), *ring((0.0245, 0.0038), (0.0416, 0.0140), 0.0020)),
        ring((0.0424, 0.0153), (0.0522, 0.0520), 0.0032),
        RIM,
        BLACK,
    ),
    _dish(
        "white_bowl",
        0.00209,
        (*disc(0.0180, 0.0018, (0.0, 0.0, 0.0024)), *ring((0.0190, 0.0032), (0.0327, 0.0110), 0.0018)),
        ring((0.0326, 0.0105), (0.0396, 0.0350), 0.0024),
        PEARL,
        ICE,
    ),
    _dish(
        "glazed_rim_porcelain_ramekin",
        0.00966,
        disc(0.0330, 0.0032, (0.0, 0.0, 0.0041)),
        ring((0.0376, 0.0007), (0.0434, 0.0425), 0.0060),
        CREAM,
        SAND,
    ),
)
PLATE = _dish(
    "plate",
    0.01152,
    (Box((0.0330, 0.0330, 0.0023), (0.0, 0.0, 0.0031)),),
    ring((0.0292, -0.0024), (0.0673, 0.0108), 0.0050, (0.0004, 0.0003)),
    CHALK,
    PEARL,
)
PAN = Placeholder(
    "chefmate_8_frypan",
    SCANNED,
    0.05025,
    (
        *(_PAN_FLOOR := disc(0.0830, 0.0055, (0.0055, -0.0010, 0.0063))),
        *(_PAN_WALL := ring((0.0850, 0.0060), (0.1022, 0.0420), 0.0071, (0.0054, -0.0010))),
        (_PAN_HANDLE := Box((0.0800, 0.0127, 0.0062), (0.1790, 0.0, 0.0420), Turn("y", -7.4), density=1.4)),
    ),
    (*colored(_PAN_WALL, SLATE), *colored(_PAN_FLOOR, BLACK), VisualShape(_PAN_HANDLE, BLACK)),
)


def _mug(
    name: str,
    mass: float,
    *,
    floor: tuple[Box, ...],
    walls: tuple[Box, ...],
    handle: tuple[Box, ...],
    colors: tuple[Color, Color],
) -> Placeholder:
    """Makes a mug; `colors` are those of the wall and of the rest."""
    visuals = (*colored(walls, colors[0]), *colored((*floor, *handle), colors[1]))
    return Placeholder(name, SQUID, mass, (*floor, *walls, *handle), visuals)


# Handles are an upright bar and the arm that carries it.
MUGS = (
    _mug(
        "porcelain_mug",
        0.01646,
        floor=disc(0.0330, 0.0040, (0.0107, -0.0010, 0.0064), 0.3),
        walls=ring((0.0350, 0.0100), (0.0483, 0.1083), 0.0055, (0.0112, -0.0010)),
        handle=(
            Box((0.0040, 0.0060, 0.0260), (-0.0600, -0.0010, 0.0540)),
            Box((0.0120, 0.0060, 0.0040), (-0.0480, -0.0010, 0.0780)),
        ),
        colors=(ROSE, CHALK),
    ),
    _mug(
        "red_coffee_mug",
        0.02935,
        floor=(Box((0.0270, 0.0270, 0.0026), (-0.0153, -0.0030, 0.0053)),),
        walls=ring((0.0340, -0.0015), (0.0460, 0.1305), 0.0070, (-0.0150, -0.0007)),
        handle=(
            Box((0.0030, 0.0070, 0.0340), (0.0590, 0.0011, 0.0760)),
            Box((0.0150, 0.0070, 0.0030), (0.0440, 0.0011, 0.1070)),
        ),
        colors=(BRICK, BRICK),
    ),
    _mug(
        "white_yellow_mug",
        0.03091,
        floor=disc(0.0360, 0.0040, (-0.0180, 0.0, 0.0039), 0.6),
        walls=ring((0.0400, 0.0040), (0.0530, 0.1030), 0.0080, (-0.0182, 0.0)),
        handle=(
            Box((0.0045, 0.0060, 0.0320), (0.0640, 0.0, 0.0540)),
            Box((0.0150, 0.0060, 0.0045), (0.0480, 0.0, 0.0800)),
        ),
        colors=((0.95, 0.80, 0.10), CHALK),
    ),
)
_POT_BODY = (
    Box((0.0305, 0.0330, 0.0665), (0.0, 0.0015, 0.0004)),
    Box((0.0407, 0.0170, 0.0665), (0.0, 0.0005, 0.0004)),
)
_SPOUT = Box((0.0176, 0.0120, 0.0245), (0.0, -0.0443, 0.0426))
_LID = Box((0.0052, 0.0060, 0.0094), (0.0, -0.0013, 0.0763))
_HANDLE = (
    Box((0.0060, 0.0235, 0.0070), (0.0, 0.0580, 0.0600)),
    Box((0.0060, 0.0060, 0.0390), (0.0, 0.0850, 0.0240)),
)
POT = Placeholder(
    "moka_pot",
    SQUID,
    0.06824,
    (*_POT_BODY, _SPOUT, _LID, *_HANDLE),
    (*colored((*_POT_BODY, _SPOUT), CHROME), *colored((_LID, *_HANDLE), BLACK)),
)
STRAW: Color = (0.66, 0.45, 0.22)
WICKER: Color = (0.78, 0.60, 0.36)
# The walls lean outwards by three degrees or so, as the benchmark's do: objects that land on the rim slide in.
_BASKET_FLOOR = (Box((0.0766, 0.0724, 0.0085), (0.0025, 0.0, 0.0131)),)
_BASKET_WALLS = (
    Box((0.0067, 0.0724, 0.0637), (-0.0727, 0.0, 0.0766), Turn("y", -4.3)),
    Box((0.0067, 0.0724, 0.0637), (0.0756, 0.0, 0.0766), Turn("y", 2.9)),
    Box((0.0724, 0.0067, 0.0637), (0.0, -0.0688, 0.0818), Turn("x", 2.6)),
    Box((0.0724, 0.0067, 0.0637), (0.0, 0.0688, 0.0818), Turn("x", -2.6)),
)
_BASKET_REGION = Region("contain_region", (0.06108, 0.06108, 0.06949), (0.0, 0.0, 0.07185), (0.0, 0.0, 0.0, 1.0))
BASKET = Placeholder(
    "basket",
    SCANNED,
    mass=0.136,
    collision=(*_BASKET_FLOOR, *_BASKET_WALLS),
    visuals=(*colored(_BASKET_FLOOR, STRAW), *colored(_BASKET_WALLS[:2], WICKER), *colored(_BASKET_WALLS[2:], STRAW)),
    regions=(_BASKET_REGION,),
)
TABLEWARE = (BASKET, *BOWLS, PLATE, PAN, *MUGS, POT)
