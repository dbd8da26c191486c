"""The array_record format: a record for every step, so that training decodes only the steps it samples.

Beside the shards lies `steps.npz` with the states and actions of all steps, a hundred bytes each: enough for chunks of
actions and for statistics, without reading an image.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from rlgen.core.errors import UserError
from rlgen.core.files import atomic_path
from rlgen.core.foreign.archives import named_damage, read_arrays
from rlgen.data.episode import WIDTHS, DatasetEpisode, check_vectors, width_error
from rlgen.data.formats.array_record.record_file import RecordFile, write_records
from rlgen.data.formats.array_record.steps import StepParser, StepSerializer, step_features
from rlgen.data.formats.rlds.schema import shard_names, write_tfds_info
from rlgen.data.images import EncodedFrames
from rlgen.data.index import IndexedDataset, write_index
from rlgen.data.shards import ADVICE, DatasetPlan, Shard
from rlgen.data.writer import Format, ShardStart

STEPS = "steps.npz"
COLUMNS = tuple(WIDTHS)
OPEN_FILES = 16


class ArrayRecordFormat(Format):
    """Shards of steps. tensorflow_datasets' description counts steps, not episodes."""

    name = "array_record"
    encoded = True

    def folder(self, directory: Path, name: str, version: str) -> Path:
        """Returns the folder of a dataset; arguments as of `Format.folder`."""
        return directory / self.name / name / version

    def files(self, name: str, lengths: Sequence[int]) -> list[str]:
        """Returns the names of the shards."""
        return shard_names(name, self.name, len(lengths))

    def write(self, path: Path, episodes: Iterator[DatasetEpisode], plan: DatasetPlan, start: ShardStart) -> Shard:
        """Writes a shard, one record a step; arguments as of `Format.write`."""
        serialize, lengths = StepSerializer(plan.size), []

        def records() -> Iterator[bytes]:
            for index, episode in enumerate(episodes, start.episode):
                lengths.append(len(episode))
                yield from serialize(episode, index)

        size, digest = write_records(path, records())
        return Shard(path.name, len(lengths), sum(lengths), size, digest)

    def describe(self, folder: Path, plan: DatasetPlan, shards: Sequence[Shard]) -> None:
        """Writes tensorflow_datasets' description, the index and all columns; arguments as of `Format.describe`."""
        sizes = [(shard.steps, shard.bytes) for shard in shards]
        write_tfds_info(folder, plan, step_features(plan.size), self.name, sizes)
        columns: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}

        def collected() -> Iterator[DatasetEpisode]:
            for episode in _read_shards(folder, shards, plan.size):
                for name, parts in columns.items():
                    parts.append(getattr(episode, name))
                yield episode

        write_index(folder, plan, shards, collected())
        with atomic_path(folder / STEPS) as temporary, open(temporary, "wb") as file:
            np.savez(file, **{name: np.concatenate(parts) for name, parts in columns.items()})


class ArrayRecordDataset(IndexedDataset):
    """Episodes of a dataset of steps; images stay encoded."""

    format = ArrayRecordFormat.name
    noun = "an array_record dataset"

    @cached_property
    def columns(self) -> dict[str, Float[np.ndarray, "F D"]]:
        """Returns the numbers of all steps, from `steps.npz`.

        Raises:
          UserError: it is missing or damaged, or a number is not finite.
        """
        path, steps = self.directory / STEPS, sum(entry.steps for entry in self.entries)
        with named_damage(path, "table of steps", ADVICE):
            columns = read_arrays(path, {name: (steps, width) for name, width in WIDTHS.items()})
        if not all(np.isfinite(values).all() for values in columns.values()):
            for index, entry in enumerate(self.entries):
                rows = self._rows(index)
                of_episode = {name: values[rows] for name, values in columns.items()}
                check_vectors(of_episode, entry.steps, f"{path}: episode {entry.name}")
        return columns

    @cached_property
    def _ends(self) -> Int[np.ndarray, " N"]:
        return np.cumsum([entry.steps for entry in self.entries])

    @cached_property
    def _firsts(self) -> list[int]:
        """Returns the position of each episode's first record in its file."""
        steps: dict[str, int] = {}
        firsts = []
        for entry in self.entries:
            firsts.append(steps.get(entry.file, 0))
            steps[entry.file] = firsts[-1] + entry.steps
        return firsts

    @cached_property
    def _open_files(self) -> OrderedDict[Path, RecordFile]:
        return OrderedDict()

    def _file(self, path: Path) -> RecordFile:
        """Returns an open shard: opening one reads the positions of all its records, so that the last few stay open."""
        files = self._open_files
        if path not in files:
            files[path] = RecordFile(path)
            if len(files) > OPEN_FILES:
                files.popitem(last=False)[1].close()
        files.move_to_end(path)
        return files[path]

    def _rows(self, index: int) -> slice:
        return slice(int(self._ends[index]) - self.entries[index].steps, int(self._ends[index]))

    def read_episode(self, index: int) -> DatasetEpisode:
        """Reads all steps of an episode."""
        entry, columns, rows = self.entries[index], self.columns, self._rows(index)
        path = self.directory / entry.file
        first, file = self._firsts[index], self._file(path)
        records = [file.read(record, entry.name) for record in range(first, first + entry.steps)]
        episode = _episode(records, self.size, f"{path}: episode {entry.name}")
        for name, values in columns.items():
            if not np.array_equal(getattr(episode, name), values[rows]):
                raise UserError(f"{path}: {name} of episode {entry.name} is not that in {STEPS}; {ADVICE}")
        return episode


def read_array_record(directory: Path) -> ArrayRecordDataset:
    """Opens a dataset of steps that this project wrote.

    Raises:
      UserError: there is none, or it is damaged.
    """
    return ArrayRecordDataset.open(directory)


def _read_shards(folder: Path, shards: Sequence[Shard], size: int) -> Iterator[DatasetEpisode]:
    """Yields the episodes of finished shards, which have no index yet: each one starts at a step marked as first."""
    parse = StepParser()
    for shard in shards:
        with RecordFile(folder / shard.file) as file:
            part: list[bytes] = []
            for index in range(len(file)):
                record = file.read(index)
                if part and parse.is_first(record, str(folder / shard.file)):
                    yield _episode(part, size, str(folder / shard.file))
                    part = []
                part.append(record)
            yield _episode(part, size, str(folder / shard.file))


def _episode(records: list[bytes], size: int, where: str) -> DatasetEpisode:
    parse = StepParser()
    steps = [parse(record, where) for record in records]
    for index, step in enumerate(steps):
        if (step.step_index, step.file_path) != (index, steps[0].file_path):
            raise UserError(f"{where}: record {index} is step {step.step_index} of {step.file_path}; {ADVICE}")
        for name, width in WIDTHS.items():
            if getattr(step, name).shape != (width,):
                raise width_error(f"{where}: {name} of step {index}", len(getattr(step, name)), width)
    return DatasetEpisode(
        image=EncodedFrames(tuple(step.image for step in steps), (size, size)),
        wrist_image=EncodedFrames(tuple(step.wrist_image for step in steps), (size, size)),
        **{name: np.stack([getattr(step, name) for step in steps]) for name in COLUMNS},
        language_instruction=steps[0].language_instruction,
        file_path=steps[0].file_path,
    )
