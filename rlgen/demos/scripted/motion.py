"""From targets of the hand to actions, in the style of an episode: straight and steady, or varied as humans are."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from rlgen.core.actions import CLOSE, OPEN
from rlgen.demos.scripted.geometry import Pose, rotation_between

# Distances between the fingers, metres.
CLOSED, FULLY_OPEN = 0.0, 0.08
# An action of 1 moves the controller's goal by this much; the arm follows about half of it within a control step.
METERS_PER_ACTION = 0.05
RADIANS_PER_ACTION = 0.5
# Fraction of the remaining turn that an action asks for, and the largest rotation action: beyond it the motors are at
# their limits, which makes the turn no faster and takes the hand off its path.
TURN_GAIN, MAX_TURN = 1.0, 0.8
# A load pulls the hand down. The remaining error is integrated slowly, near the target only, and where the hand has
# nearly come to rest: what is left of its way is no error. Gain per control step, distance from the target, motion in a
# control step, largest correction, metres.
LOAD_GAIN, LOAD_DISTANCE, STILL, MAX_LOAD = 0.15, 0.02, 0.003, 0.015
# The gripper's internal command runs from -1 (open) to 1 (closed), by this much in a control step.
GRIPPER_STEP = 0.25
# Tremor of positions and rotations relative to the style's.
TREMOR_SCALES = np.array([1.0, 1.0, 1.0, 0.1, 0.1, 0.1])


@dataclass(frozen=True)
class Style:
    """The manner of one episode; lengths in metres, times in control steps.

    Attributes:
      speed: largest position action.
      gain: fraction of the remaining distance that an action asks for.
      tremor: size of the smooth noise on position actions; rotations tremble a tenth as much.
      pause_probability: chance of a pause before a phase.
      longest_pause: its largest length.
      overshoot: distance that the hand goes beyond the point above an object before it corrects.
      arc: sideways offset of the middle of a path, which decides the side of approach and of carrying.
      clearance: height above obstacles at which the hand passes.
      grasp_choice: scale of the exponential noise on the cost of each grasp; 0 takes the best.
      grasp_error: standard deviation of the position at which the fingers close.
      place_error: standard deviation of the position at which objects are put.
      close_steps: least steps that the fingers are given to close.
    """

    speed: float = 1.0
    gain: float = 1.0
    tremor: float = 0.0
    pause_probability: float = 0.0
    longest_pause: int = 8
    overshoot: float = 0.0
    arc: float = 0.0
    clearance: float = 0.03
    grasp_choice: float = 0.0
    grasp_error: float = 0.0
    place_error: float = 0.0
    close_steps: int = 9


def draw_style(random: np.random.Generator) -> Style:
    """Returns a human-like style: three sides of approach, pauses, corrections, different grasps."""
    side = random.choice([-1.0, 0.0, 1.0])
    return Style(
        speed=random.uniform(0.7, 1.0),
        gain=random.uniform(0.75, 1.0),
        tremor=random.uniform(0.02, 0.07),
        pause_probability=random.uniform(0.1, 0.4),
        overshoot=random.uniform(0.0, 0.025),
        arc=side * random.uniform(0.06, 0.12),
        clearance=random.uniform(0.03, 0.06),
        grasp_choice=0.5,
        grasp_error=0.002,
        place_error=0.004,
        close_steps=int(random.integers(8, 13)),
    )


def draw_pause(style: Style, random: np.random.Generator) -> int:
    """Returns the control steps to wait before a phase, mostly none."""
    return int(random.integers(2, style.longest_pause + 1)) if random.random() < style.pause_probability else 0


def draw_offset(random: np.random.Generator, std: float) -> Float[np.ndarray, "3"]:
    """Returns a horizontal offset with a standard deviation per axis, clipped at twice that, metres."""
    return np.append(np.clip(random.normal(0, 1, 2), -2, 2) * std, 0.0)


@dataclass(frozen=True)
class Move:
    """A target for one control step.

    Attributes:
      hand: pose that the grip site should go to; None holds still.
      opening: between the fingers, metres; `CLOSED` closes, `FULLY_OPEN` opens.
      speed: relative to the style's speed.
    """

    hand: Pose | None
    opening: float
    speed: float = 1.0


class Controller:
    """A proportional controller from moves to actions, in a style, with tremor and a correction for the load."""

    def __init__(self, style: Style, random: np.random.Generator):
        self._style, self._random = style, random
        self._noise, self._load = np.zeros(6), np.zeros(3)
        self._before: np.ndarray | None = None
        self._gripper = OPEN

    def action(self, move: Move, hand: Pose) -> Float[np.ndarray, "7"]:
        """Returns the next action: position, axis-angle, gripper (-1 opens, +1 closes).

        Args:
          move: target of the control step.
          hand: current pose of the grip site.
        """
        gripper = self._gripper_command(move.opening)
        if move.hand is None:
            return np.append(np.zeros(6), gripper)
        style, error = self._style, move.hand.position - hand.position
        still = self._before is not None and np.linalg.norm(hand.position - self._before) < STILL
        self._before = hand.position
        if still and np.linalg.norm(error) < LOAD_DISTANCE:
            self._load = np.clip(self._load + LOAD_GAIN * error, -MAX_LOAD, MAX_LOAD)
        shift = style.gain * (error + self._load) / METERS_PER_ACTION
        largest, limit = float(np.abs(shift).max()), style.speed * move.speed
        if largest > limit:
            shift *= limit / largest
        turn = TURN_GAIN * rotation_between(hand.rotation, move.hand.rotation) / RADIANS_PER_ACTION
        size = float(np.linalg.norm(turn))
        if size > MAX_TURN:
            turn *= MAX_TURN / size
        self._noise = 0.8 * self._noise + style.tremor * self._random.normal(0, 0.6, 6) * TREMOR_SCALES
        return np.append(np.clip(np.concatenate([shift, turn]) + self._noise, -1.0, 1.0), gripper)

    def _gripper_command(self, opening: float) -> float:
        """Returns OPEN or CLOSE, in turns for an opening in between: datasets hold no other commands."""
        target = np.clip(1.0 - 2.0 * opening / FULLY_OPEN, -1.0, 1.0)
        command = CLOSE if target >= 1.0 or (target > -1.0 and self._gripper < target) else OPEN
        self._gripper = float(np.clip(self._gripper + command * GRIPPER_STEP, -1.0, 1.0))
        return command
