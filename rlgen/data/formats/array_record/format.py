"""array_record as a format of datasets: a record for every step, so that training reads no more than it looks at.

Beside the shards lies `steps.npz`: states and actions of all steps, a hundred bytes each, which cut chunks of
actions and take statistics without touching a picture.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlgen.core.files import atomic_path
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.array_record.record_file import RecordFile, write_records
from rlgen.data.formats.array_record.steps import StepParser, StepSerializer, step_shard_name, write_step_info
from rlgen.data.images import EncodedFrames
from rlgen.data.index import IndexEntry, read_index, write_index
from rlgen.data.shards import Shard, read_plan
from rlgen.data.writer import Place, Plan, encode_ahead

STEPS = "steps.npz"
COLUMNS = ("state", "joint_state", "action")


class ArrayRecordFormat:
    """Shards of steps. A shard's number of records is its number of steps."""

    name = "array_record"

    def __init__(self, pool: ThreadPoolExecutor | None = None):
        """`pool` encodes pictures in parallel, while others are written."""
        self._pool = pool

    def folder(self, directory: Path, name: str, version: str) -> Path:
        return directory / "array_record" / name / version

    def files(self, name: str, lengths: Sequence[int]) -> list[str]:
        return [step_shard_name(name, index, len(lengths)) for index in range(len(lengths))]

    def write(self, path: Path, episodes: Iterator[DatasetEpisode], plan: Plan, place: Place) -> Shard:
        serialize, lengths = StepSerializer(plan.size), []

        def records() -> Iterator[bytes]:
            for number, episode in enumerate(encode_ahead(episodes, plan.size, self._pool), place.episode):
                lengths.append(len(episode))
                yield from serialize(episode, number)

        size, digest = write_records(path, records())
        return Shard(path.name, len(lengths), sum(lengths), size, digest)

    def describe(self, folder: Path, plan: Plan, shards: Sequence[Shard]) -> None:
        sizes = [(shard.steps, shard.bytes) for shard in shards]
        write_step_info(folder, plan.name, plan.version, plan.size, plan.description, sizes)
        columns: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}

        def noted() -> Iterator[DatasetEpisode]:
            for episode in read_shards(folder, shards, plan.size):
                for name, parts in columns.items():
                    parts.append(getattr(episode, name))
                yield episode

        write_index(folder, plan, shards, noted())
        with atomic_path(folder / STEPS) as temporary, open(temporary, "wb") as file:
            np.savez(file, **{name: np.concatenate(parts) for name, parts in columns.items()})


@dataclass(frozen=True)
class ArrayRecordDataset(Sequence[DatasetEpisode]):
    """Episodes of a dataset of steps; pictures stay encoded."""

    directory: Path
    entries: list[IndexEntry]
    size: int

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, number: int) -> DatasetEpisode:
        if not 0 <= number < len(self):
            raise IndexError(f"episode {number} of {len(self)}")
        entry = self.entries[number]
        first = sum(e.steps for e in self.entries[:number] if e.file == entry.file)
        with RecordFile(self.directory / entry.file) as file:
            records = [file.read(index, entry.name) for index in range(first, first + entry.steps)]
        return _episode(records, self.size, f"{self.directory / entry.file}: episode {entry.name}")


def read_array_record(directory: Path) -> ArrayRecordDataset:
    """Opens a dataset of steps that this project wrote; `UserError` where it is none or damaged."""
    directory = Path(directory)
    plan = read_plan(directory, ArrayRecordFormat.name, "an array_record dataset")
    return ArrayRecordDataset(directory, read_index(directory), int(plan["size"]))


def read_shards(folder: Path, shards: Sequence[Shard], size: int) -> Iterator[DatasetEpisode]:
    """The episodes of finished shards, told apart by their first steps."""
    parse = StepParser()
    for shard in shards:
        with RecordFile(folder / shard.file) as file:
            part: list[bytes] = []
            for index in range(len(file)):
                record = file.read(index)
                if part and parse.is_first(record):
                    yield _episode(part, size, str(folder / shard.file))
                    part = []
                part.append(record)
            yield _episode(part, size, str(folder / shard.file))


def _episode(records: list[bytes], size: int, where: str) -> DatasetEpisode:
    parse = StepParser()
    steps = [parse(record, where) for record in records]
    return DatasetEpisode(
        image=EncodedFrames(tuple(step.image for step in steps), (size, size)),
        wrist_image=EncodedFrames(tuple(step.wrist_image for step in steps), (size, size)),
        **{name: np.stack([getattr(step, name) for step in steps]) for name in COLUMNS},
        language_instruction=steps[0].language_instruction,
        file_path=steps[0].file_path,
    )
