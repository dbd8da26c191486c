"""The statistics that a training normalizes with: its data's own, or given ones, with ranges that fit the data.

The rule, for every number of states and actions, z-scores and quantiles, given statistics and computed ones: a number
is normalized by (x - center) / half, where center and half are mean and standard deviation, or the middle and half the
distance of the quantiles. Half is too small where

* it is below `CONSTANT`: the number stood still;
* the quantiles lie closer together than a standard deviation: what moves is among the 2 % outside of them;
* a value of the data, held out or not, would be normalized to more than `LARGEST`.

Such a number is normalized by its mean and the largest of its standard deviation, `FLOOR`, and a tenth of the distance
of the farthest value. The changed statistics are stored as the model's, so that serving, here or by openpi, inverts
just what was trained on. All other numbers keep their statistics to the last bit, and so do models that are opened.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from flax import struct
from jaxtyping import Float

from rlgen.core.errors import UserError
from rlgen.data.loader import Mixture, Subset
from rlgen.vla.data.normalize import LIBERO_DELTA, NormStats, Statistics, mixture_statistics, subtract_state
from rlgen.vla.data.spec import InputSpec, check_widths, has_other_gripper, make_tokenizer
from rlgen.vla.model.config import NormalizationKind, VlaConfig

CONSTANT = 1e-4
FLOOR = 1e-2
LARGEST = 100.0
"""Of the data's own z-scores none is larger where there are fewer than 10,000 frames."""
WIDENED = 10.0
"""The largest normalized value of a number whose statistics were changed."""
FLOAT32 = 1e-5
"""Half is never below this fraction of the center, so that float32 can tell them apart."""
BEYOND = 1e30
"""No state and no action is as large, and squares of larger numbers leave float32."""
BLOCK = 4096
"""Frames whose differences from the state are in memory at once."""


@struct.dataclass
class Extent:
    """The smallest and the largest value of each number of a vector."""

    low: Float[np.ndarray, " D"]
    high: Float[np.ndarray, " D"]


def training_statistics(
    config: VlaConfig,
    spec: InputSpec,
    mixture: Mixture,
    held_out: Mixture | None = None,
    given: NormStats | None = None,
) -> tuple[NormStats, list[str]]:
    """Returns the statistics to train with, and notes on the data for the user.

    Args:
      config: the model.
      spec: its transforms.
      mixture: the data to train on.
      held_out: the data to validate on.
      given: statistics to use; by default they are computed from the data to train on.

    Raises:
      UserError: states or actions of other widths than those of the robot of `spec`, or a number that is not finite
        or far too large.
    """
    subsets = [*mixture.subsets, *(held_out.subsets if held_out else ())]
    extents = data_extents(config, spec, subsets)
    stats = mixture_statistics(mixture, config.horizon, delta=spec.delta) if given is None else given
    cut = make_tokenizer(spec, config).describe_cut(mixture.prompts)
    vectors, notes = {}, [*([] if cut is None else [cut]), *state_notes(spec, subsets), *action_notes(spec, subsets)]
    for name, extent in extents.items():
        vectors[name], changed = fitted(getattr(stats, name), extent, spec.normalization)
        notes += [f"{name}[{i}]: {text}" for i, text in changed]
    return NormStats(**vectors), notes


def data_extents(config: VlaConfig, spec: InputSpec, subsets: Sequence[Subset]) -> dict[str, Extent]:
    """Returns the extents of the states and actions of datasets, as they are normalized.

    Args:
      config: the model.
      spec: its transforms.
      subsets: the data.

    Raises:
      UserError: as of `training_statistics`.
    """
    for subset in subsets:
        table = subset.frames.table
        check_widths(table.state.shape[-1], table.action.shape[-1], "the data", spec.robot)
    extents = {
        name: _extent(rows for subset in subsets for rows in _vectors(subset, name, config.horizon, spec.delta))
        for name in ("state", "actions")
    }
    for name, extent in extents.items():
        _check_extent(extent, name)
    return extents


def fitted(stats: Statistics, extent: Extent, kind: NormalizationKind) -> tuple[Statistics, list[tuple[int, str]]]:
    """Applies the rule above.

    Args:
      stats: of a vector.
      extent: of all data that they are to normalize.
      kind: how they normalize.

    Returns:
      The statistics, and the index of each number that was changed, with what was done to it.
    """
    mean, std, low, high = (np.asarray(x, np.float64) for x in (stats.mean, stats.std, stats.q01, stats.q99))
    center, half = (mean, std) if kind == "zscore" else ((low + high) / 2, (high - low) / 2)
    poor = (half < np.maximum(CONSTANT, FLOAT32 * np.abs(center))) | (_reach(extent, center) > LARGEST * half)
    if kind == "quantile":
        poor |= 2 * half < std
    wide = np.maximum(std, floors(stats, extent))
    if kind == "zscore":
        out = stats.replace(std=_where(poor, wide, stats.std))
    else:
        out = stats.replace(q01=_where(poor, mean - wide, stats.q01), q99=_where(poor, mean + wide, stats.q99))
    return out, [(int(i), _change(stats, out, extent, kind, i)) for i in np.flatnonzero(poor)]


def floors(stats: Statistics, extent: Extent) -> Float[np.ndarray, " D"]:
    """Returns what a number that hardly varies is normalized with at least; arguments as of `fitted`."""
    mean = np.asarray(stats.mean, np.float64)
    return np.max([np.full_like(mean, FLOOR), FLOAT32 * np.abs(mean), _reach(extent, mean) / WIDENED], axis=0)


def state_notes(spec: InputSpec, subsets: list[Subset]) -> list[str]:
    """Returns what is unusual about the states of datasets, for a robot of LIBERO's; nothing for another."""
    if not spec.robot.is_libero:
        return []
    lengths = _extent(
        np.linalg.norm(subset.frames.table.state[subset.index, 3:7], axis=-1, keepdims=True) for subset in subsets
    )
    if max(abs(lengths.low[0] - 1), abs(lengths.high[0] - 1)) > 1e-3:
        return []
    return [
        "state[3] to state[6] have length 1, as a quaternion has; LIBERO's states are position, axis-angle and two "
        "fingers, and `rlgen eval` gives the model these"
    ]


def action_notes(spec: InputSpec, subsets: list[Subset]) -> list[str]:
    """Returns what is unusual about the actions of datasets, for a robot of LIBERO's; nothing for another."""
    if not spec.robot.is_libero:
        return []
    extent, notes = _extent(subset.frames.table.action[subset.index] for subset in subsets), []
    if has_other_gripper(extent.low[-1], extent.high[-1]):
        notes.append(
            f"actions[{len(extent.low) - 1}], the gripper, goes from {extent.low[-1]:g} to {extent.high[-1]:g}; in "
            "LIBERO -1 opens it and 1 closes it, and `rlgen eval` refuses the model as it is"
        )
    largest = np.maximum(np.abs(extent.low), np.abs(extent.high))
    for i in np.flatnonzero(largest > 1 + 1e-6) if spec.actions == "relative" else ():
        notes.append(
            f"actions[{i}] reaches {largest[i]:g}; LIBERO's relative actions lie in [-1, 1], as it executes them"
        )
    return notes


def _vectors(subset: Subset, name: str, horizon: int, delta: bool) -> Iterator[Float[np.ndarray, "F D"]]:
    """Yields the states or the actions of a subset as they are normalized."""
    table = subset.frames.table
    if name == "state":
        yield table.state[subset.index]
    elif not delta:
        yield table.action[subset.index]
    else:
        for start in range(0, len(subset.index), BLOCK):
            index = subset.index[start : start + BLOCK]
            chunk, _ = table.chunks(index, horizon)
            yield subtract_state(chunk, table.state[index], LIBERO_DELTA).reshape(-1, chunk.shape[-1])


def _extent(vectors: Iterator[Float[np.ndarray, "F D"]]) -> Extent:
    pairs = [(rows.min(0), rows.max(0)) for rows in vectors]
    lows, highs = (np.asarray(part, np.float64) for part in zip(*pairs, strict=True))
    return Extent(lows.min(0), highs.max(0))


def _check_extent(extent: Extent, name: str) -> None:
    for i in np.flatnonzero(~(np.maximum(np.abs(extent.low), np.abs(extent.high)) < BEYOND)):
        raise UserError(
            f"{name}[{i}] of the data goes from {extent.low[i]:g} to {extent.high[i]:g}, expected finite numbers of a "
            "robot's size; repair the data first"
        )


def _reach(extent: Extent, center: Float[np.ndarray, " D"]) -> Float[np.ndarray, " D"]:
    """Returns the distance of the farthest value from the center."""
    return np.maximum(extent.high - center, center - extent.low)


def _where(poor: np.ndarray, wide: np.ndarray, old: np.ndarray) -> Float[np.ndarray, " D"]:
    return np.where(poor, wide.astype(np.float32), old)


def _change(old: Statistics, new: Statistics, extent: Extent, kind: NormalizationKind, i: int) -> str:
    values = f"values from {extent.low[i]:.6g} to {extent.high[i]:.6g}"
    if kind == "zscore":
        return f"a standard deviation of {old.std[i]:.3g} is too small for {values}; normalized with {new.std[i]:.3g}"
    before, after = (f"{stats.q01[i]:.6g} and {stats.q99[i]:.6g}" for stats in (old, new))
    return f"quantiles of {before} are too close together for {values}; normalized with {after}"
