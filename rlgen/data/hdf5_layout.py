"""LIBERO's HDF5 layout of demonstrations: names, and what a file says about its task.

One file a task, `data/demo_0` and on. In people's files the observation in row t was taken after action t; in
ours it was taken before it, which `data.attrs["rlgen_observation"]` says. `states[t]` is before action t in
both. What an `Episode` has and the layout has not (actor, seed, the state after the last action) is kept in
extra attributes and datasets that other readers pass over.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

from rlgen.types import Episode, RobotState

OBSERVATION_ATTRIBUTE = "rlgen_observation"
OBSERVED_BEFORE_ACTION = "before_action"
DIGEST_ATTRIBUTE = "rlgen_sha256"  # at the file: that every demonstration has one; at it: of the episode
PHYSICS_ATTRIBUTE = "physics"  # 0 at a demonstration that has no states
ROBOT_KEYS = {
    "position": "ee_pos",
    "axis_angle": "ee_ori",
    "gripper": "gripper_states",
    "joints": "joint_states",
}
ROBOT_SIZES = {"position": 3, "axis_angle": 3, "gripper": 2, "joints": 7}


@dataclass(frozen=True)
class DemoFileInfo:
    """What the file as a whole says about its task.

    Attributes:
      env_name: class of the environment, such as `Libero_Floor_Manipulation`.
      bddl_file_name: the task's BDDL file, `<suite>/<name>.bddl` at its end.
      language: the instruction as the BDDL file words it.
      model_file: MJCF of the scene; stored with every demonstration, as the benchmark does.
      domain_name: the BDDL domain.
      env_kwargs: how the environment was made (controller, cameras, control frequency).
    """

    env_name: str
    bddl_file_name: str
    language: str
    model_file: str
    domain_name: str = "robosuite"
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def problem_name(self) -> str:
        """The BDDL problem's name, which is the environment's in lower case."""
        return self.env_name.lower()


@dataclass(frozen=True)
class DemoPictures:
    """Pictures of T observations as the renderer gives them: rows from the bottom up, not rotated."""

    agentview: UInt8[np.ndarray, "T h w 3"]
    eye_in_hand: UInt8[np.ndarray, "T h w 3"]


@dataclass(frozen=True)
class Demo:
    """One demonstration as it is written: an episode, the robot along it, and pictures or none.

    The robot has a row for each of the T states before an action, or for all T + 1; pictures have T.
    """

    episode: Episode
    robot: RobotState
    pictures: DemoPictures | None = None
