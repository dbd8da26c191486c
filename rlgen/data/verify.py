"""Whether a dataset is what its card says: every file, every episode, every figure that can be worked out again."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.files import read_json
from rlgen.data.card import CARD_TEXT, card_text, read_card, verify_files
from rlgen.data.dataset import open_dataset
from rlgen.data.episode import DatasetEpisode, check_dataset_episode
from rlgen.data.index import OPENPI_STATISTICS, OPENVLA_STATISTICS, IndexEntry, StateAndAction, read_index
from rlgen.data.metrics.quality import dataset_quality
from rlgen.data.statistics import dataset_statistics


def verify_dataset(
    directory: Path, *, images: bool = True, progress: Callable[[int, int], None] | None = None
) -> list[str]:
    """Checks a dataset against its card.

    Args:
      directory: of the dataset, of any format of this project.
      pictures: decode all of them; a damaged one in an unaltered shard was damaged before it was written.
      progress: called with the number of episodes that were read, and of all.

    Returns:
      A line for each fault: the file, and the episode where it is in one. None is a sound dataset.

    Raises:
      UserError: there is no readable card.
    """
    directory = Path(directory)
    card = read_card(directory)
    faults = [f"{name}: {what}" for name, what in verify_files(directory, card).items()]
    text = directory / CARD_TEXT
    if not text.is_file() or text.read_text() != card_text(card):
        faults.append(f"{CARD_TEXT}: not what the card for programs says")
    try:
        entries, episodes = read_index(directory), open_dataset(directory)
    except UserError as error:
        return [*faults, str(error)]
    faults += _compare_counts(card, entries)
    seen: list[DatasetEpisode] = []
    for number, entry in enumerate(entries):
        if progress is not None:
            progress(number, len(entries))
        try:
            episode = episodes[number]
            faults += _check_episode(episode, entry, int(card["picture_size"]), images)
            seen.append(_without_images(episode))
        except UserError as error:
            faults.append(str(error))
    if progress is not None:
        progress(len(entries), len(entries))
    return faults + (_compare_figures(directory, card, seen) if len(seen) == len(entries) else [])


def _compare_counts(card: Mapping[str, Any], entries: list[IndexEntry]) -> list[str]:
    held = {"episodes": len(entries), "steps": sum(entry.steps for entry in entries)}
    return [f"the card says {card[name]} {name}, the index {held[name]}" for name in held if card[name] != held[name]]


def _check_episode(episode: DatasetEpisode, entry: IndexEntry, size: int, images: bool) -> list[str]:
    """What is wrong with an episode that can be read."""
    place = f"{entry.file}: record {entry.record} (episode {entry.name})"
    told = {"name": entry.name, "prompt": entry.prompt, "steps": entry.steps}
    held = {"name": episode.file_path, "prompt": episode.language_instruction, "steps": len(episode)}
    faults = [f"{place}: {key} is {held[key]!r}, not {told[key]!r}" for key in told if held[key] != told[key]]
    try:
        check_dataset_episode(episode, size)
        for view in (episode.image, episode.wrist_image) if images else ():
            for step in range(len(episode)):
                view[step]
    except UserError as error:
        faults.append(f"{place}: {error}")
    return faults


def _without_images(episode: DatasetEpisode) -> DatasetEpisode:
    none = np.zeros((len(episode), 0, 0, 3), np.uint8)
    return DatasetEpisode(**{**episode.__dict__, "image": none, "wrist_image": none})


def _compare_figures(directory: Path, card: Mapping[str, Any], episodes: list[DatasetEpisode]) -> list[str]:
    statistics = dataset_statistics([StateAndAction(e.state, e.action) for e in episodes])
    name = card["name"].split(" ")[0]
    expected = {OPENVLA_STATISTICS: {name: statistics.openvla()}, OPENPI_STATISTICS: statistics.openpi()}
    faults = []
    for file, value in expected.items():
        try:
            same = _close(read_json(directory / file), value)
        except (OSError, ValueError):
            same = False
        faults += [] if same else [f"{file}: not the statistics of the episodes"]
    if "episodes" in card["quality"] and not _close(card["quality"], dataset_quality(episodes).summary()):
        faults.append("the card's quality is not that of the episodes")
    return faults


def _close(one: Any, two: Any) -> bool:
    """Whether two JSON values are the same but for the last digits, which differ between processors."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_close(one[key], two[key]) for key in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_close, one, two))
    if isinstance(one, float) and isinstance(two, int | float):
        return bool(np.isclose(one, two, rtol=1e-6, atol=1e-9))
    return one == two
