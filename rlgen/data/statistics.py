"""Statistics of the states and actions of a dataset, in the forms that OpenVLA and openpi read."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

OPENVLA_MASK = "mask"


class HasStateAndAction(Protocol):
    """A `DatasetEpisode`, or anything else with a state and an action for each of T steps."""

    @property
    def state(self) -> Float[np.ndarray, "T S"]:
        """The state before each action."""
        ...

    @property
    def action(self) -> Float[np.ndarray, "T A"]:
        """The actions."""
        ...


@dataclass(frozen=True)
class StateAndAction:
    """The states and actions of an episode, without its images."""

    state: np.ndarray
    action: np.ndarray


@dataclass(frozen=True)
class Moments:
    """Statistics over all steps, one number for each of D columns; `std` divides by the number of steps."""

    mean: Float[np.ndarray, " D"]
    std: Float[np.ndarray, " D"]
    min: Float[np.ndarray, " D"]
    max: Float[np.ndarray, " D"]
    q01: Float[np.ndarray, " D"]
    q99: Float[np.ndarray, " D"]


@dataclass(frozen=True)
class DatasetStatistics:
    """Statistics of the states and actions of a dataset.

    Attributes:
      state: position, axis-angle, finger joints.
      action: as stored: gripper -1 opens and 1 closes.
      transitions: number of steps.
      trajectories: number of episodes.
    """

    state: Moments
    action: Moments
    transitions: int
    trajectories: int

    def openvla(self) -> dict[str, Any]:
        """Returns the entry of one dataset in OpenVLA's `dataset_statistics.json`.

        OpenVLA's LIBERO transform maps the gripper to 1 (open) and 0 (closed) before it computes statistics; so does
        this. `mask` is False for the gripper, which OpenVLA predicts as it is: without the mask its policies scale it.
        """
        action = _lists(_openvla_gripper(self.action), ("mean", "std", "max", "min", "q01", "q99"))
        width = len(self.action.mean)
        return {
            "action": {**action, OPENVLA_MASK: [column < width - 1 for column in range(width)]},
            "proprio": _lists(self.state, ("mean", "std", "max", "min", "q01", "q99")),
            "num_transitions": self.transitions,
            "num_trajectories": self.trajectories,
        }

    def openpi(self) -> dict[str, Any]:
        """Returns the content of openpi's `norm_stats.json`."""
        names = ("mean", "std", "q01", "q99")
        return {"norm_stats": {"state": _lists(self.state, names), "actions": _lists(self.action, names)}}


def dataset_statistics(episodes: Iterable[HasStateAndAction]) -> DatasetStatistics:
    """Computes the statistics of all steps of `episodes`, which are iterated over once."""
    pairs = [(np.asarray(episode.state), np.asarray(episode.action)) for episode in episodes]
    if not pairs:
        raise ValueError("no episodes to compute statistics of")
    states, actions = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return DatasetStatistics(moments(states), moments(actions), len(actions), len(pairs))


def moments(values: Float[np.ndarray, "N D"]) -> Moments:
    """Computes the statistics of the columns of `values`, in float64."""
    values = np.asarray(values, np.float64)
    q01, q99 = np.quantile(values, [0.01, 0.99], axis=0)
    return Moments(values.mean(axis=0), values.std(axis=0), values.min(axis=0), values.max(axis=0), q01, q99)


def _openvla_gripper(action: Moments) -> Moments:
    """Returns the statistics with the last column g replaced by `(1 - g) / 2`, so minimum and maximum are exchanged.

    For g of exactly -1 and 1, which exports guarantee, this equals OpenVLA's own clipping and inverting.
    """

    def changed(values: np.ndarray, source: np.ndarray) -> np.ndarray:
        return np.append(values[:-1], (1 - source[-1]) / 2)

    return Moments(
        mean=changed(action.mean, action.mean),
        std=np.append(action.std[:-1], action.std[-1] / 2),
        min=changed(action.min, action.max),
        max=changed(action.max, action.min),
        q01=changed(action.q01, action.q99),
        q99=changed(action.q99, action.q01),
    )


def _lists(values: Moments, names: tuple[str, ...]) -> dict[str, list[float]]:
    return {name: getattr(values, name).tolist() for name in names}
