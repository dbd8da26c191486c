"""Statistics that normalize a model's states and actions: openpi's `norm_stats.json`, and how they are computed."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from rlgen.core.errors import UserError
from rlgen.data.loader import Mixture, Subset
from rlgen.vla.model.config import NormalizationKind

FIELDS = ("mean", "std", "q01", "q99")
BINS = 5000
EPSILON = 1e-6
LARGEST_FLOAT = float(np.finfo(np.float32).max)
LIBERO_DELTA = (True,) * 6 + (False,)
"""The action dimensions from which the state is subtracted: the arm's six, not the gripper, which is absolute."""


@struct.dataclass
class Statistics:
    """Statistics of one vector over a dataset, by dimension."""

    mean: Float[np.ndarray, " D"]
    std: Float[np.ndarray, " D"]
    q01: Float[np.ndarray, " D"]
    q99: Float[np.ndarray, " D"]


@struct.dataclass
class NormStats:
    """The statistics that a model was trained with; they belong to its parameters."""

    state: Statistics
    actions: Statistics

    def to_json(self) -> dict[str, Any]:
        """Returns the content of openpi's `norm_stats.json`."""
        vectors = {"state": self.state, "actions": self.actions}
        lists = {name: {f: np.asarray(getattr(x, f)).tolist() for f in FIELDS} for name, x in vectors.items()}
        return {"norm_stats": lists}

    @classmethod
    def from_json(cls, value: Any) -> "NormStats":
        """Reads what `to_json` returns.

        Raises:
          UserError: something is missing, is not a list of finite numbers, or cannot be a statistic.
        """
        found = value.get("norm_stats") if isinstance(value, dict) else None
        if not isinstance(found, dict):
            raise UserError("normalization statistics have no 'norm_stats' that holds 'state' and 'actions'")
        return cls(_statistics_of(found, "state"), _statistics_of(found, "actions"))


def _statistics_of(found: dict[str, Any], name: str) -> Statistics:
    """Reads the statistics of a vector, `state` or `actions`."""
    lists, where = found.get(name), f"normalization statistics: {name}"
    if not isinstance(lists, dict) or not set(FIELDS) <= set(lists):
        raise UserError(f"{where} does not hold {', '.join(FIELDS)}")
    fields = {field: _numbers(lists[field], f"{where}.{field}") for field in FIELDS}
    lengths = {field: len(x) for field, x in fields.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"{where} has lists of {lengths}, expected one length")
    stats = Statistics(**fields)
    if (stats.std < 0).any():
        raise UserError(f"{where}.std[{int(np.argmin(stats.std))}] is below 0, which no standard deviation is")
    if (stats.q01 > stats.q99).any():
        raise UserError(f"{where}.q01[{int(np.argmax(stats.q01 > stats.q99))}] is above q99 there")
    return stats


def _numbers(values: Any, where: str) -> Float[np.ndarray, " D"]:
    """Returns a list of finite numbers as an array."""
    if not isinstance(values, list) or not values:
        raise UserError(f"{where} is {'empty' if values == [] else type(values).__name__}, expected a list of numbers")
    for i, number in enumerate(values):
        # As float32, which is what the model computes with.
        if type(number) not in (int, float) or not abs(number) <= LARGEST_FLOAT:
            raise UserError(f"{where}[{i}] is {str(number)[:20]}, expected a finite number")
    return np.asarray(values, np.float32)


def normalize(stats: Statistics, x: Float[Array, "*B D"], kind: NormalizationKind = "zscore") -> Float[Array, "*B D"]:
    """Normalizes a vector: (x - mean) / std, or 2 (x - q01) / (q99 - q01) - 1, as openpi does.

    Args:
      stats: of D dimensions or more; the rest is ignored.
      x: NumPy's or JAX's.
      kind: `zscore` gives mean 0 and standard deviation 1, `quantile` puts 98 % of the values into [-1, 1].
    """
    size = x.shape[-1]
    if kind == "zscore":
        return (x - stats.mean[..., :size]) / (stats.std[..., :size] + EPSILON)
    low, high = stats.q01[..., :size], stats.q99[..., :size]
    return (x - low) / (high - low + EPSILON) * 2 - 1


def unnormalize(stats: Statistics, x: Float[Array, "*B D"], kind: NormalizationKind = "zscore") -> Float[Array, "*B D"]:
    """Inverts `normalize`.

    Args:
      stats: of any number of dimensions. Where `x` has more, the others have mean 0 and standard deviation 1
        (`zscore`) or stay as they are (`quantile`).
      x: NumPy's or JAX's.
      kind: as in `normalize`.
    """
    size, numpy = stats.mean.shape[-1], jnp if isinstance(x, jax.Array) else np
    known, beyond = x[..., :size], x[..., size:]
    if kind == "zscore":
        known = known * (stats.std[..., : x.shape[-1]] + EPSILON) + stats.mean[..., : x.shape[-1]]
        beyond = beyond * (1.0 + EPSILON)
    else:
        low, high = stats.q01[..., : x.shape[-1]], stats.q99[..., : x.shape[-1]]
        known = (known + 1) / 2 * (high - low + EPSILON) + low
    return numpy.concatenate([known, beyond], axis=-1)


def subtract_state(
    actions: Float[np.ndarray, "*B H A"], state: Float[np.ndarray, "*B S"], mask: tuple[bool, ...]
) -> Float[np.ndarray, "*B H A"]:
    """Turns absolute actions into differences from the state.

    Args:
      actions: chunks of H.
      state: at the beginning of each chunk.
      mask: dimensions that change; those behind its end do not.
    """
    return actions - _masked_state(actions, state, mask)


def add_state(
    actions: Float[np.ndarray, "*B H A"], state: Float[np.ndarray, "*B S"], mask: tuple[bool, ...]
) -> Float[np.ndarray, "*B H A"]:
    """Inverts `subtract_state`.

    Args:
      actions: chunks of H.
      state: at the beginning of each chunk.
      mask: dimensions that change; those behind its end do not.
    """
    return actions + _masked_state(actions, state, mask)


def _masked_state(actions: np.ndarray, state: np.ndarray, mask: tuple[bool, ...]) -> np.ndarray:
    out = np.zeros((*actions.shape[:-2], 1, actions.shape[-1]), actions.dtype)
    out[..., 0, : len(mask)] = np.where(mask, state[..., : len(mask)], 0)
    return out


def pad_last(x: Float[np.ndarray, "*B D"], size: int) -> Float[np.ndarray, "*B size"]:
    """Pads the last axis with zeros up to `size`."""
    if x.shape[-1] > size:
        raise ValueError(f"{x.shape[-1]} dimensions do not fit a model of action_size {size}")
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])])


def mixture_statistics(mixture: Mixture, horizon: int, *, delta: bool) -> NormStats:
    """Computes the statistics of the states and actions that are trained on.

    Args:
      mixture: the data.
      horizon: actions in a chunk; matters only with `delta`.
      delta: whether the model learns actions minus the state.
    """
    parts = [(_subset_statistics(subset, horizon, delta), subset.weight) for subset in mixture.subsets]
    return parts[0][0] if len(parts) == 1 else combine(parts)


def _subset_statistics(subset: Subset, horizon: int, delta: bool) -> NormStats:
    table = subset.frames.table
    state, actions = table.state[subset.index], table.action[subset.index]
    if delta:
        chunk, _ = table.chunks(subset.index, horizon)
        actions = subtract_state(chunk, state, LIBERO_DELTA).reshape(-1, chunk.shape[-1])
    return NormStats(statistics(state), statistics(actions))


def statistics(values: Float[np.ndarray, "F D"]) -> Statistics:
    """Computes mean, standard deviation and the 1 % and 99 % quantiles of each dimension, in float64."""
    values = np.asarray(values, np.float64)
    low, high = np.quantile(values, [0.01, 0.99], axis=0)
    return Statistics(*(np.float32(x) for x in (values.mean(0), values.std(0), low, high)))


def combine(parts: Sequence[tuple[NormStats, float]]) -> NormStats:
    """Combines the statistics of datasets by weight: exact mean and standard deviation, the widest quantiles.

    Quantiles of a mixture do not follow from those of its parts; the widest keep everything inside [-1, 1].
    """
    total = sum(weight for _, weight in parts)

    def combined(name: str) -> Statistics:
        vectors = [(getattr(stats, name), weight / total) for stats, weight in parts]
        mean = sum(w * np.asarray(s.mean, np.float64) for s, w in vectors)
        square = sum(w * (np.square(s.std, dtype=np.float64) + np.square(s.mean - mean)) for s, w in vectors)
        low = np.min([s.q01 for s, _ in vectors], axis=0)
        high = np.max([s.q99 for s, _ in vectors], axis=0)
        return Statistics(*(np.float32(x) for x in (mean, np.sqrt(square), low, high)))

    return NormStats(combined("state"), combined("actions"))


class RunningStatistics:
    """The statistics of batches that come one after the other, as openpi computes them.

    Quantiles are left edges of the bins of a histogram of 5,000. Where a batch is wider than all before it, the bins
    are stretched and what was counted is counted again at its old left edges, so that the result depends a
    little on the order.
    """

    def __init__(self) -> None:
        self._count = 0

    def update(self, batch: Float[np.ndarray, "*F D"]) -> None:
        """Adds the rows of `batch`."""
        rows = np.asarray(batch, np.float64).reshape(-1, np.shape(batch)[-1])
        low, high = rows.min(0), rows.max(0)
        if self._count == 0:
            self._mean, self._square = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
            self._low, self._high = low, high
            self._edges = [np.linspace(a - 1e-10, b + 1e-10, BINS + 1) for a, b in zip(low, high, strict=True)]
            self._counts = [np.zeros(BINS) for _ in low]
        elif (low < self._low).any() or (high > self._high).any():
            self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
            self._stretch()
        self._count += len(rows)
        self._mean += (rows.mean(0) - self._mean) * (len(rows) / self._count)
        self._square += (np.square(rows).mean(0) - self._square) * (len(rows) / self._count)
        for counts, edges, column in zip(self._counts, self._edges, rows.T, strict=True):
            counts += np.histogram(column, edges)[0]

    def result(self) -> Statistics:
        """Returns the statistics of all rows so far, in float64.

        Raises:
          ValueError: fewer than two rows.
        """
        if self._count < 2:
            raise ValueError(f"statistics of {self._count} rows: expected 2 or more")
        std = np.sqrt(np.maximum(0, self._square - np.square(self._mean)))
        return Statistics(self._mean.copy(), std, self._quantile(0.01), self._quantile(0.99))

    def _stretch(self) -> None:
        for i, (a, b) in enumerate(zip(self._low, self._high, strict=True)):
            edges = np.linspace(a, b, BINS + 1)
            self._counts[i] = np.histogram(self._edges[i][:-1], edges, weights=self._counts[i])[0]
            self._edges[i] = edges

    def _quantile(self, q: float) -> Float[np.ndarray, " D"]:
        rank = q * self._count
        pairs = zip(self._counts, self._edges, strict=True)
        return np.array([edges[np.searchsorted(np.cumsum(counts), rank)] for counts, edges in pairs])
