"""Scores: success of a policy's episodes, and length, jerk and no-ops of those that succeed.

`score_trials` runs trials and keeps numbers, no episodes. Two scores over the same trials are compared by `change`.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from rlgen.core.stats import SuccessRate, bootstrap_mean
from rlgen.core.types import Episode
from rlgen.data.metrics.quality import Trace, trace_quality
from rlgen.evaluation.loop import WIDTH, run_trials
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.rollouts import Actor
from rlgen.libero.envs.worlds import World
from rlgen.libero.scenes.fixtures import Fixtures
from rlgen.libero.scenes.scene import Scene

# What is measured of an episode that succeeds, by the names of `data.metrics.quality.EpisodeQuality`.
QUALITIES = ("length", "mean_squared_jerk", "noops")


@dataclass(frozen=True)
class ScoreSummary:
    """A success rate, and means over the episodes that succeeded, of which there are `rate.successes`.

    Attributes:
      rate: of success.
      length: control steps; None where nothing succeeded, or what was stored by earlier versions lacks it.
      mean_squared_jerk: of the end effector's path, m²/s⁶; likewise.
      noops: actions that a `*_no_noops` dataset drops; likewise.
    """

    rate: SuccessRate
    length: float | None = None
    mean_squared_jerk: float | None = None
    noops: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns counts, interval and means by name."""
        return {**self.rate.to_json(), **{name: getattr(self, name) for name in QUALITIES}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ScoreSummary":
        """Reads what `to_json` wrote, or a `SuccessRate`."""
        return cls(SuccessRate.from_json(value), **{name: value.get(name) for name in QUALITIES})

    def __str__(self) -> str:
        if self.length is None or self.mean_squared_jerk is None:
            return str(self.rate)
        return f"{self.rate}, {self.length:.1f} control steps, jerk {self.mean_squared_jerk:.1f} m²/s⁶"


@dataclass(frozen=True)
class Score:
    """What became of N trials.

    Attributes:
      success: whether each succeeded.
      quality: its numbers in the order of `QUALITIES`; NaN where it failed, or a number is not defined.
    """

    success: Bool[np.ndarray, " N"]
    quality: Float[np.ndarray, "N 3"]

    def summary(self) -> ScoreSummary:
        """Returns the success rate and the means."""
        rate = SuccessRate(int(self.success.sum()), len(self.success))
        means = {name: _mean(column) for name, column in zip(QUALITIES, self.quality.T, strict=True)}
        return ScoreSummary(rate, **means)


class ScoreSink:
    """A sink that measures episodes and keeps none of them.

    Args:
      scene: of the episodes.
      count: N, the number of trials.
      finished: indices of trials that are left out, which stay without success.
    """

    full = False

    def __init__(self, scene: Scene, count: int, finished: Container[int] = ()) -> None:
        self.finished = finished
        self._observer = Observer(scene)
        self._rows = np.zeros((count, 1 + len(QUALITIES)))

    def add(self, trials: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Measures a wave."""
        for trial, episode in zip(trials, episodes, strict=True):
            if episode.success:
                self._rows[trial] = 1, *_episode_row(self._observer, episode)

    @property
    def rows(self) -> Float[np.ndarray, "N 4"]:
        """Of each trial success and the numbers of `QUALITIES`; zeros where it failed or was left out."""
        return self._rows


def score_trials(
    scene: Scene,
    actor: Actor,
    count: int,
    *,
    seed: int,
    split: str,
    source: str,
    offset: int = 0,
    threads: int = 2,
    physics: World = "exact",
    fixtures: Fixtures = "fixed",
    share: tuple[int, int] = (0, 1),
    on_chunk: Callable[[int], None] | None = None,
) -> Float[np.ndarray, "N 4"]:
    """Runs `count` trials of an actor and measures them; the other arguments are those of `run_trials`.

    Args:
      scene: the task's scene.
      actor: turns observations into action chunks.
      count: number of trials.
      seed: root of the trials' seeds.
      split: initial states to start from, `train` or `heldout`.
      source: who acts.
      offset: initial states that are passed over.
      threads: threads that step the environments.
      physics: `exact` or `fast`, or `warp` for MuJoCo Warp's on a GPU.
      fixtures: `fixed`, or `redraw`, which draws where they stand from the seed of each trial.
      share: which part of the trials to run, of how many.
      on_chunk: called after every action chunk with the number of unfinished episodes in the wave.

    Returns:
      As of `ScoreSink.rows`; those of all shares add up to the whole, of which `make_score` makes a score.
    """
    part, parts = share
    sink = ScoreSink(scene, count, {trial for trial in range(count) if trial % parts != part})
    run_trials(
        scene,
        actor,
        count,
        sink,
        seed=seed,
        split=split,
        source=source,
        offset=offset,
        width=min(WIDTH, count),
        threads=threads,
        physics=physics,
        fixtures=fixtures,
        on_chunk=on_chunk,
    )
    return sink.rows


def make_score(rows: Float[np.ndarray, "N 4"]) -> Score:
    """Makes a score of the rows of `score_trials`."""
    success = rows[:, 0] > 0
    return Score(success, np.where(success[:, None], rows[:, 1:], np.nan))


def score_episodes(scene: Scene, episodes: Sequence[Episode]) -> Score:
    """Returns the score of recorded episodes."""
    sink = ScoreSink(scene, len(episodes))
    sink.add(range(len(episodes)), episodes)
    return make_score(sink.rows)


def change(before: Score, after: Score) -> dict[str, dict[str, Any]]:
    """Compares two policies over the same N trials.

    Success is compared over all trials, length, jerk and no-ops over those in which both succeeded.

    Args:
      before: of the first policy, such as the clone.
      after: of the second.

    Returns:
      By `success` and the names of `QUALITIES`: the means `before` and `after` over these trials, the `difference`
      of the second to the first with its 95 % paired bootstrap interval `low` to `high`, and the number of `trials`;
      None where there are none.
    """
    pairs = {"success": (before.success.astype(float), after.success.astype(float))}
    pairs |= {name: (before.quality[:, i], after.quality[:, i]) for i, name in enumerate(QUALITIES)}
    return {name: _paired(*columns) for name, columns in pairs.items()}


def _paired(before: Float[np.ndarray, " N"], after: Float[np.ndarray, " N"]) -> dict[str, Any]:
    both = np.isfinite(before) & np.isfinite(after)
    interval = asdict(bootstrap_mean(after[both] - before[both]))
    return {
        "before": _mean(before[both]),
        "after": _mean(after[both]),
        "difference": interval["mean"],
        "low": interval["low"],
        "high": interval["high"],
        "trials": interval["count"],
    }


def _mean(values: Float[np.ndarray, " N"]) -> float | None:
    """Returns the mean of the finite values; None if there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def _episode_row(observer: Observer, episode: Episode) -> tuple[float, ...]:
    path = observer(episode.states).robot.position
    quality = trace_quality(Trace(episode.actions, path, episode.task))
    return tuple(float(getattr(quality, name)) for name in QUALITIES)
