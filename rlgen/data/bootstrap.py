"""Intervals of means by resampling."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

_BLOCK = 100  # resamples drawn at once


@dataclass(frozen=True)
class MeanInterval:
    """A mean over episodes with its bootstrap interval; all None if there was nothing to average.

    Attributes:
      mean: of the values that are finite.
      low: lower end.
      high: upper end.
      count: how many values were finite.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        return asdict(self)


def bootstrap_mean(
    values: Float[np.ndarray, " N"], *, seed: int = 0, resamples: int = 2000, confidence: float = 0.95
) -> MeanInterval:
    """Percentile bootstrap interval of the mean; values that are not finite are left out."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return MeanInterval(None, None, None, 0)
    random = np.random.default_rng(seed)
    blocks = [min(_BLOCK, resamples - start) for start in range(0, resamples, _BLOCK)]
    drawn = (values[random.integers(len(values), size=(block, len(values)))] for block in blocks)
    means = np.concatenate([sample.mean(axis=1) for sample in drawn])
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return MeanInterval(float(values.mean()), float(low), float(high), len(values))
