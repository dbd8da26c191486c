"""Which episodes of several datasets go into one: without duplicates, the best of each task, in given shares."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlgen.data.jerk import mean_squared_jerk
from rlgen.data.rlds_episode import RldsEpisode
from rlgen.errors import UserError

Order = Literal["smoothest", "shortest"]


@dataclass(frozen=True)
class Choice:
    """An episode that may be chosen.

    Attributes:
      dataset: number of the dataset that it is in.
      number: of it in there.
      task: its instruction.
      steps: pairs of observation and action.
      jerk: mean squared jerk of the end-effector path, m²/s⁶; NaN for fewer than four steps.
      digest: SHA-256 of instruction, states and actions: the same in every format and at every size of pictures.
    """

    dataset: int
    number: int
    task: str
    steps: int
    jerk: float
    digest: str


def choice(dataset: int, number: int, episode: RldsEpisode) -> Choice:
    """What is known of an episode without its pictures."""
    total = hashlib.sha256(episode.language_instruction.encode())
    for values in (episode.state, episode.action):
        total.update(np.ascontiguousarray(values, np.float32).tobytes())
    jerk = mean_squared_jerk(np.asarray(episode.state[:, :3], float))
    return Choice(dataset, number, episode.language_instruction, len(episode), jerk, total.hexdigest())


def without_duplicates(choices: Sequence[Choice]) -> list[Choice]:
    """The first of all that are the same."""
    seen: dict[str, Choice] = {}
    for one in choices:
        seen.setdefault(one.digest, one)
    return list(seen.values())


def best_of_each_task(choices: Sequence[Choice], count: int, order: Order) -> list[Choice]:
    """The `count` smoothest or shortest episodes of each task, in the order in which they were given.

    Raises:
      UserError: `count` below 1.
    """
    if count < 1:
        raise UserError(f"the {count} {order} episodes a task: expected 1 or more")
    key: Callable[[Choice], tuple] = _smoothness if order == "smoothest" else lambda one: (one.steps, one.jerk)
    kept: set[str] = set()
    for task in dict.fromkeys(one.task for one in choices):
        ranked = sorted((one for one in choices if one.task == task), key=key)
        kept |= {f"{one.dataset} {one.number}" for one in ranked[:count]}
    return [one for one in choices if f"{one.dataset} {one.number}" in kept]


def in_shares(choices: Sequence[Choice], weights: Sequence[float]) -> list[Choice]:
    """As many episodes of each dataset as its weight says, the most that there are for, none of them twice.

    Of a dataset that has more than its share, tasks take turns.

    Raises:
      UserError: weights that are not positive, or not one for each dataset that has episodes.
    """
    numbers = range(len(weights))
    counts = [sum(one.dataset == number for one in choices) for number in numbers]
    if sum(counts) != len(choices) or not all(math.isfinite(w) and w > 0 for w in weights) or 0 in counts:
        raise UserError(f"weights {list(weights)} for datasets of {counts} episodes: expected a positive one for each")
    most = min(count / weight for count, weight in zip(counts, weights, strict=True))
    kept: list[Choice] = []
    for number, weight in enumerate(weights):
        mine = [one for one in choices if one.dataset == number]
        kept += _taking_turns(mine)[: max(1, math.floor(most * weight + 1e-9))]
    chosen = {(one.dataset, one.number) for one in kept}
    return [one for one in choices if (one.dataset, one.number) in chosen]


def _smoothness(one: Choice) -> tuple:
    return (math.isnan(one.jerk), one.jerk, one.steps)


def _taking_turns(choices: Sequence[Choice]) -> list[Choice]:
    """The first of every task, then the second of every task, and so on."""
    turn: dict[str, int] = {}
    keyed = []
    for one in choices:
        turn[one.task] = turn.get(one.task, -1) + 1
        keyed.append((turn[one.task], one))
    return [one for _, one in sorted(keyed, key=lambda pair: pair[0])]
