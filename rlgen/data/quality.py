"""Figures of quality: of an episode, and of a set of them with intervals."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rlgen.data.bootstrap import MeanInterval, bootstrap_mean
from rlgen.data.jerk import log_dimensionless_jerk, mean_squared_jerk
from rlgen.data.noops import noop_mask
from rlgen.data.spread import ActionSpread, action_spread
from rlgen.types import Episode, RobotState

PAPER_EPISODES = 4500  # the paper counts no-ops per so many trajectories


@dataclass(frozen=True)
class EpisodeQuality:
    """One episode.

    Attributes:
      length: control steps.
      noops: actions that a `*_no_noops` dataset drops.
      mean_squared_jerk: of the end-effector path, m²/s⁶; NaN for fewer than four positions.
      log_dimensionless_jerk: higher is smoother; NaN where it is not defined.
      action_variation: how far the six motion numbers travel: sum over time of the absolute changes.
      gripper_switches: changes between opening and closing.
    """

    length: int
    noops: int
    mean_squared_jerk: float
    log_dimensionless_jerk: float
    action_variation: float
    gripper_switches: int

    def to_json(self) -> dict[str, Any]:
        """As a dictionary; what is not defined is None."""
        values = asdict(self)
        return {name: None if math.isnan(value) else value for name, value in values.items()}


@dataclass(frozen=True)
class DatasetQuality:
    """A set of episodes: totals, and means over episodes with bootstrap intervals.

    Attributes:
      episodes: how many.
      steps: control steps of all.
      noops: no-ops of all.
      noops_per_4500: no-ops a paper-sized set of 4,500 episodes would have.
      length, mean_squared_jerk, log_dimensionless_jerk, action_variation, gripper_switches: as of an episode.
      spread: actions over normalised time.
      each: the figures of every episode, in order.
    """

    episodes: int
    steps: int
    noops: int
    noops_per_4500: float
    length: MeanInterval
    mean_squared_jerk: MeanInterval
    log_dimensionless_jerk: MeanInterval
    action_variation: MeanInterval
    gripper_switches: MeanInterval
    spread: ActionSpread
    each: tuple[EpisodeQuality, ...]

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        value = {name: getattr(self, name) for name in ("episodes", "steps", "noops", "noops_per_4500")}
        value |= {name: getattr(self, name).to_json() for name in (*_MEANS, "spread")}
        return {**value, "each": [episode.to_json() for episode in self.each]}


_MEANS = ("length", "mean_squared_jerk", "log_dimensionless_jerk", "action_variation", "gripper_switches")


def episode_quality(episode: Episode, robot: RobotState) -> EpisodeQuality:
    """Figures of one episode; `robot` has a row for every state of it (T, or T + 1 with the last)."""
    if len(robot.position) not in (len(episode), len(episode) + 1):
        raise ValueError(f"robot state has {len(robot.position)} rows for {len(episode)} actions")
    motion, gripper = episode.actions[:, :6], episode.actions[:, 6]
    return EpisodeQuality(
        length=len(episode),
        noops=int(noop_mask(episode.actions).sum()),
        mean_squared_jerk=mean_squared_jerk(robot.position),
        log_dimensionless_jerk=log_dimensionless_jerk(robot.position),
        action_variation=float(np.abs(np.diff(motion, axis=0)).sum()),
        gripper_switches=int((np.diff(np.sign(gripper)) != 0).sum()),
    )


def dataset_quality(
    episodes: Sequence[Episode], robot_states: Sequence[RobotState], *, seed: int = 0, points: int = 100
) -> DatasetQuality:
    """Figures of a set of episodes, at least one; `seed` is the bootstrap's."""
    if not episodes:
        raise ValueError("no episodes to measure")
    each = tuple(episode_quality(*pair) for pair in zip(episodes, robot_states, strict=True))
    noops = sum(quality.noops for quality in each)
    means = {name: bootstrap_mean([getattr(quality, name) for quality in each], seed=seed) for name in _MEANS}
    return DatasetQuality(
        episodes=len(each),
        steps=sum(quality.length for quality in each),
        noops=noops,
        noops_per_4500=noops * PAPER_EPISODES / len(each),
        spread=action_spread([episode.actions for episode in episodes], points),
        each=each,
        **means,
    )
