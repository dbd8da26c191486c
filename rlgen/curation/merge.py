"""Merging of several datasets into one: selection of episodes, and writing them with their images unchanged.

The selection has three steps (`select`): remove duplicates, keep the best episodes of each task, and take episodes of
each dataset in proportion to its weight.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rlgen.core.errors import UserError
from rlgen.curation.card import MISSING, fixture_facts, quality_facts, reset_facts
from rlgen.curation.merge_hdf5 import MergedDemos
from rlgen.curation.validate import content_hash
from rlgen.data.card import CARD_JSON, read_card, write_card
from rlgen.data.dataset import FORMATS, VIDEO_FORMATS, encoded_format, open_dataset
from rlgen.data.episode import DatasetEpisode, check_complete
from rlgen.data.formats.hdf5.format import Hdf5Format
from rlgen.data.index import read_fixtures, read_initial_states, read_provenance, write_provenance, write_starts
from rlgen.data.metrics.smoothness import mean_squared_jerk
from rlgen.data.shards import file_sha256, read_manifest
from rlgen.data.writer import split_evenly, write_dataset

Order = Literal["smoothest", "shortest"]
OnProgress = Callable[[str, int, int], None]
# Keys of cards: facts that are listed for each source, and facts that are listed once if all sources agree.
_FACTS_OF_EACH = ("policy", "success_rate", "initial_states", "seeds", "replay")
_COMMON_FACTS = ("mujoco", "assets", "view", "versions", "licence")


@dataclass(frozen=True)
class MergeOptions:
    """Settings of a merge.

    Attributes:
      out: folder for the result.
      name: of the result; by default that of the datasets, if they have the same.
      formats: some of `FORMATS` and `VIDEO_FORMATS`; HDF5 needs physics states, which only HDF5 exports have.
      weights: relative number of episodes from each dataset; by default all episodes are taken.
      keep: maximum number of episodes of each task; None keeps all.
      order: which episodes of a task are kept.
      duplicates: keep duplicates.
      version: three numbers.
      shards: number of files of the result.
      workers: number of threads.
      overwrite: replace a dataset that exists.
      split: of the datasets, as of `open_dataset`.
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
    split: str | None = None

    def __post_init__(self) -> None:
        known = (*FORMATS, *VIDEO_FORMATS)
        unknown = [name for name in self.formats if name not in known]
        if unknown or not self.formats:
            raise UserError(f"formats {', '.join(self.formats) or 'none'}: expected some of {', '.join(known)}")


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


def merge_datasets(folders: Sequence[Path], options: MergeOptions, on_progress: OnProgress) -> list[Path]:
    """Writes one dataset of the selected episodes of several, in every format, and returns the folders.

    Args:
      folders: of the datasets, in any format.
      options: settings.
      on_progress: called with the name of the present step, the number of episodes done in it, and of all.

    Raises:
      UserError: datasets with different image sizes, a selection that makes no sense, or as `write_dataset`.
    """
    if options.weights and len(options.weights) != len(folders):
        raise UserError(f"{len(options.weights)} weights for {len(folders)} datasets: expected one for each")
    datasets = [open_dataset(folder, options.split) for folder in folders]
    size, name = _common_size(folders, datasets), options.name or _common_name(folders)
    summaries = list(_read_summaries(folders, datasets, on_progress))
    selected = select(summaries, options)
    facts = _facts(folders, summaries, selected, options)
    states, fixtures, origins = (
        [read(folder, len(dataset)) for folder, dataset in zip(folders, datasets, strict=True)]
        for read in (read_initial_states, read_fixtures, read_provenance)
    )

    def finish(folder: Path, ordered: Sequence[EpisodeSummary]) -> None:
        starts, poses = ([known[one.dataset][one.index] for one in ordered] for known in (states, fixtures))
        write_starts(folder, starts, poses)
        sources = [origins[one.dataset][one.index] for one in ordered]
        write_provenance(folder, sources)
        added = fixture_facts(poses) | reset_facts([source.split if source else "" for source in sources])
        write_card(folder, facts | added | {"quality": quality_facts(folder)})

    merged = []
    with ThreadPoolExecutor(options.workers) as executor:
        for format_name in options.formats:
            ordered, episodes = selected, SelectedEpisodes(datasets, selected)
            format, lengths = None, split_evenly(len(selected), options.shards)
            if format_name == Hdf5Format.name:
                episodes = MergedDemos(folders, datasets, selected)
                ordered, (format, lengths) = episodes.selected, episodes.format()
            merged.append(
                write_dataset(
                    options.out,
                    name,
                    episodes,
                    format or encoded_format(format_name, [one.task for one in selected]),
                    lengths=lengths,
                    size=size,
                    version=options.version,
                    description=f"Merged from {', '.join(_title(folder) for folder in folders)}.",
                    fingerprint=content_hash([f"{one.dataset} {one.index} {one.digest}" for one in ordered]),
                    overwrite=options.overwrite,
                    inputs=folders,
                    executor=executor,
                    on_progress=lambda done, total, step=f"{name} as {format_name}": on_progress(step, done, total),
                    finish=lambda folder, ordered=ordered: finish(folder, ordered),
                )
            )
    return merged


class SelectedEpisodes(Sequence[DatasetEpisode]):
    """The selected episodes of several datasets, read when they are accessed."""

    def __init__(self, datasets: Sequence[Sequence[DatasetEpisode]], selected: Sequence[EpisodeSummary]):
        """Takes all datasets, and the selected episodes in order."""
        self._datasets, self._selected = datasets, selected

    def __len__(self) -> int:
        return len(self._selected)

    def __getitem__(self, index: int) -> DatasetEpisode:
        one = self._selected[index]
        return self._datasets[one.dataset][one.index]


def select(summaries: Sequence[EpisodeSummary], options: MergeOptions) -> list[EpisodeSummary]:
    """Returns the selected episodes, in the order in which they are given."""
    selected = list(summaries) if options.duplicates else without_duplicates(summaries)
    if options.keep is not None:
        selected = best_of_each_task(selected, options.keep, options.order)
    return in_proportion(selected, options.weights) if options.weights else selected


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
    counts = [sum(one.dataset == dataset for one in summaries) for dataset in range(len(weights))]
    if sum(counts) != len(summaries) or not all(math.isfinite(w) and w > 0 for w in weights) or 0 in counts:
        raise UserError(f"weights {list(weights)} for datasets of {counts} episodes: expected a positive one for each")
    per_weight = min(count / weight for count, weight in zip(counts, weights, strict=True))
    kept: set[tuple[int, int]] = set()
    for dataset, weight in enumerate(weights):
        of_dataset = [one for one in summaries if one.dataset == dataset]
        count = max(1, math.floor(per_weight * weight + 1e-9))
        kept |= {(one.dataset, one.index) for one in _taking_turns(of_dataset)[:count]}
    return [one for one in summaries if (one.dataset, one.index) in kept]


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


def _read_summaries(
    folders: Sequence[Path], datasets: Sequence[Sequence[DatasetEpisode]], on_progress: OnProgress
) -> Iterator[EpisodeSummary]:
    for dataset_index, (folder, dataset) in enumerate(zip(folders, datasets, strict=True)):
        for index in range(len(dataset)):
            on_progress(f"reading {folder}", index, len(dataset))
            yield _summary(dataset_index, index, dataset[index])
        on_progress(f"reading {folder}", len(dataset), len(dataset))


def _summary(dataset: int, index: int, episode: DatasetEpisode) -> EpisodeSummary:
    digest = hashlib.sha256(episode.language_instruction.encode())
    for values in (episode.state, episode.action):
        digest.update(np.ascontiguousarray(values, np.float32).tobytes())
    jerk = mean_squared_jerk(np.asarray(episode.state[:, :3], float))
    return EpisodeSummary(dataset, index, episode.language_instruction, len(episode), jerk, digest.hexdigest())


def _facts(
    folders: Sequence[Path],
    summaries: Sequence[EpisodeSummary],
    selected: Sequence[EpisodeSummary],
    options: MergeOptions,
) -> dict[str, Any]:
    """Returns the facts for the card: those on the cards of the sources, and what was taken from each."""
    cards = [read_card(folder) if (folder / CARD_JSON).is_file() else {} for folder in folders]
    titles = [f"{index + 1}: {_title(folder)}" for index, folder in enumerate(folders)]

    def of_each(key: str) -> dict[str, Any]:
        unknown = "not told"  # codespell:ignore
        return {title: card.get(key, unknown) for title, card in zip(titles, cards, strict=True)}

    tasks: dict[str, Counter] = {}
    for one in selected:
        tasks.setdefault(one.task, Counter()).update(episodes=1, steps=one.steps)
    facts: dict[str, Any] = {key: of_each(key) for key in _FACTS_OF_EACH}
    lacking = {title: card[MISSING] for title, card in zip(titles, cards, strict=True) if MISSING in card}
    facts |= {MISSING: lacking} if lacking else {}
    for key in _COMMON_FACTS:
        values = of_each(key)
        same = all(value == values[titles[0]] for value in values.values())
        facts[key] = values[titles[0]] if same else values
    merged_from = {
        title: {
            "episodes": sum(one.dataset == index for one in summaries),
            "taken": sum(one.dataset == index for one in selected),
            "weight": options.weights[index] if options.weights else None,
            "card": file_sha256(folders[index] / CARD_JSON) if cards[index] else None,
        }
        for index, title in enumerate(titles)
    }
    selection = "all" if options.keep is None else f"the {options.keep} {options.order} of each task"
    return {
        **facts,
        "tasks": {task: dict(counts) for task, counts in tasks.items()},
        "merged_from": merged_from,
        "selection": selection + (", duplicates kept" if options.duplicates else ", without duplicates"),
    }


def _common_size(folders: Sequence[Path], datasets: Sequence[Sequence[DatasetEpisode]]) -> int:
    sizes = []
    for folder, dataset in zip(folders, datasets, strict=True):
        if not len(dataset):
            raise UserError(f"{folder}: no episode in it; leave it out, or name another --split")
        first = dataset[0]
        check_complete(first, f"{folder}: episode {first.file_path}")
        sizes.append(first.image.shape[1])
    if len(set(sizes)) != 1:
        listed = ", ".join(f"{folder}: {size}" for folder, size in zip(folders, sizes, strict=True))
        raise UserError(f"images of different sizes ({listed}); export them with the same --image-size")
    return sizes[0]


def _common_name(folders: Sequence[Path]) -> str:
    names = {_title(folder).split(" ")[0] for folder in folders}
    return names.pop() if len(names) == 1 else "libero_merged_no_noops"


def _title(folder: Path) -> str:
    manifest = read_manifest(folder)
    folder = folder.absolute()
    return f"{manifest[0].name} {manifest[0].version}" if manifest else f"{folder.parent.name} {folder.name}"
