"""A scripted demonstrator for pick-and-place, as varied as people are.

It reads poses from physics state and speaks only the environment's own actions. An episode is a list of
waypoints in metres around the object and the region; what varies between episodes (side and height of the
approach, speed, pauses, overshoot, hand tremor) is drawn from the episode's seed.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from rlgen.core.errors import UserError
from rlgen.core.types import Observation
from rlgen.libero.scenes.goals import CONTAIN
from rlgen.libero.scenes.scene import Scene

# Position action of 1 moves the goal by 5 cm; the arm follows about half of it within a control step.
METRES_PER_ACTION = 0.05
RADIANS_PER_ACTION = 0.5
OPEN, CLOSE = -1.0, 1.0
# Share of the remaining turn that an action asks for, and how much positions and rotations tremble.
TURN_GAIN = 0.3
TREMOR_SHARES = np.array([1.0, 1.0, 1.0, 0.1, 0.1, 0.1])


@dataclass(frozen=True)
class Style:
    """How one episode is performed; lengths in metres, times in control steps.

    Attributes:
      detour: sideways offset of the first waypoint, which makes the approach side.
      approach_height, carry_height: above the object and above the region's top.
      grasp_offset: where the fingers close, relative to the object's centre.
      place_offset: where the object is let go, relative to the region's centre.
      speed: largest position action.
      gain: share of the remaining way that an action asks for.
      pauses: idle steps before each phase.
      overshoot: metres beyond the point above the object, then corrected.
      tremor: size of the smooth noise on position actions; rotations tremble a tenth as much.
      yaw: turn of the hand about the vertical, radians.
      close_steps: steps given to the fingers.
    """

    detour: Float[np.ndarray, "3"]
    approach_height: float
    carry_height: float
    grasp_offset: Float[np.ndarray, "3"]
    place_offset: Float[np.ndarray, "3"]
    speed: float
    gain: float
    pauses: Int[np.ndarray, "6"]
    overshoot: float
    tremor: float
    yaw: float
    close_steps: int


def clean_style() -> Style:
    """Straight, steady, without pauses."""
    return Style(
        detour=np.zeros(3),
        approach_height=0.10,
        carry_height=0.12,
        grasp_offset=np.zeros(3),
        place_offset=np.zeros(3),
        speed=0.8,
        gain=0.6,
        pauses=np.zeros(6, np.int64),
        overshoot=0.0,
        tremor=0.0,
        yaw=0.0,
        close_steps=9,
    )


def draw_style(random: np.random.Generator) -> Style:
    """A style as a person might have: three approach sides, hesitations, corrections."""
    side = random.choice([-1.0, 0.0, 1.0])
    pauses = np.where(random.random(6) < 0.25, random.integers(2, 9, 6), 0)
    return Style(
        detour=np.array([random.uniform(-0.05, 0.05), side * random.uniform(0.06, 0.12), random.uniform(0, 0.08)]),
        approach_height=random.uniform(0.07, 0.15),
        carry_height=random.uniform(0.10, 0.18),
        grasp_offset=np.append(random.normal(0, 0.004, 2), random.uniform(-0.006, 0.004)),
        place_offset=np.append(random.normal(0, 0.012, 2), random.uniform(-0.02, 0.02)),
        speed=random.uniform(0.55, 0.95),
        gain=random.uniform(0.4, 0.65),
        pauses=pauses,
        overshoot=random.uniform(0.0, 0.03),
        tremor=random.uniform(0.02, 0.08),
        yaw=random.normal(0, 0.05),
        close_steps=int(random.integers(9, 15)),
    )


@dataclass(frozen=True)
class Waypoint:
    """Go to `anchor` plus `offset`, or wait.

    Attributes:
      anchor: `object`, `region`, or `here` (where the hand was when the waypoint began).
      tolerance: metres at which the waypoint counts as reached.
      steps: control steps after which it is left in any case.
      wait: hold still for exactly `steps`.
    """

    anchor: str
    offset: Float[np.ndarray, "3"]
    gripper: float
    tolerance: float
    steps: int
    wait: bool = False


def plan(style: Style) -> list[Waypoint]:
    """The waypoints of one pick-and-place in a style."""
    above = np.array([0, 0, style.approach_height])
    beyond = above + style.overshoot * np.array([1.0, 0.5, 0.0])
    carry = np.array([0, 0, style.carry_height])
    release = np.array([0, 0, 0.06])

    def pause(index: int, gripper: float) -> list[Waypoint]:
        steps = int(style.pauses[index])
        return [Waypoint("here", np.zeros(3), gripper, 0.0, steps, wait=True)] if steps else []

    approach = [Waypoint("object", above + style.detour, OPEN, 0.03, 60)] if style.detour.any() else []
    overshoot = [Waypoint("object", beyond, OPEN, 0.02, 60)] if style.overshoot else []
    return [
        *pause(0, OPEN),
        *approach,
        *pause(1, OPEN),
        *overshoot,
        Waypoint("object", above + style.grasp_offset, OPEN, 0.008, 60),
        *pause(2, OPEN),
        Waypoint("object", style.grasp_offset, OPEN, 0.006, 50),
        Waypoint("here", np.zeros(3), CLOSE, 0.0, style.close_steps, wait=True),
        Waypoint("here", carry + np.array([0, 0, 0.04]), CLOSE, 0.03, 50),
        *pause(3, CLOSE),
        Waypoint("region", carry + release, CLOSE, 0.03, 80),
        *pause(4, CLOSE),
        Waypoint("region", release + style.place_offset, CLOSE, 0.02, 40),
        *pause(5, CLOSE),
        Waypoint("here", np.zeros(3), OPEN, 0.0, 60, wait=True),
    ]


class _Performer:
    """One episode's plan in progress."""

    def __init__(self, style: Style, random: np.random.Generator):
        self._style, self._random = style, random
        self._waypoints = plan(style)
        self._age = 0
        self._origin: np.ndarray | None = None
        self._upright: Rotation | None = None
        self._noise = np.zeros(6)

    def act(self, hand: np.ndarray, turned: np.ndarray, target: np.ndarray, region: np.ndarray) -> np.ndarray:
        """The next action; advances the plan where a waypoint is reached.

        Args:
          hand, turned: position and axis-angle of the hand.
          target, region: positions of the object and of where it belongs.
        """
        while True:
            waypoint = self._waypoints[0]
            if self._origin is None:
                self._origin, self._age = hand.copy(), 0
            anchor = {"object": target, "region": region, "here": self._origin}[waypoint.anchor]
            error = anchor + waypoint.offset - hand
            reached = not waypoint.wait and np.linalg.norm(error) < waypoint.tolerance
            if len(self._waypoints) == 1 or not (reached or self._age >= waypoint.steps):
                break
            self._waypoints.pop(0)
            self._origin = None
        self._age += 1
        move = np.zeros(6) if waypoint.wait else self._move(error, self._turn(turned))
        return np.append(move, waypoint.gripper)

    def _turn(self, turned: np.ndarray) -> np.ndarray:
        """Rotation vector in the world from the hand's orientation to the wanted one."""
        present = Rotation.from_rotvec(turned)
        if self._upright is None:
            self._upright = Rotation.from_rotvec([0, 0, self._style.yaw]) * present
        return (self._upright * present.inv()).as_rotvec()

    def _move(self, error: np.ndarray, turn: np.ndarray) -> np.ndarray:
        wanted = self._style.gain * error / METRES_PER_ACTION
        largest = np.abs(wanted).max()
        if largest > self._style.speed:
            wanted *= self._style.speed / largest
        self._noise = 0.8 * self._noise + self._style.tremor * self._random.normal(0, 0.6, 6) * TREMOR_SHARES
        turning = np.clip(TURN_GAIN * turn / RADIANS_PER_ACTION, -0.2, 0.2) if self._style.tremor else np.zeros(3)
        return np.clip(np.concatenate([wanted, turning]) + self._noise, -1.0, 1.0)


class ScriptedExpert:
    """An actor that performs the scripted pick-and-place; chunk of one step.

    Args:
      clean: straight and steady instead of human-like.

    Raises:
      UserError: the task asks for something else than to put one object into a container.
    """

    chunk = 1

    def __init__(self, scene: Scene, *, clean: bool = False):
        if scene.goal.kinds.tolist() != [CONTAIN]:
            goal = " and ".join(" ".join(atom) for atom in scene.goal.atoms)
            raise UserError(
                f"the scripted demonstrator puts one object into a container, and the goal of {scene.task.id} is "
                f"{goal}; choose a task of libero_object"
            )
        self._clean = clean
        self._performers: list[_Performer] = []

    def begin(self, seeds: Int[np.ndarray, " N"]) -> None:
        """Draws a style for every row from its seed."""
        self._performers = []
        for seed in seeds:
            random = np.random.default_rng(int(seed))
            style = clean_style() if self._clean else draw_style(random)
            self._performers.append(_Performer(style, random))

    def __call__(self, observation: Observation) -> Float[np.ndarray, "N 1 7"]:
        """One action a row, from the hand's and the first goal object's and region's positions."""
        robot, poses = observation.robot, observation.vector[:, 13:31]
        rows = zip(self._performers, robot.position, robot.axis_angle, poses[:, 0:3], poses[:, 12:15], strict=True)
        return np.stack([performer.act(*seen) for performer, *seen in rows])[:, None]
