"""Which episodes of several datasets go into one: without duplicates, the best of each task, in given shares."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rlgen.core.errors import UserError
from rlgen.curation.card import quality_facts
from rlgen.curation.validate import content_hash
from rlgen.data.card import CARD_JSON, read_card, write_card
from rlgen.data.dataset import open_dataset
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.array_record.format import ArrayRecordFormat
from rlgen.data.formats.lerobot.format import LeRobotFormat
from rlgen.data.formats.rlds.writer import RldsFormat
from rlgen.data.index import State, read_initial_states, write_initial_states
from rlgen.data.metrics.smoothness import mean_squared_jerk
from rlgen.data.shards import file_sha256, read_manifest
from rlgen.data.writer import Format, split_evenly, write_dataset

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


def choice(dataset: int, number: int, episode: DatasetEpisode) -> Choice:
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


MERGEABLE = ("rlds", "array_record", "lerobot")
_OF_EACH = ("policy", "success_rate", "initial_states", "seeds", "replay")
_SAME = ("mujoco", "assets", "view", "versions", "licence")


@dataclass(frozen=True)
class MergeOptions:
    """What is made of several datasets.

    Attributes:
      out: folder for the result.
      name: of it; by default that of the datasets, where they have the same.
      formats: of `MERGEABLE`; HDF5 would need the physics, which other datasets have not.
      weights: shares of the episodes, one for each dataset; all episodes by default.
      keep: at most so many episodes of each task; None keeps all.
      order: which of them.
      duplicates: keep episodes that are the same.
      version, shards, workers, overwrite: as for an export.
    """

    out: Path
    name: str | None = None
    formats: tuple[str, ...] = ("rlds",)
    weights: tuple[float, ...] = ()
    keep: int | None = None
    order: Order = "smoothest"
    duplicates: bool = False
    version: str = "1.0.0"
    shards: int = 8
    workers: int = 1
    overwrite: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in MERGEABLE]
        if unknown or not self.formats:
            raise UserError(f"formats {', '.join(self.formats) or 'none'}: expected some of {', '.join(MERGEABLE)}")


class Merged(Sequence[DatasetEpisode]):
    """The chosen episodes of several datasets, read when they are asked for."""

    def __init__(self, datasets: Sequence[Sequence[DatasetEpisode]], choices: Sequence[Choice]):
        self._datasets, self._choices = datasets, choices

    def __len__(self) -> int:
        return len(self._choices)

    def __getitem__(self, number: int) -> DatasetEpisode:
        chosen = self._choices[number]
        return self._datasets[chosen.dataset][chosen.number]


def merge_datasets(folders: Sequence[Path], options: MergeOptions, tell: Callable[[str, int, int], None]) -> list[Path]:
    """Writes one dataset of the chosen episodes of several, in every format, and returns the folders.

    Args:
      folders: of the datasets, of any format.
      options: which episodes, and what is made of them.
      tell: hears what is being done, how much of it is done, and of how much.

    Raises:
      UserError: datasets that do not fit together, a selection that makes no sense, or what `write_dataset` raises.
    """
    if options.weights and len(options.weights) != len(folders):
        raise UserError(f"{len(options.weights)} weights for {len(folders)} datasets: expected one for each")
    datasets = [open_dataset(folder) for folder in folders]
    size, name = _common_size(folders, datasets), options.name or _common_name(folders)
    choices = [
        choice(which, number, dataset[number])
        for which, dataset in enumerate(datasets)
        for number in _told(range(len(dataset)), f"reading {folders[which]}", tell)
    ]
    chosen = select(choices, options)
    merged, facts = Merged(datasets, chosen), _facts(folders, choices, chosen, options)
    known = [read_initial_states(folder, len(dataset)) for folder, dataset in zip(folders, datasets, strict=True)]
    begun = [known[one.dataset][one.number] for one in chosen]
    made = []
    with ThreadPoolExecutor(options.workers) as pool:
        for kind in options.formats:
            made.append(
                write_dataset(
                    options.out,
                    name,
                    merged,
                    _layout(kind, chosen, pool),
                    lengths=split_evenly(len(chosen), options.shards),
                    size=size,
                    version=options.version,
                    description=f"Merged from {', '.join(_title(folder) for folder in folders)}.",
                    fingerprint=content_hash([f"{one.dataset} {one.number} {one.digest}" for one in chosen]),
                    overwrite=options.overwrite,
                    progress=lambda done, total, kind=kind: tell(f"{name} as {kind}", done, total),
                    finish=lambda folder: _label(folder, facts, begun),
                )
            )
    return made


def select(choices: Sequence[Choice], options: MergeOptions) -> list[Choice]:
    """Without duplicates first, then the best of each task, then the shares."""
    chosen = list(choices) if options.duplicates else without_duplicates(choices)
    if options.keep is not None:
        chosen = best_of_each_task(chosen, options.keep, options.order)
    return in_shares(chosen, options.weights) if options.weights else chosen


def _label(folder: Path, facts: dict[str, Any], begun: Sequence[State | None]) -> None:
    write_initial_states(folder, begun)
    write_card(folder, facts | {"quality": quality_facts(folder)})


def _layout(kind: str, chosen: Sequence[Choice], pool: ThreadPoolExecutor) -> Format:
    if kind == "lerobot":
        return LeRobotFormat([one.task for one in chosen], pool)
    return {"rlds": RldsFormat, "array_record": ArrayRecordFormat}[kind](pool)


def _facts(
    folders: Sequence[Path], choices: Sequence[Choice], chosen: Sequence[Choice], options: MergeOptions
) -> dict[str, Any]:
    """What the card says: of each source what its own card says, and what was taken from it."""
    cards = [read_card(folder) if (folder / CARD_JSON).is_file() else {} for folder in folders]
    titles = [f"{number + 1}: {_title(folder)}" for number, folder in enumerate(folders)]

    def of_each(key: str) -> dict[str, Any]:
        return {title: card.get(key, "not told") for title, card in zip(titles, cards, strict=True)}

    tasks: dict[str, Counter] = {}
    for one in chosen:
        tasks.setdefault(one.task, Counter()).update(episodes=1, steps=one.steps)
    facts: dict[str, Any] = {
        key: of_each(key) for key in ("policy", "success_rate", "initial_states", "seeds", "replay")
    }
    for key in _SAME:
        values = of_each(key)
        same = all(value == values[titles[0]] for value in values.values())
        facts[key] = values[titles[0]] if same else values
    merged = {
        title: {
            "episodes": sum(one.dataset == number for one in choices),
            "taken": sum(one.dataset == number for one in chosen),
            "weight": options.weights[number] if options.weights else None,
            "card": file_sha256(folders[number] / CARD_JSON) if cards[number] else None,
        }
        for number, title in enumerate(titles)
    }
    how = "all" if options.keep is None else f"the {options.keep} {options.order} of each task"
    return {
        **facts,
        "tasks": {task: dict(counts) for task, counts in tasks.items()},
        "merged_from": merged,
        "selection": how + (", duplicates kept" if options.duplicates else ", without duplicates"),
    }


def _common_size(folders: Sequence[Path], datasets: Sequence[Sequence[DatasetEpisode]]) -> int:
    sizes = [dataset[0].image.shape[1] for dataset in datasets]
    if len(set(sizes)) != 1:
        told = ", ".join(f"{folder}: {size}" for folder, size in zip(folders, sizes, strict=True))
        raise UserError(f"pictures of different sizes ({told}); export them with the same --image-size")
    return sizes[0]


def _common_name(folders: Sequence[Path]) -> str:
    names = {_title(folder).split(" ")[0] for folder in folders}
    return names.pop() if len(names) == 1 else "libero_merged_no_noops"


def _title(folder: Path) -> str:
    manifest = read_manifest(folder)
    folder = folder.absolute()
    return f"{manifest[0]['name']} {manifest[0]['version']}" if manifest else f"{folder.parent.name} {folder.name}"


def _told(numbers: range, words: str, tell: Callable[[str, int, int], None]):
    for number in numbers:
        tell(words, number, len(numbers))
        yield number
    tell(words, len(numbers), len(numbers))
