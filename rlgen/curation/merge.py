"""Merging of several datasets into one: the selected episodes of all are written with their images unchanged."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.core.errors import UserError
from rlgen.curation.card import MISSING, SEMANTICS, fixture_facts, quality_facts, reset_facts
from rlgen.curation.merge_hdf5 import MergedDemos
from rlgen.curation.selection import EpisodeSummary, SelectionRule, select
from rlgen.curation.validate import content_hash
from rlgen.data.card import CARD_JSON, read_card, write_card
from rlgen.data.dataset import FORMATS, VIDEO_FORMATS, encoded_format, open_dataset
from rlgen.data.episode import DatasetEpisode, check_complete
from rlgen.data.formats.hdf5.format import Hdf5Format
from rlgen.data.index import read_fixtures, read_initial_states, read_provenance, write_provenance, write_starts
from rlgen.data.metrics.smoothness import mean_squared_jerk
from rlgen.data.shards import file_sha256, read_manifest
from rlgen.data.writer import split_evenly, write_dataset

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
      selection: of the episodes.
      version: three numbers.
      shards: number of files of the result.
      workers: number of threads.
      overwrite: replace a dataset that exists.
      split: of the datasets, as of `open_dataset`.
    """

    out: Path
    name: str | None = None
    formats: tuple[str, ...] = ("rlds",)
    selection: SelectionRule = field(default_factory=SelectionRule)
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


def merge_datasets(folders: Sequence[Path], options: MergeOptions, on_progress: OnProgress) -> list[Path]:
    """Writes one dataset of the selected episodes of several, in every format, and returns the folders.

    Args:
      folders: of the datasets, in any format.
      options: settings.
      on_progress: called with the name of the present step, the number of episodes done in it, and of all.

    Raises:
      UserError: datasets with different image sizes, a selection that makes no sense, or as `write_dataset`.
    """
    weights = options.selection.weights
    if weights and len(weights) != len(folders):
        raise UserError(f"{len(weights)} weights for {len(folders)} datasets: expected one for each")
    datasets = [open_dataset(folder, options.split) for folder in folders]
    size, name = _common_size(folders, datasets), options.name or _common_name(folders)
    summaries = list(_read_summaries(folders, datasets, on_progress))
    selected = select(summaries, options.selection)
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

    def of_each(key: str, unknown: str | None = "not told") -> dict[str, Any]:  # codespell:ignore
        return {title: card.get(key, unknown) for title, card in zip(titles, cards, strict=True)}

    tasks: dict[str, Counter] = {}
    for one in selected:
        tasks.setdefault(one.task, Counter()).update(episodes=1, steps=one.steps)
    facts: dict[str, Any] = {key: of_each(key) for key in _FACTS_OF_EACH}
    lacking = {title: card[MISSING] for title, card in zip(titles, cards, strict=True) if MISSING in card}
    facts |= ({MISSING: lacking} if lacking else {}) | _semantics(of_each(SEMANTICS, None))
    for key in _COMMON_FACTS:
        values = of_each(key)
        same = all(value == values[titles[0]] for value in values.values())
        facts[key] = values[titles[0]] if same else values
    merged_from = {
        title: {
            "episodes": sum(one.dataset == index for one in summaries),
            "taken": sum(one.dataset == index for one in selected),
            "weight": options.selection.weights[index] if options.selection.weights else None,
            "card": file_sha256(folders[index] / CARD_JSON) if cards[index] else None,
        }
        for index, title in enumerate(titles)
    }
    return {
        **facts,
        "tasks": {task: dict(counts) for task, counts in tasks.items()},
        "merged_from": merged_from,
        "selection": str(options.selection),
    }


def _semantics(of_each: dict[str, Any]) -> dict[str, Any]:
    """Returns what the actions of all sources are, for the card; nothing where one of them does not say it.

    Args:
      of_each: what the cards say, by source; None where one does not.

    Raises:
      UserError: actions of two kinds, which one dataset cannot have.
    """
    said = {title: value for title, value in of_each.items() if value is not None}
    if len(set(map(str, said.values()))) > 1:
        words = ", ".join(f"those of {title} are {value}" for title, value in said.items())
        raise UserError(f"actions of two kinds: {words}; expected one kind in all datasets that are merged")
    return {SEMANTICS: next(iter(said.values()))} if len(said) == len(of_each) else {}


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
