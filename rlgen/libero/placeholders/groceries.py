"""Placeholders of groceries.

Outer dimensions, frames, masses and placement heights are the benchmark's; shapes and colors are not.
Cans, cartons and tall bottles have y along their height; packets and the barbecue bottle have z.
"""

from rlgen.libero.placeholders.shapes import (
    Box,
    Color,
    Cylinder,
    Placeholder,
    PlacementExtent,
    Turn,
    VisualShape,
    colored,
    octagonal_prism,
)

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
# Distance of a label from the surface below it, so that the two do not flicker in images.
LABEL = 0.0004
# The extent of most objects in the benchmark's placement, whatever their shape.
TALL = PlacementExtent()


def _can(
    name: str, mass: float, extent: PlacementExtent, *, apothem: float, z: float, label: Color, band: Color
) -> Placeholder:
    """Makes a can along y, with a label of two colors."""
    center, upright = (-0.0001, -0.0005, z), Turn("x", 90.0)
    visuals = (
        VisualShape(Cylinder(apothem + LABEL, 0.0355, center, upright), label),
        VisualShape(Cylinder(apothem + 2 * LABEL, 0.0090, (-0.0001, -0.0160, z), upright), band),
        VisualShape(Cylinder(apothem, 0.0380, center, upright), SILVER),
    )
    return Placeholder(name, FAMILY, mass, octagonal_prism(apothem, 0.0380, center), visuals, extent=extent)


def _carton(
    name: str, mass: float, extent: PlacementExtent, *, x: float, body: Color, band: Color, roof: Color
) -> Placeholder:
    """Makes a carton along y: a square box, and a gable roof that is a bar lying on its edge."""
    carton = Box((0.02625, 0.05475, 0.02625), (x, -0.0150, 0.0))
    gable = Box((0.0264, 0.01535, 0.01535), (0.0, 0.0397, 0.0), Turn("x", 45.0), density=0.35)
    belt = Box((0.02625 + LABEL, 0.0200, 0.02625 + LABEL), (x, -0.0240, 0.0))
    visuals = (VisualShape(carton, body), VisualShape(gable, roof), VisualShape(belt, band))
    return Placeholder(name, FAMILY, mass, (carton, gable), visuals, extent=extent)


def _packet(name: str, mass: float, extent: PlacementExtent, *, box: Box, edge: Color, face: Color) -> Placeholder:
    """Makes a flat cardboard box with a patch on both faces."""
    x, y, z = box.half
    patch = Box((0.62 * x, 0.70 * y, z + LABEL), box.at)
    return Placeholder(name, FAMILY, mass, (box,), (VisualShape(box, edge), VisualShape(patch, face)), extent=extent)


def _bottle(
    name: str,
    mass: float,
    extent: PlacementExtent = TALL,
    *,
    glass: tuple[Box, ...],
    cap: Box,
    label: Box,
    colors: tuple[Color, Color, Color],
) -> Placeholder:
    """Makes a bottle from a stack of boxes; `colors` are those of glass, cap and label, which is visual only."""
    visuals = (*colored(glass, colors[0]), VisualShape(cap, colors[1]), VisualShape(label, colors[2]))
    return Placeholder(name, FAMILY, mass, (*glass, cap), visuals, extent=extent)


def _dressing(name: str, y: float, colors: tuple[Color, Color, Color]) -> Placeholder:
    """Makes a bottle of salad dressing whose middle is at `y`."""
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
    _can("alphabet_soup", 0.0259, PlacementExtent(bottom=-0.04), apothem=0.0312, z=-0.0037, label=BLUE, band=ORANGE),
    _can("tomato_sauce", 0.0266, TALL, apothem=0.0309, z=-0.0033, label=GREEN, band=RED),
    _carton("milk", 0.0317, PlacementExtent(radius=0.03), x=0.0004, body=WHITE, band=BLUE, roof=SKY),
    _carton("orange_juice", 0.0317, TALL, x=-0.0004, body=ORANGE, band=YELLOW, roof=GREEN),
    _packet(
        "butter",
        0.00525,
        PlacementExtent(bottom=-0.02, top=0.02, radius=0.02),
        box=Box((0.0381, 0.0198, 0.0087)),
        edge=YELLOW,
        face=RED,
    ),
    _packet(
        "cream_cheese",
        0.00619,
        PlacementExtent(bottom=-0.025, top=0.025, radius=0.03),
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
        PlacementExtent(top=0.06, radius=0.015),
        glass=(
            Box((0.0235, 0.0145, 0.0268), (0.0, 0.0, -0.0278)),
            Box((0.0181, 0.0145, 0.0143), (0.0, 0.0, 0.0123)),
        ),
        cap=Box((0.0131, 0.0134, 0.0134), (0.0, 0.0, 0.0391)),
        label=Box((0.0150, 0.0145 + LABEL, 0.0180), (0.0, 0.0, -0.0278)),
        colors=(MAROON, ORANGE, YELLOW),
    ),
)
