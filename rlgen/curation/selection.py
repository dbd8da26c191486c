"""Selection of episodes when datasets are merged.

It has three steps (`select`): remove duplicates, keep the best episodes of each task, and take episodes of each dataset
in proportion to its weight, so many of each task where there is a limit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rlgen.core.errors import UserError

Order = Literal["smoothest", "shortest"]


@dataclass(frozen=True)
class SelectionRule:
    """The rule by which episodes of several datasets are selected.

    Attributes:
      weights: relative number of episodes from each dataset; by default all episodes are taken.
      episodes: number of episodes of each task in the result, of all datasets together; None for no limit. Without
        weights all datasets have the same.
      keep: maximum number of episodes of each task, the best of them; None keeps all.
      order: which are the best.
      duplicates: keep duplicates.
    """

    weights: tuple[float, ...] = ()
    episodes: int | None = None
    keep: int | None = None
    order: Order = "smoothest"
    duplicates: bool = False

    def __str__(self) -> str:
        first = "" if self.episodes is None else f"{self.episodes} of each task, the first of "
        best = "all" if self.keep is None else f"the {self.keep} {self.order} of each task"
        return first + best + (", duplicates kept" if self.duplicates else ", without duplicates")


@dataclass(frozen=True)
class EpisodeSummary:
    """The properties of an episode that decide whether it is selected.

    Attributes:
      dataset: index of its dataset.
      index: of the episode in its dataset.
      task: its instruction.
      steps: number of pairs of observation and action.
      jerk: mean squared jerk of the end-effector path, m²/s⁶; NaN for fewer than four steps.
      digest: SHA-256 of instruction, states and actions: equal in every format and at every image size.
    """

    dataset: int
    index: int
    task: str
    steps: int
    jerk: float
    digest: str


def select(summaries: Sequence[EpisodeSummary], selection: SelectionRule) -> list[EpisodeSummary]:
    """Returns the selected episodes, in the order in which they are given."""
    selected = list(summaries) if selection.duplicates else without_duplicates(summaries)
    if selection.keep is not None:
        selected = best_of_each_task(selected, selection.keep, selection.order)
    if selection.episodes is None:
        return in_proportion(selected, selection.weights) if selection.weights else selected
    weights = selection.weights or (1.0,) * (1 + max(one.dataset for one in selected))
    return of_each_task(selected, weights, selection.episodes)


def without_duplicates(summaries: Sequence[EpisodeSummary]) -> list[EpisodeSummary]:
    """Returns the first of all episodes with the same digest."""
    first: dict[str, EpisodeSummary] = {}
    for one in summaries:
        first.setdefault(one.digest, one)
    return list(first.values())


def best_of_each_task(summaries: Sequence[EpisodeSummary], count: int, order: Order) -> list[EpisodeSummary]:
    """Returns the best episodes of each task, in the order in which they are given.

    Args:
      summaries: of all episodes.
      count: maximum number of episodes of a task.
      order: `smoothest` prefers a small jerk, `shortest` few steps.

    Raises:
      UserError: `count` below 1.
    """
    if count < 1:
        raise UserError(f"the {count} {order} episodes a task: expected 1 or more")
    key: Callable[[EpisodeSummary], tuple] = _smoothness if order == "smoothest" else lambda one: (one.steps, one.jerk)
    kept: set[tuple[int, int]] = set()
    for task in dict.fromkeys(one.task for one in summaries):
        ranked = sorted((one for one in summaries if one.task == task), key=key)
        kept |= {(one.dataset, one.index) for one in ranked[:count]}
    return [one for one in summaries if (one.dataset, one.index) in kept]


def in_proportion(summaries: Sequence[EpisodeSummary], weights: Sequence[float]) -> list[EpisodeSummary]:
    """Returns episodes of each dataset in proportion to its weight, as many as possible without repeating any.

    From a dataset with more episodes than that, tasks take turns.

    Raises:
      UserError: weights that are not positive, or not one for each dataset that has episodes.
    """
    counts = _counts(summaries, weights)
    per_weight = min(count / weight for count, weight in zip(counts, weights, strict=True))
    kept: set[tuple[int, int]] = set()
    for dataset, weight in enumerate(weights):
        of_dataset = [one for one in summaries if one.dataset == dataset]
        count = max(1, math.floor(per_weight * weight + 1e-9))
        kept |= {(one.dataset, one.index) for one in _taking_turns(of_dataset)[:count]}
    return [one for one in summaries if (one.dataset, one.index) in kept]


def of_each_task(summaries: Sequence[EpisodeSummary], weights: Sequence[float], count: int) -> list[EpisodeSummary]:
    """Returns so many episodes of each task, of each dataset in proportion to its weight, those that come first.

    Remainders go to the datasets with the largest ones, so that every task has `count`.

    Args:
      summaries: of all episodes.
      weights: a positive one for each dataset.
      count: episodes of a task.

    Raises:
      UserError: a dataset has too few episodes of a task, or as `in_proportion`.
    """
    _counts(summaries, weights)
    whole = [count * weight / sum(weights) for weight in weights]
    shares = [math.floor(share + 1e-9) for share in whole]
    for dataset in sorted(range(len(weights)), key=lambda index: shares[index] - whole[index])[: count - sum(shares)]:
        shares[dataset] += 1
    kept: set[tuple[int, int]] = set()
    for task in dict.fromkeys(one.task for one in summaries):
        for dataset, share in enumerate(shares):
            found = [one for one in summaries if one.task == task and one.dataset == dataset][:share]
            if len(found) < share:
                raise UserError(f"{share} episodes of {task!r} from dataset {dataset + 1}: it has {len(found)}")
            kept |= {(one.dataset, one.index) for one in found}
    return [one for one in summaries if (one.dataset, one.index) in kept]


def _counts(summaries: Sequence[EpisodeSummary], weights: Sequence[float]) -> list[int]:
    """Returns the number of episodes of each dataset; raises where weights make no sense for them."""
    counts = [sum(one.dataset == dataset for one in summaries) for dataset in range(len(weights))]
    if sum(counts) != len(summaries) or not all(math.isfinite(w) and w > 0 for w in weights) or 0 in counts:
        raise UserError(f"weights {list(weights)} for datasets of {counts} episodes: expected a positive one for each")
    return counts


def _smoothness(one: EpisodeSummary) -> tuple:
    return (math.isnan(one.jerk), one.jerk, one.steps)


def _taking_turns(summaries: Sequence[EpisodeSummary]) -> list[EpisodeSummary]:
    """Returns the first episode of every task, then the second of every task, and so on."""
    turn: dict[str, int] = {}
    keyed = []
    for one in summaries:
        turn[one.task] = turn.get(one.task, -1) + 1
        keyed.append((turn[one.task], one))
    return [one for _, one in sorted(keyed, key=lambda pair: pair[0])]
