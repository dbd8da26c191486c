"""How an episode is performed: straight and steady, or varied as people are."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Style:
    """One episode's manner; lengths in metres, times in control steps.

    Attributes:
      speed: largest position action.
      gain: share of the remaining way that an action asks for.
      tremor: size of the smooth noise on position actions; rotations tremble a tenth as much.
      pause: chance of a hesitation before a phase.
      longest_pause: its length at most.
      overshoot: how far beyond the point above an object the hand goes before it corrects.
      arc: how far the middle of a way bends to a side, which makes the side of approach and of carrying.
      clearance: how far above what is in the way things are carried.
      grasp_choice: spread of what is added to the cost of each grasp; 0 takes the best.
      grasp_error: spread of where the fingers close.
      place_error: spread of where things are put.
      close_steps: steps given to the fingers.
    """

    speed: float = 0.95
    gain: float = 1.0
    tremor: float = 0.0
    pause: float = 0.0
    longest_pause: int = 8
    overshoot: float = 0.0
    arc: float = 0.0
    clearance: float = 0.03
    grasp_choice: float = 0.0
    grasp_error: float = 0.0
    place_error: float = 0.0
    close_steps: int = 9


def draw_style(random: np.random.Generator) -> Style:
    """A style as a person might have: three sides of approach, hesitations, corrections, other grasps."""
    side = random.choice([-1.0, 0.0, 1.0])
    return Style(
        speed=random.uniform(0.7, 1.0),
        gain=random.uniform(0.75, 1.0),
        tremor=random.uniform(0.02, 0.07),
        pause=random.uniform(0.1, 0.4),
        overshoot=random.uniform(0.0, 0.025),
        arc=side * random.uniform(0.06, 0.12),
        clearance=random.uniform(0.03, 0.06),
        grasp_choice=0.5,
        grasp_error=0.002,
        place_error=0.004,
        close_steps=int(random.integers(8, 13)),
    )


def hesitation(style: Style, random: np.random.Generator) -> int:
    """Steps to wait before a phase, mostly none."""
    return int(random.integers(2, style.longest_pause + 1)) if random.random() < style.pause else 0


def spread(random: np.random.Generator, size: float) -> Float[np.ndarray, "3"]:
    """A horizontal offset with a standard deviation, cut at two of them."""
    return np.append(np.clip(random.normal(0, 1, 2), -2, 2) * size, 0.0)
