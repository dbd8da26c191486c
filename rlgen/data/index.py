"""What lies in a dataset, episode by episode."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError
from rlgen.core.files import read_json, write_json
from rlgen.data.episode import DatasetEpisode
from rlgen.data.shards import Shard
from rlgen.data.statistics import dataset_statistics
from rlgen.data.writer import Plan

INDEX = "episodes.json"


@dataclass(frozen=True)
class IndexEntry:
    """One episode of a dataset.

    Attributes:
      file: its shard, relative to the dataset.
      record: its number in the shard.
      name: where it came from, its `file_path`.
      prompt: the instruction.
      steps: pairs of observation and action.
    """

    file: str
    record: int
    name: str
    prompt: str
    steps: int


def read_index(folder: Path) -> list[IndexEntry]:
    """The episodes of a dataset in order.

    Raises:
      UserError: there is none, or it is damaged.
    """
    try:
        return [IndexEntry(**entry) for entry in read_json(folder / INDEX)]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder}: no readable {INDEX}; export the dataset again") from error


def episode_of_record(path: Path, record: int) -> str:
    """` (episode NAME)` for messages about a shard's record; nothing where the dataset has no index."""
    try:
        entries = read_index(path.parent)
    except UserError:
        return ""
    names = (entry.name for entry in entries if (Path(entry.file).name, entry.record) == (path.name, record))
    return next((f" (episode {name})" for name in names), "")


def index_of_steps(entries: Sequence[IndexEntry]) -> Iterator[tuple[IndexEntry, int]]:
    """Each step's episode and its number in it, in the order of the steps."""
    for entry in entries:
        for step in range(entry.steps):
            yield entry, step


OPENVLA_STATISTICS = "dataset_statistics.json"
OPENPI_STATISTICS = "norm_stats.json"


@dataclass(frozen=True)
class StateAndAction:
    """The numbers of an episode, without its pictures."""

    state: np.ndarray
    action: np.ndarray


def write_index(folder: Path, plan: Plan, shards: Sequence[Shard], episodes: Iterable[DatasetEpisode]) -> None:
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


INITIAL_STATES = "initial_states.json"
State = Float[np.ndarray, " D"]


def write_initial_states(folder: Path, states: Sequence[State | None]) -> None:
    """Writes time, qpos and qvel before settling, to the last bit; None where they are not known."""
    write_json(folder / INITIAL_STATES, [None if state is None else np.asarray(state).tolist() for state in states])


def read_initial_states(folder: Path, count: int) -> list[State | None]:
    """The initial state of each of `count` episodes; None where it is not known, as in other people's datasets.

    Raises:
      UserError: the file is damaged.
    """
    path = Path(folder) / INITIAL_STATES
    if not path.is_file():
        return [None] * count
    try:
        states = [None if state is None else np.array(state, np.float64) for state in read_json(path)]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not readable; export the dataset again") from error
    if len(states) != count:
        raise UserError(f"{path}: {len(states)} states for {count} episodes; export the dataset again")
    return states
