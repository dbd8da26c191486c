"""Confidence intervals of success rates, of their differences and of means."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError


@dataclass(frozen=True)
class Interval:
    """A confidence interval, in the unit of what it bounds."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval, in one unit; NaN where there was nothing to average."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SuccessRate:
    """A number of successes among trials.

    Attributes:
      successes: number of successful trials, 0 to `trials`.
      trials: number of trials, at least 1.

    Raises:
      UserError: if there are no trials, or more successes than trials.
    """

    successes: int
    trials: int

    def __post_init__(self) -> None:
        _check_counts(self.successes, self.trials)

    @property
    def rate(self) -> float:
        """Fraction of successes, in [0, 1]."""
        return self.successes / self.trials

    @property
    def low(self) -> float:
        """Lower end of the 95 % Wilson interval."""
        return wilson(self.successes, self.trials).low

    @property
    def high(self) -> float:
        """Upper end of the 95 % Wilson interval."""
        return wilson(self.successes, self.trials).high

    def to_json(self) -> dict[str, int | float]:
        """Returns counts and 95 % Wilson interval, as `summary.json` holds them."""
        return {
            "successes": int(self.successes),
            "trials": int(self.trials),
            "low": self.low,
            "high": self.high,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, int | float]) -> "SuccessRate":
        """Reads what `to_json` wrote; the interval is computed again from the counts."""
        return cls(successes=int(value["successes"]), trials=int(value["trials"]))

    def __str__(self) -> str:
        low, high = 100 * self.low, 100 * self.high
        return f"{self.successes}/{self.trials} = {100 * self.rate:.0f} % ({low:.0f} to {high:.0f} %)"


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Computes Wilson's score interval of a proportion, without continuity correction.

    With k successes in n trials, p = k / n and z the two-sided quantile of the normal distribution:

        (p + z² / 2n ± z sqrt(p (1 - p) / n + z² / 4n²)) / (1 + z² / n)

    Args:
      successes: 0 to `trials`.
      trials: at least 1.
      confidence: in (0, 1), two-sided.

    Returns:
      Bounds in [0, 1]; exactly 0 below if nothing succeeded, exactly 1 above if nothing failed.

    Raises:
      UserError: counts or confidence outside their range.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    _check_counts(successes, trials)
    z = _two_sided_z(confidence)
    rate = successes / trials
    weight = 1 / (1 + z * z / trials)
    middle = weight * (rate + z * z / (2 * trials))
    reach = weight * z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    # Exact at the ends, where rounding would leave a value such as -1e-18.
    low = 0.0 if successes == 0 else max(0.0, middle - reach)
    high = 1.0 if successes == trials else min(1.0, middle + reach)
    return Interval(low, high)


def newcombe(first: SuccessRate, second: SuccessRate, confidence: float = 0.95) -> Interval:
    """Computes Newcombe's hybrid score interval of `first.rate - second.rate`, for independent samples.

    Args:
      first: the rate that is subtracted from.
      second: the rate that is subtracted.
      confidence: in (0, 1), two-sided.

    Returns:
      Bounds in [-1, 1].

    Raises:
      UserError: a confidence outside its range.

    Source: R. G. Newcombe, Interval estimation for the difference between independent proportions, 1998,
    method 10.
    """
    one = wilson(first.successes, first.trials, confidence)
    two = wilson(second.successes, second.trials, confidence)
    difference = first.rate - second.rate
    return Interval(
        difference - math.hypot(first.rate - one.low, two.high - second.rate),
        difference + math.hypot(one.high - first.rate, second.rate - two.low),
    )


def _check_counts(successes: int, trials: int) -> None:
    if trials < 1:
        raise UserError(f"a success rate of {trials} trials: expected at least 1; run at least one episode")
    if not 0 <= successes <= trials:
        raise UserError(f"{successes} successes in {trials} trials: expected between 0 and {trials}")


def _two_sided_z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise UserError(f"confidence {confidence}: expected a number between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf((1 + confidence) / 2)


_BLOCK = 100  # resamples at once, which bounds the memory


@dataclass(frozen=True)
class MeanInterval:
    """A mean over episodes with its bootstrap interval; mean and interval are None if there was nothing to average.

    Attributes:
      mean: of the finite values.
      low: lower end of the interval.
      high: upper end of the interval.
      count: number of finite values.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON values, by name."""
        return asdict(self)


def bootstrap_mean(
    values: Float[np.ndarray, " N"], *, seed: int = 0, resamples: int = 2000, confidence: float = 0.95
) -> MeanInterval:
    """Computes the percentile bootstrap interval of a mean.

    Args:
      values: those that are not finite are left out.
      seed: of the resampling.
      resamples: number of resamples with replacement.
      confidence: in (0, 1), two-sided.

    Source: B. Efron, Bootstrap methods: another look at the jackknife, 1979.
    """
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return MeanInterval(None, None, None, 0)
    random = np.random.default_rng(seed)
    blocks = [min(_BLOCK, resamples - start) for start in range(0, resamples, _BLOCK)]
    samples = (values[random.integers(len(values), size=(block, len(values)))] for block in blocks)
    means = np.concatenate([sample.mean(axis=1) for sample in samples])
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return MeanInterval(float(values.mean()), float(low), float(high), len(values))
