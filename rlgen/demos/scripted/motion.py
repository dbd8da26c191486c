"""How an episode is performed: straight and steady, or varied as people are."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from rlgen.demos.scripted.geometry import Pose, rotation_between


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


# An action of 1 moves the goal by this much; the arm follows about half of it within a control step.
METRES_PER_ACTION = 0.05
RADIANS_PER_ACTION = 0.5
TURN_GAIN, FASTEST_TURN = 0.6, 0.9
# What the hand holds pulls it down: the error that stays is taken back slowly, near the target only.
PULL_BACK, PULL_NEAR, PULL_MOST = 0.15, 0.02, 0.015
# The gripper's internal command runs from -1, open, to 1, closed, by a quarter a control step.
OPEN, GRIPPER_STEP = 0.08, 0.25
TREMOR_SHARES = np.array([1.0, 1.0, 1.0, 0.1, 0.1, 0.1])


@dataclass(frozen=True)
class Move:
    """What a script asks for in one control step.

    Attributes:
      hand: where the grip site should go; None holds still.
      opening: between the fingers, metres: 0 closes, `OPEN` opens.
      speed: share of the style's speed.
    """

    hand: Pose | None
    opening: float
    speed: float = 1.0


class Motor:
    """Turns moves into actions in a style; remembers its tremor and what pulls at the hand."""

    def __init__(self, style: Style, random: np.random.Generator):
        self._style, self._random = style, random
        self._noise, self._pull = np.zeros(6), np.zeros(3)
        self._gripper = -1.0

    def action(self, move: Move, hand: Pose) -> Float[np.ndarray, "7"]:
        """The environment's action: position, axis-angle, gripper (-1 opens, +1 closes)."""
        gripper = self._grip(move.opening)
        if move.hand is None:
            return np.append(np.zeros(6), gripper)
        style, error = self._style, move.hand.position - hand.position
        if np.linalg.norm(error) < PULL_NEAR:
            self._pull = np.clip(self._pull + PULL_BACK * error, -PULL_MOST, PULL_MOST)
        wanted = style.gain * (error + self._pull) / METRES_PER_ACTION
        largest, limit = float(np.abs(wanted).max()), style.speed * move.speed
        if largest > limit:
            wanted *= limit / largest
        turn = TURN_GAIN * rotation_between(hand.rotation, move.hand.rotation) / RADIANS_PER_ACTION
        size = float(np.linalg.norm(turn))
        if size > FASTEST_TURN:
            turn *= FASTEST_TURN / size
        self._noise = 0.8 * self._noise + style.tremor * self._random.normal(0, 0.6, 6) * TREMOR_SHARES
        return np.append(np.clip(np.concatenate([wanted, turn]) + self._noise, -1.0, 1.0), gripper)

    def _grip(self, opening: float) -> float:
        """Closes or opens; something in between by turns, since datasets know no other commands than these."""
        wanted = np.clip(1.0 - 2.0 * opening / OPEN, -1.0, 1.0)
        sign = 1.0 if wanted >= 1.0 or (wanted > -1.0 and self._gripper < wanted) else -1.0
        self._gripper = float(np.clip(self._gripper + sign * GRIPPER_STEP, -1.0, 1.0))
        return sign
