"""Scores of a policy: success of its trials, and length, jerk and no-ops of those that succeeded.

Two scores over the same trials are compared by `change`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from rlgen.core.stats import SuccessRate, bootstrap_mean

# What is measured of an episode that succeeds, by the names of `quality.EpisodeQuality`.
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
    """The outcome of N trials.

    Attributes:
      success: True for those that succeeded.
      quality: its numbers in the order of `QUALITIES`; NaN where it failed, or a number is not defined.
    """

    success: Bool[np.ndarray, " N"]
    quality: Float[np.ndarray, "N 3"]

    def summary(self) -> ScoreSummary:
        """Returns the success rate and the means."""
        rate = SuccessRate(int(self.success.sum()), len(self.success))
        means = {name: _mean(column) for name, column in zip(QUALITIES, self.quality.T, strict=True)}
        return ScoreSummary(rate, **means)


def make_score(rows: Float[np.ndarray, "N 4"]) -> Score:
    """Makes a score of the rows of `score_trials`."""
    success = rows[:, 0] > 0
    return Score(success, np.where(success[:, None], rows[:, 1:], np.nan))


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
    interval = bootstrap_mean(after[both] - before[both])
    return {
        "before": _mean(before[both]),
        "after": _mean(after[both]),
        "difference": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "trials": interval.count,
    }


def _mean(values: Float[np.ndarray, " N"]) -> float | None:
    """Returns the mean of the finite values; None if there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None
