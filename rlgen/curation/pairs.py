"""Facts that datasets store about their episodes, and pairs of episodes of two datasets that belong side by side."""

import hashlib
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.core.types import FixturePoses
from rlgen.data.index import (
    IndexEntry,
    Provenance,
    State,
    read_fixtures,
    read_initial_states,
    read_provenance,
)
from rlgen.report.episode_list import EpisodeFacts, EpisodeRow

_REPLAY, _FAILED = "replay", "failed but kept"  # keys of the card
_ANY = "any"  # initial state, known or not


def read_episode_facts(
    directory: Path, entries: Sequence[IndexEntry], card: Mapping[str, Any] | None
) -> list[EpisodeFacts]:
    """Returns what a dataset says of each of its episodes.

    What is exported here was a success when it was recorded, and again when it was replayed, but for the episodes with
    a label. Datasets of others say nothing of that.

    Args:
      directory: of the dataset.
      entries: of its episodes.
      card: of the dataset; None if it has none.

    Raises:
      UserError: a file is damaged, or of another number of episodes.
    """
    count = len(entries)
    states, fixtures = read_initial_states(directory, count), read_fixtures(directory, count)
    origins = read_provenance(directory, count)
    unlabeled = "" if card is not None and no_failures(card.get(_REPLAY)) else None
    return [
        _facts(entry, origin, unlabeled, start_digest(state, poses))
        for entry, origin, state, poses in zip(entries, origins, states, fixtures, strict=True)
    ]


def no_failures(replay: Any) -> bool:
    """Returns whether a card's facts about replays, of one dataset or of each that was merged, list no failure."""
    if not isinstance(replay, Mapping) or not replay:
        return False
    if _FAILED in replay:
        return replay[_FAILED] == []
    return all(isinstance(one, Mapping) and one.get(_FAILED) == [] for one in replay.values())


def start_digest(state: State | None, fixtures: FixturePoses | None = None) -> str | None:
    """Returns a hash of an initial state and of the poses of fixtures that were drawn; None if it is not known."""
    if state is None:
        return None
    digest = hashlib.sha256(np.asarray(state, np.float64).tobytes())
    if fixtures is not None:
        digest.update(b"fixtures" + np.asarray(fixtures, np.float64).tobytes())
    return digest.hexdigest()


def pair_episodes(first: Sequence[EpisodeFacts], second: Sequence[EpisodeFacts]) -> list[EpisodeRow]:
    """Puts the episodes of two datasets side by side, each at most once.

    Two belong together if they are of the same task, and start from the same state where both say theirs; those that
    both say it come first. Tasks are the same by their identifiers where both have one, by their prompts otherwise.

    Args:
      first: episodes of one dataset.
      second: of the other.

    Returns:
      A row for each episode of the first dataset, in order, then one for each of the second that is beside none.
    """
    free = _FreeEpisodes(second)
    partner = {index: free.take(facts, facts.start) for index, facts in enumerate(first) if facts.start is not None}
    for index, facts in enumerate(first):
        if partner.get(index) is None:
            partner[index] = free.take(facts, _ANY if facts.start is None else None)
    rows: list[EpisodeRow] = [(index, partner[index]) for index in range(len(first))]
    return rows + [(None, index) for index in range(len(second)) if index not in free.taken]


class _FreeEpisodes:
    """The episodes of a dataset that are beside none of another one's yet, by task and initial state."""

    def __init__(self, episodes: Sequence[EpisodeFacts]):
        self.taken: set[int] = set()
        self._episodes = episodes
        self._queues: dict[tuple[str, str | None], deque[int]] = defaultdict(deque)
        for index, facts in enumerate(episodes):
            for task in _task_keys(facts):
                for start in (facts.start, _ANY):
                    self._queues[task, start].append(index)

    def take(self, facts: EpisodeFacts, start: str | None) -> int | None:
        """Returns the first free episode of a task and initial state, which is free no more; None if there is none."""
        for task in _task_keys(facts):
            queue = self._queues[task, start]
            while queue and queue[0] in self.taken:
                queue.popleft()
            for index in queue:
                if index not in self.taken and _same_task(facts, self._episodes[index]):
                    self.taken.add(index)
                    return index
        return None


def _task_keys(facts: EpisodeFacts) -> Iterator[str]:
    """Yields texts of which two episodes of the same task have one in common."""
    if facts.task is not None:
        yield f"task {facts.task}"
    yield f"prompt {_plain(facts.entry.prompt)}"


def _same_task(one: EpisodeFacts, other: EpisodeFacts) -> bool:
    if one.task is not None and other.task is not None:
        return one.task == other.task
    return _plain(one.entry.prompt) == _plain(other.entry.prompt)


def _plain(prompt: str) -> str:
    """Returns a prompt without what writers of datasets change in it."""
    return " ".join(prompt.replace("_", " ").casefold().split()).rstrip(".")


def _facts(entry: IndexEntry, origin: Provenance | None, unlabeled: str | None, start: str | None) -> EpisodeFacts:
    label = origin.label if origin is not None and origin.label is not None else unlabeled
    return EpisodeFacts(
        entry=entry,
        task=None if origin is None else origin.task,
        actor=None if origin is None else origin.source,
        success=None if label is None else label == "",
        label=label,
        start=start,
    )
