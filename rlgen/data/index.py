"""What lies in a dataset, episode by episode."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlgen.errors import UserError
from rlgen.files import read_json

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
