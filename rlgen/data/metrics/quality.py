"""Quality of episodes: length, no-ops, smoothness, diversity; of one episode, and of a set with intervals.

All figures are computed from a `Trace`: the actions and the end-effector path of an episode. `dataset_quality` takes
episodes of a dataset, `recorded_quality` recorded ones.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from rlgen.core.stats import MeanInterval, bootstrap_mean
from rlgen.core.types import Episode, RobotState
from rlgen.data.episode import DatasetEpisode
from rlgen.data.metrics.diversity import (
    ActionDistribution,
    PathDiversity,
    action_distribution_within_tasks,
    path_diversity,
)
from rlgen.data.metrics.smoothness import log_dimensionless_jerk, mean_squared_jerk, noop_mask

PAPER_EPISODES = 4500  # number of trajectories in the paper, which counts their no-ops
_MEANS = ("length", "mean_squared_jerk", "log_dimensionless_jerk", "action_variation", "gripper_switches")


@dataclass(frozen=True)
class Trace:
    """The actions and the end-effector path of an episode.

    Attributes:
      actions: as commanded.
      position: of the end effector before each action, and after the last one if that is known, metres.
      task: any name; episodes of the same task are compared with each other.
    """

    actions: Float[np.ndarray, "T 7"]
    position: Float[np.ndarray, "P 3"]
    task: str


@dataclass(frozen=True)
class EpisodeQuality:
    """The quality of one episode.

    Attributes:
      length: number of control steps.
      noops: number of actions that a `*_no_noops` dataset drops.
      mean_squared_jerk: of the end-effector path, m²/s⁶; NaN for fewer than four positions.
      log_dimensionless_jerk: higher is smoother; NaN where it is not defined.
      action_variation: sum over time of the absolute changes of the first six numbers of an action.
      gripper_switches: number of changes between opening and closing.
    """

    length: int
    noops: int
    mean_squared_jerk: float
    log_dimensionless_jerk: float
    action_variation: float
    gripper_switches: int

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a dictionary; None for what is not defined."""
        values = asdict(self)
        return {name: None if math.isnan(value) else value for name, value in values.items()}


@dataclass(frozen=True)
class DatasetQuality:
    """The quality of a set of episodes: totals, and means over episodes with bootstrap intervals.

    Attributes:
      episodes: number of episodes.
      steps: number of control steps of all.
      noops: number of no-ops of all.
      noops_per_4500: number of no-ops that a set of the paper's size, 4,500 episodes, would have.
      length, mean_squared_jerk, log_dimensionless_jerk, action_variation, gripper_switches: as of an episode.
      action_distribution: over the episodes of a task at each instant, averaged over tasks.
      diversity: of the paths within tasks; a small standard deviation of actions may mean that all paths are the same.
      each: quality of every episode, in order.
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
    action_distribution: ActionDistribution
    diversity: PathDiversity
    each: tuple[EpisodeQuality, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns a dictionary of JSON values; the distribution of actions is named `spread` there."""
        value = {name: getattr(self, name) for name in ("episodes", "steps", "noops", "noops_per_4500")}
        value |= {name: getattr(self, name).to_json() for name in _MEANS}
        value |= {"spread": self.action_distribution.to_json(), "diversity": self.diversity.to_json()}
        return {**value, "each": [episode.to_json() for episode in self.each]}

    def summary(self) -> dict[str, Any]:
        """Returns the part for a dataset's card, without single episodes and instants."""
        kept = {key: value for key, value in self.to_json().items() if key not in ("each", "spread")}
        return {**kept, "action_spread": self.action_distribution.average_std.tolist()}


def trace_quality(trace: Trace) -> EpisodeQuality:
    """Computes the quality of one episode."""
    steps = len(trace.actions)
    if len(trace.position) not in (steps, steps + 1):
        raise ValueError(f"robot state has {len(trace.position)} rows for {steps} actions")
    motion, gripper = trace.actions[:, :6], trace.actions[:, 6]
    return EpisodeQuality(
        length=steps,
        noops=int(noop_mask(trace.actions).sum()),
        mean_squared_jerk=mean_squared_jerk(trace.position),
        log_dimensionless_jerk=log_dimensionless_jerk(trace.position),
        action_variation=float(np.abs(np.diff(motion, axis=0)).sum()),
        gripper_switches=int((np.diff(np.sign(gripper)) != 0).sum()),
    )


def traces_quality(traces: Sequence[Trace]) -> DatasetQuality:
    """Computes the quality of a set of at least one episode."""
    if not traces:
        raise ValueError("no episodes to measure")
    each = tuple(map(trace_quality, traces))
    noops = sum(quality.noops for quality in each)
    means = {name: bootstrap_mean([getattr(quality, name) for quality in each]) for name in _MEANS}
    tasks = [trace.task for trace in traces]
    return DatasetQuality(
        episodes=len(each),
        steps=sum(quality.length for quality in each),
        noops=noops,
        noops_per_4500=noops * PAPER_EPISODES / len(each),
        action_distribution=action_distribution_within_tasks([trace.actions for trace in traces], tasks),
        diversity=path_diversity([trace.position for trace in traces], tasks),
        each=each,
        **means,
    )


def recorded_quality(episodes: Sequence[Episode], robot_states: Sequence[RobotState]) -> DatasetQuality:
    """Computes the quality of recorded episodes, given the robot at their states (T or T + 1 rows each)."""
    pairs = zip(episodes, robot_states, strict=True)
    traces = [Trace(episode.actions, robot.position, episode.task) for episode, robot in pairs]
    return traces_quality(traces)


def dataset_traces(episodes: Iterable[DatasetEpisode]) -> list[Trace]:
    """Returns the traces of a dataset's episodes; their tasks are their prompts."""
    return [Trace(np.array(e.action, float), np.array(e.state[:, :3], float), e.language_instruction) for e in episodes]


def dataset_quality(episodes: Iterable[DatasetEpisode]) -> DatasetQuality:
    """Computes the quality of a dataset's episodes from their states and actions."""
    return traces_quality(dataset_traces(episodes))
