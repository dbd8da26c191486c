"""How much the actions of several episodes differ at the same fraction of their time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class ActionSpread:
    """Actions over normalised time across episodes.

    Attributes:
      time: P instants from 0 to 1.
      mean: action averaged over episodes.
      std: standard deviation over episodes.
    """

    time: Float[np.ndarray, " P"]
    mean: Float[np.ndarray, "P 7"]
    std: Float[np.ndarray, "P 7"]

    @property
    def average(self) -> Float[np.ndarray, " 7"]:
        """Standard deviation averaged over time, for each number of the action."""
        return self.std.mean(axis=0)

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of lists."""
        arrays = {"time": self.time, "mean": self.mean, "std": self.std, "average": self.average}
        return {name: values.tolist() for name, values in arrays.items()}


def action_spread(actions: Sequence[Float[np.ndarray, "T 7"]], points: int = 100) -> ActionSpread:
    """Resamples each episode to `points` instants linearly and compares the episodes at each of them."""
    time = np.linspace(0, 1, points)
    resampled = np.stack([_resample(np.asarray(episode, float), time) for episode in actions])
    return ActionSpread(time, resampled.mean(axis=0), resampled.std(axis=0))


def spread_within_tasks(
    actions: Sequence[Float[np.ndarray, "T 7"]], tasks: Sequence[str], points: int = 100
) -> ActionSpread:
    """`action_spread` of the episodes of each task, averaged over tasks: what differs between tasks is no spread."""
    groups = [
        [episode for episode, own in zip(actions, tasks, strict=True) if own == task] for task in dict.fromkeys(tasks)
    ]
    spreads = [action_spread(group, points) for group in groups]
    mean, std = (np.mean([getattr(spread, name) for spread in spreads], axis=0) for name in ("mean", "std"))
    return ActionSpread(spreads[0].time, mean, std)


def _resample(actions: Float[np.ndarray, "T 7"], time: Float[np.ndarray, " P"]) -> Float[np.ndarray, "P 7"]:
    own = np.linspace(0, 1, len(actions))
    return np.stack([np.interp(time, own, column) for column in actions.T], axis=1)
