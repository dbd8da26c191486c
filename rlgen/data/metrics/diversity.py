"""Diversity of a set of episodes: of their actions over normalized time, and of their end-effector paths.

Episodes are of different lengths, so they are resampled to the same number of instants (`resample`) and compared at
equal fractions of their duration. Only episodes of the same task are compared with each other.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from rlgen.core.stats import MeanInterval, bootstrap_mean

ACTION_POINTS = 100
PATH_POINTS = 50
MIN_SILHOUETTE = 0.3  # clusters below it do not count as different ways
MAX_WAYS = 4


def resample(values: Float[np.ndarray, "T D"], points: int) -> Float[np.ndarray, "P D"]:
    """Interpolates a sequence linearly at `points` equally spaced instants of its duration."""
    values = np.asarray(values, float)
    time, own = np.linspace(0, 1, points), np.linspace(0, 1, len(values))
    return np.stack([np.interp(time, own, column) for column in values.T], axis=1)


@dataclass(frozen=True)
class ActionDistribution:
    """Mean and standard deviation over episodes of the actions at each instant of normalized time.

    Attributes:
      time: P instants from 0 to 1.
      mean: over episodes.
      std: standard deviation over episodes.
    """

    time: Float[np.ndarray, " P"]
    mean: Float[np.ndarray, "P 7"]
    std: Float[np.ndarray, "P 7"]

    @property
    def average_std(self) -> Float[np.ndarray, " 7"]:
        """Returns the standard deviation averaged over time, for each number of an action."""
        return self.std.mean(axis=0)

    def to_json(self) -> dict[str, Any]:
        """Returns a dictionary of lists."""
        arrays = {"time": self.time, "mean": self.mean, "std": self.std, "average": self.average_std}
        return {name: values.tolist() for name, values in arrays.items()}


def action_distribution(actions: Sequence[Float[np.ndarray, "T 7"]], points: int = ACTION_POINTS) -> ActionDistribution:
    """Computes the distribution over several episodes, at `points` instants."""
    resampled = np.stack([resample(episode, points) for episode in actions])
    return ActionDistribution(np.linspace(0, 1, points), resampled.mean(axis=0), resampled.std(axis=0))


def action_distribution_within_tasks(
    actions: Sequence[Float[np.ndarray, "T 7"]], tasks: Sequence[str]
) -> ActionDistribution:
    """Computes the distribution over the episodes of each task, averaged over tasks.

    Differences between tasks then do not add to the standard deviation.
    """
    groups = [
        [episode for episode, own in zip(actions, tasks, strict=True) if own == task] for task in dict.fromkeys(tasks)
    ]
    parts = [action_distribution(group) for group in groups]
    mean, std = (np.mean([getattr(part, name) for part in parts], axis=0) for name in ("mean", "std"))
    return ActionDistribution(parts[0].time, mean, std)


@dataclass(frozen=True)
class PathDiversity:
    """Diversity of end-effector paths within tasks, averaged over episodes or tasks.

    Attributes:
      distance: mean distance to the paths of the other episodes of the task at equal fractions of their duration,
        metres; the interval is over episodes. None if every task has one episode.
      ways: number of clusters of paths, averaged over the tasks of three episodes or more: the number from 2 to 4 for
        which k-means has the highest silhouette, if that is above 0.3, otherwise 1. None if no task has three.
    """

    distance: MeanInterval
    ways: float | None

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a dictionary of JSON values."""
        return asdict(self)


def path_diversity(positions: Sequence[Float[np.ndarray, "T 3"]], tasks: Sequence[str]) -> PathDiversity:
    """Computes the diversity of paths (metres), each compared with those of the same task."""
    paths = np.stack([resample(position, PATH_POINTS) for position in positions])
    labels = np.array(tasks)
    distances, ways = np.full(len(paths), np.nan), []
    for task in dict.fromkeys(tasks):
        chosen = np.flatnonzero(labels == task)
        if len(chosen) > 1:
            between = path_distances(paths[chosen])
            distances[chosen] = between.sum(1) / (len(chosen) - 1)
            if len(chosen) > 2:
                ways.append(count_ways(between, paths[chosen]))
    return PathDiversity(bootstrap_mean(distances), float(np.mean(ways)) if ways else None)


def path_distances(paths: Float[np.ndarray, "N P 3"]) -> Float[np.ndarray, "N N"]:
    """Returns the mean distance of each two paths at equal instants, in the unit of the paths."""
    rows = [np.linalg.norm(paths - path, axis=2).mean(1) for path in paths]
    return np.stack(rows)


def count_ways(distances: Float[np.ndarray, "N N"], paths: Float[np.ndarray, "N P 3"]) -> int:
    """Returns the number of clusters of at least three paths, as `PathDiversity.ways` defines it."""
    from scipy.cluster.vq import kmeans2

    best, ways = MIN_SILHOUETTE, 1
    flat = paths.reshape(len(paths), -1)
    if np.allclose(flat, flat[0]):
        return 1
    for clusters in range(2, min(MAX_WAYS, len(paths) - 1) + 1):
        _, labels = kmeans2(flat, clusters, seed=0, minit="++", missing="warn")
        score = silhouette(distances, labels)
        if score > best:
            best, ways = score, len(np.unique(labels))
    return ways


def silhouette(distances: Float[np.ndarray, "N N"], labels: Int[np.ndarray, " N"]) -> float:
    """Computes the mean silhouette of clusters, in [-1, 1]; -1 if there is only one cluster.

    For one member, with the mean distance `a` to its own cluster and `b` to the nearest other one, it is
    `(b - a) / max(a, b)`, and 0 if it is alone in its cluster.

    Source: P. J. Rousseeuw, Silhouettes: a graphical aid to the interpretation and validation of cluster analysis,
    1987.
    """
    clusters = np.unique(labels)
    if len(clusters) < 2:
        return -1.0
    scores = []
    for index, label in enumerate(labels):
        own = labels == label
        if own.sum() == 1:
            scores.append(0.0)
            continue
        inside = distances[index][own].sum() / (own.sum() - 1)
        outside = min(distances[index][labels == other].mean() for other in clusters if other != label)
        scores.append((outside - inside) / max(inside, outside, 1e-12))
    return float(np.mean(scores))
