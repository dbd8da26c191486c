"""Figures of quality: of an episode, and of a set of them with intervals."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from rlgen.core.stats import MeanInterval, bootstrap_mean
from rlgen.core.types import Episode, RobotState
from rlgen.data.episode import DatasetEpisode
from rlgen.data.metrics.diversity import ActionSpread, PathDiversity, path_diversity, spread_within_tasks
from rlgen.data.metrics.smoothness import log_dimensionless_jerk, mean_squared_jerk, noop_mask

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
      spread: actions over normalised time, of the episodes of a task; averaged over tasks.
      diversity: of the paths of a task, so that little spread is not bought by a single path unsaid.
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
    diversity: PathDiversity
    each: tuple[EpisodeQuality, ...]

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        value = {name: getattr(self, name) for name in ("episodes", "steps", "noops", "noops_per_4500")}
        value |= {name: getattr(self, name).to_json() for name in (*_MEANS, "spread", "diversity")}
        return {**value, "each": [episode.to_json() for episode in self.each]}

    def summary(self) -> dict[str, Any]:
        """The same without single episodes and instants: what a card says."""
        kept = {key: value for key, value in self.to_json().items() if key not in ("each", "spread")}
        return {**kept, "action_spread": self.spread.average.tolist()}


_MEANS = ("length", "mean_squared_jerk", "log_dimensionless_jerk", "action_variation", "gripper_switches")


@dataclass(frozen=True)
class Trace:
    """What the figures of an episode are taken from.

    Attributes:
      actions: as commanded.
      position: of the end effector before each action, and after the last if that is known, metres.
      task: any name; episodes of the same one are compared with each other.
    """

    actions: Float[np.ndarray, "T 7"]
    position: Float[np.ndarray, "P 3"]
    task: str


def trace_quality(trace: Trace) -> EpisodeQuality:
    """Figures of one episode."""
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


def traces_quality(traces: Sequence[Trace], *, seed: int = 0, points: int = 100) -> DatasetQuality:
    """Figures of a set of episodes, at least one; `seed` is the bootstrap's."""
    if not traces:
        raise ValueError("no episodes to measure")
    each = tuple(map(trace_quality, traces))
    noops = sum(quality.noops for quality in each)
    means = {name: bootstrap_mean([getattr(quality, name) for quality in each], seed=seed) for name in _MEANS}
    tasks = [trace.task for trace in traces]
    return DatasetQuality(
        episodes=len(each),
        steps=sum(quality.length for quality in each),
        noops=noops,
        noops_per_4500=noops * PAPER_EPISODES / len(each),
        spread=spread_within_tasks([trace.actions for trace in traces], tasks, points),
        diversity=path_diversity([trace.position for trace in traces], tasks, seed=seed),
        each=each,
        **means,
    )


def episode_quality(episode: Episode, robot: RobotState) -> EpisodeQuality:
    """Figures of one episode; `robot` has a row for every state of it (T, or T + 1 with the last)."""
    return trace_quality(Trace(episode.actions, robot.position, episode.task))


def recorded_quality(
    episodes: Sequence[Episode], robot_states: Sequence[RobotState], *, seed: int = 0, points: int = 100
) -> DatasetQuality:
    """Figures of a set of episodes with the robot along each."""
    pairs = zip(episodes, robot_states, strict=True)
    traces = [Trace(episode.actions, robot.position, episode.task) for episode, robot in pairs]
    return traces_quality(traces, seed=seed, points=points)


def dataset_traces(episodes: Iterable[DatasetEpisode]) -> list[Trace]:
    """Exported episodes, whose tasks are told apart by their prompts."""
    return [Trace(np.array(e.action, float), np.array(e.state[:, :3], float), e.language_instruction) for e in episodes]


def dataset_quality(episodes: Iterable[DatasetEpisode], *, seed: int = 0) -> DatasetQuality:
    """Figures of a set of exported episodes, from their states and actions alone."""
    return traces_quality(dataset_traces(episodes), seed=seed)
