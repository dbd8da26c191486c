"""Types that several packages share: episodes and observations.

Letters of shapes, here and everywhere: B batch, N environments, T control steps, K denoising steps, H actions of a
chunk, A size of an action (7), D size of a physics state (1 + nq + nv: time, qpos, qvel), O size of an observation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from rlgen.core.actions import ACTION_SIZE

# Position (m) and quaternion (w, x, y, z) of each fixture of a scene: cabinets, stoves, racks, in the model's order.
FixturePoses = Float[np.ndarray, "F 7"]
ROBOT_STATE_SIZE = 8  # `RobotState.vla_state`: position 3, axis-angle 3, finger joints 2
ARM_JOINTS = 7
_LIBERO_NAMES = {
    "state": ("x", "y", "z", "turn x", "turn y", "turn z", "finger", "finger"),
    "action": ("x", "y", "z", "turn x", "turn y", "turn z", "gripper"),
}


@dataclass(frozen=True)
class Robot:
    """The numbers that a robot has at each step, as a dataset describes them; LIBERO's by default.

    Attributes:
      state: numbers in a state.
      action: numbers in an action.
      joint_state: joints, which no model reads.
      state_names: a name for each number of a state; none where the data do not say.
      action_names: likewise of an action.
    """

    state: int = ROBOT_STATE_SIZE
    action: int = ACTION_SIZE
    joint_state: int = ARM_JOINTS
    state_names: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()

    @property
    def is_libero(self) -> bool:
        """Returns whether states and actions have the widths of LIBERO's robot, whose rules then hold for them."""
        return (self.state, self.action) == (ROBOT_STATE_SIZE, ACTION_SIZE)

    def names(self, vector: Literal["state", "action"]) -> tuple[str, ...]:
        """Returns a name for each number of `vector`: the data's own, LIBERO's for its widths, or their positions."""
        known = getattr(self, f"{vector}_names") or (_LIBERO_NAMES[vector] if self.is_libero else ())
        return known or tuple(str(index) for index in range(getattr(self, vector)))

    def __str__(self) -> str:
        return f"states of {self.state} numbers and actions of {self.action}"


LIBERO = Robot()


@dataclass(frozen=True)
class Episode:
    """One episode as states and actions; images are rendered from the states when needed.

    An episode from a dataset without physics states has states of size D = 0.

    Attributes:
      task: `<suite>/<name>`.
      prompt: the instruction, as the benchmark's file name says it.
      source: who acted: `scripted` or `demonstrator` (both the scripted expert), `bc`, `ppo`, `vla`, `policy`, `human`.
      initial_index: index of the initial state in its split.
      split: `train` (sampled reset states), `wide` (the same with wide resets) or `heldout` (the benchmark's stored
        states).
      seed: seed of the actor for this episode.
      initial_state: time, qpos, qvel before settling.
      states: time, qpos, qvel before each action, and after the last one.
      actions: as commanded, in [-1, 1]; the last one is the gripper's, -1 opens, +1 closes.
      rewards: 1 if the goal held after the action, else 0.
      success: whether the goal was reached.
      fixtures: where the fixtures stood, if they were drawn for this episode; None where the scene's own draw was used.
    """

    task: str
    prompt: str
    source: str
    initial_index: int
    split: str
    seed: int
    initial_state: Float[np.ndarray, " D"]
    states: Float[np.ndarray, "T+1 D"]
    actions: Float[np.ndarray, "T 7"]
    rewards: Float[np.ndarray, " T"]
    success: bool
    fixtures: FixturePoses | None = None

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def has_physics(self) -> bool:
        """True if physics states were recorded."""
        return self.states.shape[1] > 0


@dataclass(frozen=True)
class RobotState:
    """The robot along a path of T states.

    Attributes:
      position: end-effector position in the world, metres.
      axis_angle: end-effector orientation as axis times angle, radians.
      gripper: finger joint positions, metres.
      joints: arm joint positions, radians.
    """

    position: Float[np.ndarray, "T 3"]
    axis_angle: Float[np.ndarray, "T 3"]
    gripper: Float[np.ndarray, "T 2"]
    joints: Float[np.ndarray, "T 7"]

    @classmethod
    def stack(cls, parts: Sequence["RobotState"]) -> "RobotState":
        """Returns one path after the other."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    @property
    def vla_state(self) -> Float[np.ndarray, "T 8"]:
        """Position, axis-angle, finger joints: the state that RLDS and the VLA use."""
        return np.concatenate([self.position, self.axis_angle, self.gripper], axis=-1)


@dataclass(frozen=True)
class Observation:
    """The observation of N environments at the start of a chunk.

    Attributes:
      vector: proprioception and object poses, for policies on physics state.
      physics: time, qpos, qvel; images are rendered from it.
      robot: the robot's own state.
      step: control steps since the start of the episode.
      fixtures: where the fixtures of each environment stand, None for the scene's own draw; None for that in all.
    """

    vector: Float[np.ndarray, "N O"]
    physics: Float[np.ndarray, "N D"]
    robot: RobotState
    step: Int[np.ndarray, " N"]
    fixtures: Sequence[FixturePoses | None] | None = None

    def fixtures_of(self, rows: Int[np.ndarray, " M"]) -> Sequence[FixturePoses | None] | None:
        """Returns where the fixtures of some environments stand."""
        return None if self.fixtures is None else [self.fixtures[row] for row in rows]


class ImageObservation(NamedTuple):
    """The observation of a policy with images, of N environments; a pytree.

    Attributes:
      images: of each of V cameras, bytes, in the renderer's raw orientation.
      vector: the robot's own state, then proprioception and object poses; a policy reads only the former, and a
        privileged critic may read all, since it is not needed when acting.
    """

    images: UInt8[np.ndarray, "*N V h w 3"]
    vector: Float[np.ndarray, "*N P+O"]
