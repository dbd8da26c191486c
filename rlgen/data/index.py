"""The files that every format shares: the index of episodes, their statistics, and their initial states.

  episodes.json: for each episode its shard, its name, its prompt and its number of steps (`IndexEntry`).
  dataset_statistics.json, norm_stats.json: statistics of states and actions, as OpenVLA and openpi read them.
  initial_states.json: the physics state at the start of each episode, where it is known.
  fixtures.json: where the fixtures stood in each episode, if they were drawn for any.
  provenance.json: where each episode comes from (`Provenance`).

`IndexedDataset` is the base of the formats that find their episodes by the index.
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError
from rlgen.core.files import write_json
from rlgen.core.foreign.json_parts import JsonPart, open_json
from rlgen.core.types import LIBERO, FixturePoses, Robot
from rlgen.data.episode import DatasetEpisode, check_fixtures, checked
from rlgen.data.shards import ADVICE, MANIFEST, MOST_EPISODES, MOST_STEPS, DatasetPlan, Shard, open_manifest
from rlgen.data.statistics import StateAndAction, dataset_statistics

INDEX = "episodes.json"
OPENVLA_STATISTICS = "dataset_statistics.json"
OPENPI_STATISTICS = "norm_stats.json"
INITIAL_STATES, FIXTURES, PROVENANCE = "initial_states.json", "fixtures.json", "provenance.json"
State = Float[np.ndarray, " D"]


@dataclass(frozen=True)
class IndexEntry:
    """One episode of a dataset.

    Attributes:
      file: that it is in, a shard's, relative to the dataset's folder.
      record: its position in the file.
      name: its `file_path`.
      prompt: the instruction.
      steps: number of pairs of observation and action.
    """

    file: str
    record: int
    name: str
    prompt: str
    steps: int


def write_index(
    folder: Path,
    plan: DatasetPlan,
    shards: Sequence[Shard],
    episodes: Iterable[DatasetEpisode],
    files: Sequence[str] = (),
) -> None:
    """Writes `episodes.json` and both files of statistics.

    Args:
      folder: of the dataset.
      plan: of the dataset.
      shards: in order.
      episodes: as they are read from the shards, in order; iterated over once, images are not accessed.
      files: that of each episode, in formats whose shards have one for each.
    """
    entries: list[IndexEntry] = []
    arrays: list[StateAndAction] = []
    records = [(shard.file, record) for shard in shards for record in range(shard.episodes)]
    records = [(file, 0) for file in files] or records
    for (file, record), episode in zip(records, episodes, strict=True):
        entries.append(IndexEntry(file, record, episode.file_path, episode.language_instruction, len(episode)))
        arrays.append(StateAndAction(np.array(episode.state), np.array(episode.action)))
    write_json(folder / INDEX, [asdict(entry) for entry in entries])
    statistics = dataset_statistics(arrays)
    write_json(folder / OPENVLA_STATISTICS, {plan.name: statistics.openvla()})
    write_json(folder / OPENPI_STATISTICS, statistics.openpi())


def read_index(folder: Path) -> list[IndexEntry]:
    """Reads the entries of a dataset's episodes, in order.

    Raises:
      UserError: there is no index, or it is damaged.
    """
    return [
        IndexEntry(
            file=entry.member("file").path(),
            record=entry.member("record").plain_integer(0, MOST_EPISODES),
            name=entry.member("name").text(),
            prompt=entry.member("prompt").text(),
            steps=entry.member("steps").plain_integer(1, MOST_STEPS),
        )
        for entry in open_json(folder / INDEX, ADVICE).elements(MOST_EPISODES)
    ]


def check_index(folder: Path, entries: Sequence[IndexEntry], shards: Sequence[Shard]) -> None:
    """Checks that an index lists the episodes of all shards, in their order.

    Args:
      folder: of the dataset.
      entries: of the index.
      shards: of the manifest.

    Raises:
      UserError: it does not.
    """
    shard_of = {file: shard.file for shard in shards for file in shard.hashes}
    steps: dict[str, list[int]] = {}
    records: Counter[str] = Counter()
    for index, entry in enumerate(entries):
        if entry.record != records[entry.file]:
            raise UserError(
                f"{folder / INDEX}: [{index}].record is {entry.record}, expected {records[entry.file]}, the next one "
                f"of {entry.file}; {ADVICE}"
            )
        records[entry.file] += 1
        steps.setdefault(shard_of.get(entry.file, entry.file), []).append(entry.steps)
    found = {file: (len(of_file), sum(of_file)) for file, of_file in steps.items()}
    listed = {shard.file: (shard.episodes, shard.steps) for shard in shards}
    for file in sorted(found.keys() | listed.keys()):
        if found.get(file) != listed.get(file):
            raise UserError(
                f"{folder / INDEX}: {found.get(file, (0, 0))} episodes and steps of {file}, "
                f"{MANIFEST} lists {listed.get(file, (0, 0))}; {ADVICE}"
            )


@dataclass(frozen=True)
class IndexedDataset(Sequence[DatasetEpisode]):
    """The episodes of a dataset that this project wrote, read when they are accessed.

    A format's dataset names its format and implements `read_episode`.

    Attributes:
      format: name of the format (of the class).
      noun: what the folder should hold, for messages (of the class).
      directory: of the dataset.
      entries: of all episodes, in order.
      size: width and height of the images, pixels.
    """

    format: ClassVar[str]
    noun: ClassVar[str]
    directory: Path
    entries: list[IndexEntry]
    size: int

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Opens a dataset.

        Raises:
          UserError: there is no dataset of this format and project, or its index is damaged.
        """
        directory = Path(directory)
        plan, shards = open_manifest(directory, cls.format, cls.noun)
        entries = read_index(directory)
        check_index(directory, entries, shards)
        return cls(directory, entries, plan.size)

    @property
    def robot(self) -> Robot:
        """Returns LIBERO's, whose datasets this project writes."""
        return LIBERO

    @abstractmethod
    def read_episode(self, index: int) -> DatasetEpisode:
        """Reads the episode of `entries[index]`.

        Raises:
          UserError: its record is missing or damaged; the message names the file and the episode.
        """

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> DatasetEpisode:
        if not 0 <= index < len(self):
            raise IndexError(f"episode {index} of {len(self)}")
        entry = self.entries[index]
        where = f"{self.directory / entry.file}: record {entry.record} (episode {entry.name})"
        episode = checked(self.read_episode(index), where, self.robot)
        check_entry(episode, entry, where)
        return episode


def check_entry(episode: DatasetEpisode, entry: IndexEntry, where: str) -> None:
    """Checks that an episode is the one that the index lists.

    Args:
      episode: as it was read.
      entry: of the index.
      where: file and episode.

    Raises:
      UserError: it is another one.
    """
    found = (episode.file_path, episode.language_instruction, len(episode))
    for name, has, listed in zip(
        ("name", "prompt", "steps"), found, (entry.name, entry.prompt, entry.steps), strict=True
    ):
        if has != listed:
            raise UserError(f"{where}: {name} is {has!r}, not {listed!r} as {INDEX} lists it; {ADVICE}")


def damaged_record(path: Path, record: int, episode: str, reason: str) -> UserError:
    """Returns the error for a record that cannot be read.

    Args:
      path: of the shard.
      record: position in the shard.
      episode: its name; empty if it is not known.
      reason: in a few words.
    """
    named = f" (episode {episode})" if episode else ""
    return UserError(f"{path}: record {record} is damaged{named}, {reason}; fetch or export the dataset again")


def episode_of_record(path: Path, record: int) -> str:
    """Returns the name of the episode of a shard's record; empty where the dataset has no index."""
    try:
        entries = read_index(path.parent)
    except UserError:
        return ""
    names = (entry.name for entry in entries if (Path(entry.file).name, entry.record) == (path.name, record))
    return next(names, "")


def write_starts(
    folder: Path, states: Sequence[State | None], fixtures: Sequence[FixturePoses | None] | None = None
) -> None:
    """Writes how each episode starts, exactly.

    Args:
      folder: of the dataset.
      states: physics state (time, qpos, qvel) at the start of each episode; None if it is not known.
      fixtures: where the fixtures stood in each episode, None if the scene's own draw was used; by default in all.
    """
    for file, arrays in ((INITIAL_STATES, states), (FIXTURES, fixtures or ())):
        if file == INITIAL_STATES or any(array is not None for array in arrays):
            write_json(folder / file, [None if array is None else np.asarray(array).tolist() for array in arrays])


def read_initial_states(folder: Path, count: int) -> list[State | None]:
    """Reads the initial state of each of `count` episodes; None where it is not known, as in datasets of others.

    Raises:
      UserError: the file is damaged.
    """
    parts = _starts(Path(folder) / INITIAL_STATES, "states", count)
    return [None if part is None else np.array(part.numbers(), np.float64) for part in parts]


def read_fixtures(folder: Path, count: int) -> list[FixturePoses | None]:
    """Reads where the fixtures stood in each of `count` episodes; None where the scene's own draw was used.

    Raises:
      UserError: the file is damaged.
    """
    path = Path(folder) / FIXTURES
    return [None if part is None else _poses(part) for part in _starts(path, "poses of fixtures", count)]


def _poses(part: JsonPart) -> FixturePoses:
    rows = [row.numbers() for row in part.elements(MOST_EPISODES)]
    if any(len(row) != 7 for row in rows):
        raise part.error("rows of seven numbers")
    poses = np.array(rows, np.float64)
    check_fixtures(poses, f"{part.file}: {part.place}")
    return poses


def _starts(path: Path, noun: str, count: int) -> list[JsonPart | None]:
    """Returns the entry of each episode, None where it is null or there is no such file."""
    if not path.is_file():
        return [None] * count
    parts = open_json(path, ADVICE).elements(MOST_EPISODES)
    if len(parts) != count:
        raise UserError(f"{path}: {len(parts)} {noun} for {count} episodes; export the dataset again")
    return [None if part.value is None else part for part in parts]


@dataclass(frozen=True)
class Provenance:
    """The origin of one episode.

    Attributes:
      task: `<suite>/<name>`.
      source: who acted, such as `ppo`.
      split: of the initial state: `train`, `wide` or `heldout`.
      initial_index: number of the initial state in its split; -1 if it is none of them, as in human demonstrations.
      seed: of the actor's exploration; -1 where there was none.
      physics: of the stored states: `exact`, or `recorded` where the recording was not replayed.
      mujoco: version of the engine that computed them.
      renderer: of the images: `fast`, `benchmark` or `warp`.
      label: of an episode that was exported although its replay failed, the reason; empty for the others of such an
        export, None in datasets that hold none or do not say which.
    """

    task: str
    source: str
    split: str
    initial_index: int
    seed: int
    physics: str
    mujoco: str
    renderer: str
    label: str | None = None


def write_provenance(folder: Path, episodes: Sequence[Provenance | None]) -> None:
    """Writes the origin of each episode, None where it is not known; no file where it is known of none."""
    if any(one is not None for one in episodes):
        write_json(folder / PROVENANCE, [None if one is None else _known(one) for one in episodes])


def read_provenance(folder: Path, count: int) -> list[Provenance | None]:
    """Reads the origin of each of `count` episodes; None where it is not known, as in datasets of earlier versions.

    Raises:
      UserError: the file is damaged, or of another number of episodes.
    """
    path = Path(folder) / PROVENANCE
    if not path.is_file():
        return [None] * count
    parts = open_json(path, ADVICE).elements(MOST_EPISODES)
    if len(parts) != count:
        raise UserError(f"{path}: of {len(parts)} episodes, the dataset has {count}; {ADVICE}")
    return [None if part.value is None else _provenance(part) for part in parts]


def _known(one: Provenance) -> dict[str, Any]:
    return {name: value for name, value in asdict(one).items() if value is not None}


def _provenance(part: JsonPart) -> Provenance:
    label = part.optional("label")
    return Provenance(
        **{name: part.member(name).text() for name in ("task", "source", "split", "physics", "mujoco", "renderer")},
        initial_index=part.member("initial_index").plain_integer(-1),
        seed=part.member("seed").plain_integer(-1),
        label=None if label is None else label.text(),
    )
