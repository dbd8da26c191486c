"""The index of a dataset and its statistics, made by reading back what was written."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rlgen.data.dataset_writer import Plan
from rlgen.data.index import INDEX, IndexEntry
from rlgen.data.rlds_episode import RldsEpisode
from rlgen.data.shards import Shard
from rlgen.data.statistics import dataset_statistics
from rlgen.files import write_json

OPENVLA_STATISTICS = "dataset_statistics.json"
OPENPI_STATISTICS = "norm_stats.json"


@dataclass(frozen=True)
class StateAndAction:
    """The numbers of an episode, without its pictures."""

    state: np.ndarray
    action: np.ndarray


def write_index(folder: Path, plan: Plan, shards: Sequence[Shard], episodes: Iterable[RldsEpisode]) -> None:
    """Writes `episodes.json` and both files of statistics, looking at every episode once and at no picture."""
    entries: list[IndexEntry] = []
    numbers: list[StateAndAction] = []
    places = ((shard.file, record) for shard in shards for record in range(shard.episodes))
    for (file, record), episode in zip(places, episodes, strict=True):
        entries.append(IndexEntry(file, record, episode.file_path, episode.language_instruction, len(episode)))
        numbers.append(StateAndAction(np.array(episode.state), np.array(episode.action)))
    write_json(folder / INDEX, [asdict(entry) for entry in entries])
    statistics = dataset_statistics(numbers)
    write_json(folder / OPENVLA_STATISTICS, {plan.name: statistics.openvla()})
    write_json(folder / OPENPI_STATISTICS, statistics.openpi())
