"""Checks of a dataset against its card: all files, all episodes, and all figures that can be computed again."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.files import read_json
from rlgen.data.card import CARD_TEXT, card_text, read_card, verify_files
from rlgen.data.dataset import open_dataset
from rlgen.data.episode import DatasetEpisode, check_dataset_episode
from rlgen.data.index import (
    OPENPI_STATISTICS,
    OPENVLA_STATISTICS,
    IndexEntry,
    read_index,
    read_provenance,
)
from rlgen.data.metrics.quality import dataset_quality
from rlgen.data.statistics import OPENVLA_MASK, StateAndAction, dataset_statistics


def verify_dataset(
    directory: Path, *, images: bool = True, on_progress: Callable[[int, int], None] | None = None
) -> list[str]:
    """Checks a dataset against its card.

    Args:
      directory: of the dataset, in any format of this project.
      images: also decode all images; one in an unaltered shard may have been damaged before it was written.
      on_progress: called with the number of episodes that were read, and of all.

    Returns:
      One line for each problem, which names the file, and the episode if it is in one. Empty for a sound dataset.

    Raises:
      UserError: there is no readable card.
    """
    directory = Path(directory)
    card = read_card(directory)
    problems = [f"{name}: {problem}" for name, problem in verify_files(directory, card).items()]
    text = directory / CARD_TEXT
    if not text.is_file() or text.read_bytes() != card_text(card).encode():
        problems.append(f"{CARD_TEXT}: differs from the card for programs")
    try:
        entries, episodes = read_index(directory), open_dataset(directory)
    except UserError as error:
        return [*problems, str(error)]
    problems += _compare_counts(card, entries)
    try:
        read_provenance(directory, len(entries))
    except UserError as error:
        problems.append(str(error))
    readable: list[DatasetEpisode] = []
    for index, entry in enumerate(entries):
        if on_progress is not None:
            on_progress(index, len(entries))
        try:
            episode = episodes[index]
            problems += _check_episode(episode, entry, int(card["picture_size"]), images)
            readable.append(_without_images(episode))
        except UserError as error:
            problems.append(str(error))
    if on_progress is not None:
        on_progress(len(entries), len(entries))
    problems = list(dict.fromkeys(problems))  # what concerns all episodes is listed once
    return problems + (_compare_figures(directory, card, readable) if len(readable) == len(entries) else [])


def _compare_counts(card: Mapping[str, Any], entries: list[IndexEntry]) -> list[str]:
    indexed = {"episodes": len(entries), "steps": sum(entry.steps for entry in entries)}
    return [
        f"the card says {card[name]} {name}, the index {count}"
        for name, count in indexed.items()
        if card[name] != count
    ]


def _check_episode(episode: DatasetEpisode, entry: IndexEntry, size: int, images: bool) -> list[str]:
    """Returns the problems of an episode that can be read."""
    where = f"{entry.file}: record {entry.record} (episode {entry.name})"
    expected = {"name": entry.name, "prompt": entry.prompt, "steps": entry.steps}
    found = {"name": episode.file_path, "prompt": episode.language_instruction, "steps": len(episode)}
    problems = [
        f"{where}: {key} is {found[key]!r}, not {expected[key]!r}" for key in expected if found[key] != expected[key]
    ]
    try:
        check_dataset_episode(episode, size)
        for frames in (episode.image, episode.wrist_image) if images else ():
            for step in range(len(episode)):
                frames[step]
    except UserError as error:
        problems.append(f"{where}: {error}")
    return problems


def _without_images(episode: DatasetEpisode) -> DatasetEpisode:
    empty = np.zeros((len(episode), 0, 0, 3), np.uint8)
    return replace(episode, image=empty, wrist_image=empty)


def _compare_figures(directory: Path, card: Mapping[str, Any], episodes: list[DatasetEpisode]) -> list[str]:
    statistics = dataset_statistics([StateAndAction(e.state, e.action) for e in episodes])
    name = card["name"].split(" ")[0]
    expected = {OPENVLA_STATISTICS: {name: statistics.openvla()}, OPENPI_STATISTICS: statistics.openpi()}
    problems = []
    for file, value in expected.items():
        try:
            stored = read_json(directory / file)
            same = _close(stored, value) or (file == OPENVLA_STATISTICS and _close(stored, _without_mask(value)))
        except (OSError, ValueError):
            same = False
        problems += [] if same else [f"{file}: not the statistics of the episodes"]
    if "episodes" in card["quality"] and not _close(card["quality"], dataset_quality(episodes).summary()):
        problems.append("the card's quality is not that of the episodes")
    return problems


def _without_mask(statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns OpenVLA's statistics as datasets of earlier versions have them."""
    return {
        name: {**of, "action": {key: values for key, values in of["action"].items() if key != OPENVLA_MASK}}
        for name, of in statistics.items()
    }


def _close(one: Any, two: Any) -> bool:
    """Returns whether two JSON values agree, apart from the last digits, which differ between processors."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_close(one[key], two[key]) for key in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_close, one, two))
    if isinstance(one, float) and isinstance(two, int | float):
        return bool(np.isclose(one, two, rtol=1e-6, atol=1e-9))
    return one == two
