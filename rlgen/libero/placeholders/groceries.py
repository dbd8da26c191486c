"""Groceries.

Outer dimensions, frames, masses and placement heights are the benchmark's; shapes and colours are our own.
Cans, cartons and tall bottles have y along their height; packets and the barbecue bottle have z.
"""

from rlgen.libero.placeholders.compounds import octagonal_prism, paint
from rlgen.libero.placeholders.shapes import Box, Color, Cylinder, Paint, Placeholder, Reach, Turn

FAMILY = "stable_hope_objects"
WHITE: Color = (0.93, 0.93, 0.90)
SILVER: Color = (0.72, 0.72, 0.74)
RED: Color = (0.80, 0.10, 0.07)
GREEN: Color = (0.07, 0.45, 0.20)
LIME: Color = (0.72, 0.82, 0.48)
BLUE: Color = (0.20, 0.36, 0.75)
SKY: Color = (0.55, 0.74, 0.92)
YELLOW: Color = (0.97, 0.83, 0.25)
ORANGE: Color = (0.96, 0.55, 0.10)
BROWN: Color = (0.33, 0.16, 0.09)
MAROON: Color = (0.55, 0.12, 0.03)
OLIVE: Color = (0.42, 0.48, 0.10)
PINE: Color = (0.05, 0.25, 0.14)
NAVY: Color = (0.10, 0.14, 0.42)
TAN: Color = (0.80, 0.65, 0.42)
VIOLET: Color = (0.38, 0.36, 0.72)
# How far a label stands off the surface it is on, so that the two do not flicker in pictures.
LABEL = 0.0004
# Where placement takes most of these to end, whatever their shape.
TALL = Reach()


def _can(name: str, mass: float, reach: Reach, *, apothem: float, z: float, label: Color, band: Color) -> Placeholder:
    """A tin along y, with a label of two colours."""
    centre, upright = (-0.0001, -0.0005, z), Turn("x", 90.0)
    look = (
        Paint(Cylinder(apothem + LABEL, 0.0355, centre, upright), label),
        Paint(Cylinder(apothem + 2 * LABEL, 0.0090, (-0.0001, -0.0160, z), upright), band),
        Paint(Cylinder(apothem, 0.0380, centre, upright), SILVER),
    )
    return Placeholder(name, FAMILY, mass, octagonal_prism(apothem, 0.0380, centre), look, reach=reach)


def _carton(name: str, mass: float, reach: Reach, *, x: float, body: Color, band: Color, roof: Color) -> Placeholder:
    """A litre of something along y: a square trunk, and a roof that is a bar lying on its edge."""
    trunk = Box((0.02625, 0.05475, 0.02625), (x, -0.0150, 0.0))
    gable = Box((0.0264, 0.01535, 0.01535), (0.0, 0.0397, 0.0), Turn("x", 45.0), density=0.35)
    belt = Box((0.02625 + LABEL, 0.0200, 0.02625 + LABEL), (x, -0.0240, 0.0))
    look = (Paint(trunk, body), Paint(gable, roof), Paint(belt, band))
    return Placeholder(name, FAMILY, mass, (trunk, gable), look, reach=reach)


def _packet(name: str, mass: float, reach: Reach, *, box: Box, edge: Color, face: Color) -> Placeholder:
    """A flat cardboard box with a patch on both faces."""
    x, y, z = box.half
    patch = Box((0.62 * x, 0.70 * y, z + LABEL), box.at)
    return Placeholder(name, FAMILY, mass, (box,), (Paint(box, edge), Paint(patch, face)), reach=reach)


def _bottle(
    name: str,
    mass: float,
    reach: Reach = TALL,
    *,
    glass: tuple[Box, ...],
    cap: Box,
    label: Box,
    colors: tuple[Color, Color, Color],
) -> Placeholder:
    """A stack of boxes; `colors` are those of the glass, the cap and the label, which is only seen."""
    look = (*paint(glass, colors[0]), Paint(cap, colors[1]), Paint(label, colors[2]))
    return Placeholder(name, FAMILY, mass, (*glass, cap), look, reach=reach)


def _dressing(name: str, y: float, colors: tuple[Color, Color, Color]) -> Placeholder:
    """A bottle of salad dressing, its middle at `y`."""
    return _bottle(
        name,
        0.0218,
        glass=(
            Box((0.0225, 0.0320, 0.0171), (-0.0010, y - 0.0308, 0.0002), density=0.5),
            Box((0.0264, 0.0240, 0.0173), (-0.0010, y - 0.0305, 0.0002)),
            Box((0.0173, 0.0055, 0.0173), (-0.0010, y - 0.0672, 0.0002)),
            Box((0.0150, 0.0180, 0.0150), (0.0000, y + 0.0182, 0.0002)),
        ),
        cap=Box((0.0158, 0.0187, 0.0156), (0.0001, y + 0.0542, 0.0), density=1.6),
        label=Box((0.0180, 0.0170, 0.0173 + LABEL), (-0.0010, y - 0.0305, 0.0002)),
        colors=colors,
    )


GROCERIES = (
    _can("alphabet_soup", 0.0259, Reach(bottom=-0.04), apothem=0.0312, z=-0.0037, label=BLUE, band=ORANGE),
    _can("tomato_sauce", 0.0266, TALL, apothem=0.0309, z=-0.0033, label=GREEN, band=RED),
    _carton("milk", 0.0317, Reach(radius=0.03), x=0.0004, body=WHITE, band=BLUE, roof=SKY),
    _carton("orange_juice", 0.0317, TALL, x=-0.0004, body=ORANGE, band=YELLOW, roof=GREEN),
    _packet(
        "butter",
        0.00525,
        Reach(bottom=-0.02, top=0.02, radius=0.02),
        box=Box((0.0381, 0.0198, 0.0087)),
        edge=YELLOW,
        face=RED,
    ),
    _packet(
        "cream_cheese",
        0.00619,
        Reach(bottom=-0.025, top=0.025, radius=0.03),
        box=Box((0.0406, 0.0213, 0.0089)),
        edge=SILVER,
        face=VIOLET,
    ),
    _packet(
        "chocolate_pudding",
        0.0102,
        TALL,
        box=Box((0.0401, 0.0232, 0.0137), (-0.0005, 0.0, 0.0006)),
        edge=BROWN,
        face=SKY,
    ),
    _bottle(
        "ketchup",
        0.0232,
        glass=(
            Box((0.0281, 0.0331, 0.0170), (0.0004, -0.0393, 0.0008)),
            Box((0.0239, 0.0113, 0.0183), (0.0004, 0.0037, 0.0008)),
            Box((0.0187, 0.0113, 0.0183), (0.0004, 0.0251, 0.0008)),
        ),
        cap=Box((0.0158, 0.0185, 0.0160), (0.0004, 0.0547, 0.0008)),
        label=Box((0.0170, 0.0240, 0.0170 + LABEL), (0.0004, -0.0393, 0.0008)),
        colors=(RED, WHITE, WHITE),
    ),
    _dressing("salad_dressing", 0.0, (LIME, GREEN, WHITE)),
    _dressing("new_salad_dressing", 0.05, (OLIVE, PINE, YELLOW)),
    _packet("cookies", 0.00964, TALL, box=Box((0.0310, 0.0413, 0.0094)), edge=NAVY, face=TAN),
    _bottle(
        "bbq_sauce",
        0.0122,
        Reach(top=0.06, radius=0.015),
        glass=(
            Box((0.0235, 0.0145, 0.0268), (0.0, 0.0, -0.0278)),
            Box((0.0181, 0.0145, 0.0143), (0.0, 0.0, 0.0123)),
        ),
        cap=Box((0.0131, 0.0134, 0.0134), (0.0, 0.0, 0.0391)),
        label=Box((0.0150, 0.0145 + LABEL, 0.0180), (0.0, 0.0, -0.0278)),
        colors=(MAROON, ORANGE, YELLOW),
    ),
)
