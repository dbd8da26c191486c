"""How much the actions of several episodes differ at the same fraction of their time."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from rlgen.core.stats import MeanInterval, bootstrap_mean


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


POINTS = 50
CLEAR = 0.3  # a silhouette above which clusters count as different ways
MOST_WAYS = 4


@dataclass(frozen=True)
class PathDiversity:
    """Diversity of end-effector paths within tasks, averaged over episodes or tasks.

    Attributes:
      distance: mean distance between the paths of two episodes of a task at the same share of their time, metres,
        averaged over the other episodes; the interval is over episodes. None for tasks of one episode.
      ways: clusters of paths, averaged over the tasks of three episodes or more: those of k-means with the highest
        silhouette, 2 to 4, where that is above 0.3, else one. None where no task has three.
    """

    distance: MeanInterval
    ways: float | None

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        return asdict(self)


def path_diversity(
    positions: Sequence[Float[np.ndarray, "T 3"]], tasks: Sequence[str], *, seed: int = 0
) -> PathDiversity:
    """Diversity of paths (metres), each compared with those of the same task; `seed` is the bootstrap's."""
    paths = np.stack([resample(position) for position in positions])
    labels = np.array(tasks)
    distances, ways = np.full(len(paths), np.nan), []
    for task in dict.fromkeys(tasks):
        chosen = np.flatnonzero(labels == task)
        if len(chosen) > 1:
            between = path_distances(paths[chosen])
            distances[chosen] = between.sum(1) / (len(chosen) - 1)
            if len(chosen) > 2:
                ways.append(count_ways(between, paths[chosen]))
    return PathDiversity(bootstrap_mean(distances, seed=seed), float(np.mean(ways)) if ways else None)


def resample(position: Float[np.ndarray, "T 3"], points: int = POINTS) -> Float[np.ndarray, "P 3"]:
    """A path at equally spaced shares of its time."""
    position = np.asarray(position, float)
    time, own = np.linspace(0, 1, points), np.linspace(0, 1, len(position))
    return np.stack([np.interp(time, own, column) for column in position.T], axis=1)


def path_distances(paths: Float[np.ndarray, "N P 3"]) -> Float[np.ndarray, "N N"]:
    """Mean distance between each two paths at the same share of their time, metres."""
    rows = [np.linalg.norm(paths - path, axis=2).mean(1) for path in paths]
    return np.stack(rows)


def count_ways(distances: Float[np.ndarray, "N N"], paths: Float[np.ndarray, "N P 3"]) -> int:
    """Clusters of at least three paths, as `PathDiversity.ways` defines them."""
    from scipy.cluster.vq import kmeans2

    best, ways = CLEAR, 1
    flat = paths.reshape(len(paths), -1)
    if np.allclose(flat, flat[0]):
        return 1
    for clusters in range(2, min(MOST_WAYS, len(paths) - 1) + 1):
        _, labels = kmeans2(flat, clusters, seed=0, minit="++", missing="warn")
        score = silhouette(distances, labels)
        if score > best:
            best, ways = score, len(np.unique(labels))
    return ways


def silhouette(distances: Float[np.ndarray, "N N"], labels: Int[np.ndarray, " N"]) -> float:
    """Mean silhouette of clusters (Rousseeuw 1987), in [-1, 1]; -1 where there is but one cluster."""
    kinds = np.unique(labels)
    if len(kinds) < 2:
        return -1.0
    scores = []
    for index, label in enumerate(labels):
        own = labels == label
        if own.sum() == 1:
            scores.append(0.0)
            continue
        inside = distances[index][own].sum() / (own.sum() - 1)
        outside = min(distances[index][labels == other].mean() for other in kinds if other != label)
        scores.append((outside - inside) / max(inside, outside, 1e-12))
    return float(np.mean(scores))
