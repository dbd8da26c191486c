"""Placeholders of fixtures with moving parts: cabinets of three drawers, a stove with a knob, a microwave with a door.

Joints and regions are the benchmark's to the last digit: they decide what a stored state and a goal mean.
"""

from rlgen.libero.placeholders.mjcf import CONTACT
from rlgen.libero.placeholders.shapes import (
    Box,
    BurnerLight,
    Color,
    Cylinder,
    Fixture,
    Joint,
    Part,
    PlacementExtent,
    Region,
    Turn,
    VisualShape,
    colored,
    disc,
)

WALNUT: Color = (0.26, 0.19, 0.14)
CHESTNUT: Color = (0.36, 0.27, 0.20)
IVORY: Color = (0.86, 0.86, 0.84)
LINEN: Color = (0.95, 0.94, 0.92)
STEEL: Color = (0.62, 0.63, 0.65)
IRON: Color = (0.30, 0.31, 0.33)
COAL: Color = (0.12, 0.12, 0.13)
RED: Color = (0.9, 0.05, 0.05)
# Regions of shelves and drawers are boxes whose first edge is upright.
UPRIGHT = (0.70711, 0.0, 0.70711, 0.0)
# MuJoCo's defaults, which the benchmark uses for its stove plate and its microwave.
PLAIN = {"friction": "1 0.005 0.0001", "solref": "0.02 1", "solimp": "0.9 0.95 0.001"}
# The microwave collides with everything but itself, so that its door can lie in its frame.
BODY = {"friction": "1 0.005 0.0001", "solref": "0.02 1", "solimp": "0.8 0.9 0.01", "margin": "0.001"}
BODY |= {"contype": "0", "conaffinity": "1"}
SMALL = PlacementExtent(bottom=-0.045, top=0.045, radius=0.045)


def _drawer(name: str, level: float, handle: float, region: Region, body: Color) -> Part:
    """Makes a box without a lid; `level` is the height of its middle, `handle` that of the bar to pull it by."""
    walls = (
        Box((0.1093, 0.0065, 0.0343), (0.0033, -0.0714, level - 0.0005)),
        Box((0.1068, 0.0036, 0.0321), (0.0033, 0.0908, level)),
        Box((0.0024, 0.0814, 0.0315), (-0.1018, 0.0112, level)),
        Box((0.0024, 0.0814, 0.0315), (0.1089, 0.0112, level)),
        Box((0.1069, 0.0808, 0.0040), (0.0034, 0.0106, level - 0.0284)),
    )
    # The bar's two holders are visual only, so that a finger finds room behind it from anywhere.
    bar = Box((0.0444, 0.0077, 0.0082), (-0.0028, -0.1016, handle))
    holders = tuple(Box((0.005, 0.010, 0.005), (x, -0.0840, handle)) for x in (-0.0350, 0.0294))
    joint = Joint(f"{name}_level", "slide", (0.0, 1.0, 0.0), (-0.16, 0.01), 50.0)
    visuals = (*colored(walls, body), *colored((bar, *holders), STEEL))
    return Part(f"cabinet_{name}", (*walls, bar), visuals, contact=CONTACT, regions=(region,), joint=joint)


def _cabinet(name: str, case: Color, front: Color) -> Fixture:
    """Makes a chest of drawers, open towards -y."""
    panels = (
        Box((0.1254, 0.0941, 0.0014), (0.0039, 0.0158, 0.2216)),
        Box((0.0052, 0.0954, 0.1078), (-0.1122, 0.0163, 0.1123)),
        Box((0.0052, 0.0954, 0.1078), (0.1190, 0.0163, 0.1123)),
        Box((0.1191, 0.0021, 0.1058), (0.0030, 0.1096, 0.1143)),
    )
    drawers = tuple(
        _drawer(key, level, handle, Region(f"{key}_region", (0.02993, 0.07561, 0.10224), (x, y, z), UPRIGHT), front)
        for key, level, handle, (x, y, z) in (
            ("top", 0.1836, 0.1839, (0.00328, 0.01128, 0.18563)),
            ("middle", 0.1139, 0.1104, (0.00328, 0.01128, 0.1169)),
            ("bottom", 0.0453, 0.0411, (0.00328, 0.01128, 0.04701)),
        )
    )
    lid = Region("top_side", (0.12534, 0.09438, 0.00147), (0.00354, 0.01567, 0.22152))
    base = Part("base", panels, colored(panels, case), 0.17624, CONTACT, (lid,), parts=drawers)
    return Fixture(name, Part("object", parts=(base,)), SMALL)


# A cooking plate, and beside it a knob: a round foot with a blade on it.
_PLATE = (Box((0.095, 0.095, 0.02275), (0.0, 0.0, 0.00275)),)
_FOOT = disc(0.0470, 0.0062, (0.0013, 0.0043, 0.0066))
_BLADE = Box((0.0115, 0.0447, 0.0188), (0.0013, 0.0073, 0.0312))
_BURNER = Part(
    "burner",
    _PLATE,
    (*colored(_PLATE, STEEL), VisualShape(Cylinder(0.075, 0.0010, (0.0, 0.0, 0.0255)), IRON)),
    1.4801,
    PLAIN,
    (Region("cook_region", (0.075, 0.075, 0.0025), (0.0, 0.0, 0.0)),),
    BurnerLight("burner", 0.0625, 0.0005, (0.0, 0.0, 0.022), RED),
    at=(0.15, 0.0, 0.0),
    parts=(Part("burner_plate"),),
)
_KNOB = Part(
    "button",
    (*_FOOT, _BLADE),
    (VisualShape(Cylinder(0.046, 0.0062, (0.0013, 0.0043, 0.0066)), IRON), VisualShape(_BLADE, COAL)),
    contact=CONTACT,
    turn=Turn("z", 90.0),
    joint=Joint("button", "hinge", (0.0, 0.0, 1.0), (-0.005, 2.1), 1.0),
)
FLAT_STOVE = Fixture("flat_stove", Part("object", parts=(Part("base", parts=(_BURNER, _KNOB)),)), SMALL)
# A hollow block, its right quarter filled, and a door that is hinged on the left.
_CASE = (
    Box((0.0145, 0.0996, 0.0935), (-0.1580, 0.0115, 0.0935), density=0.9),
    Box((0.0545, 0.1108, 0.0935), (0.1180, 0.0003, 0.0935), density=0.4),
    Box((0.1035, 0.0150, 0.0935), (-0.0405, 0.0955, 0.0935)),
    Box((0.1035, 0.0845, 0.0095), (-0.0400, -0.0035, 0.1775)),
    Box((0.1035, 0.0840, 0.0120), (-0.0400, -0.0040, 0.0120)),
)
_PANEL = Box((0.1295, 0.0120, 0.0925), (0.1295, -0.0130, 0.0), density=0.3)
_GRIP = Box((0.0100, 0.0100, 0.0750), (0.2375, -0.0540, 0.0))
_HOLDERS = tuple(Box((0.0080, 0.0100, 0.0080), (0.2375, -0.0345, z)) for z in (-0.065, 0.065))
_WINDOW = Box((0.0900, 0.0124, 0.0650), (0.1100, -0.0130, 0.0))
_DOOR = Part(
    "microdoorroot",
    (_PANEL, _GRIP),
    (VisualShape(_PANEL, COAL), VisualShape(_WINDOW, IRON), *colored((_GRIP, *_HOLDERS), STEEL)),
    0.26,
    BODY | {"solimp": "0.8 0.9 0.01"},
    at=(-0.1725, -0.088, 0.096),
    joint=Joint("microjoint", "hinge", (0.0, 0.0, 1.0), (-2.094, 0.0), 0.5),
)
MICROWAVE = Fixture(
    "microwave",
    Part(
        "object",
        _CASE,
        colored(_CASE, IRON),
        3.0,
        BODY,
        (
            Region("top_side", (0.12, 0.0835, 0.005), (0.0, 0.01, 0.20)),
            Region("heating_region", (0.12, 0.0835, 0.08), (0.0, 0.01, 0.096)),
        ),
        parts=(_DOOR,),
    ),
    PlacementExtent(bottom=-0.06, top=0.06, radius=0.015),
)
ARTICULATED = (
    _cabinet("wooden_cabinet", WALNUT, CHESTNUT),
    _cabinet("white_cabinet", IVORY, LINEN),
    FLAT_STOVE,
    MICROWAVE,
)
