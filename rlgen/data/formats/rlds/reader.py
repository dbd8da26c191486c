"""A reader of RLDS datasets in LIBERO's schema, ours or others', without TensorFlow and tensorflow_datasets.

The schema has a name for everything; states and actions may be wider or narrower where the reader is asked for that.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError, first_line
from rlgen.core.types import LIBERO, Robot
from rlgen.data.episode import WIDTHS, DatasetEpisode, checked, width_error
from rlgen.data.formats.rlds.description import (
    FEATURES,
    INFO,
    RldsDescription,
    image_shape,
    read_description,
)
from rlgen.data.formats.rlds.tfrecord import read_record_at, record_offsets
from rlgen.data.images import EncodedFrames, image_size
from rlgen.data.index import INDEX, IndexEntry, check_entry, check_index, read_index
from rlgen.data.shards import MANIFEST, read_manifest

STEPS, OBSERVATION = "steps/", "steps/observation/"
FILE_PATH = "episode_metadata/file_path"
INSTRUCTION = f"{STEPS}language_instruction"
CAMERAS = ("image", "wrist_image")
COLUMNS = {"state": f"{OBSERVATION}state", "joint_state": f"{OBSERVATION}joint_state", "action": f"{STEPS}action"}
# A record that is longer has an image, and with it a step.
_LONGEST_WITHOUT_STEPS = 4096


@dataclass(frozen=True)
class RldsDataset(Sequence[DatasetEpisode]):
    """The episodes of a dataset in LIBERO's schema, read when they are accessed. Images stay encoded.

    Attributes:
      directory: of the shards.
      description: its features and splits.
      split: name of the split.
      entries: of the index, for a dataset of this project; None for others', whose episodes of no steps are passed
        over.
      robot: that its states and actions are of.
    """

    directory: Path
    description: RldsDescription
    split: str
    entries: list[IndexEntry] | None = None
    robot: Robot = LIBERO
    _offsets: dict[Path, list[int]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def files(self) -> list[Path]:
        """Returns the shards in order."""
        return [self.directory / shard.file for shard in self.description.splits[self.split]]

    @cached_property
    def lengths(self) -> list[int]:
        """Returns the number of records in each shard."""
        return [shard.length for shard in self.description.splits[self.split]]

    @cached_property
    def _ends(self) -> list[int]:
        """Returns for each shard the number of records up to its end."""
        return list(accumulate(self.lengths))

    def __len__(self) -> int:
        return len(self._with_steps) if self.entries is None else len(self.entries)

    def __getitem__(self, index: int) -> DatasetEpisode:
        if not 0 <= index < len(self):
            raise IndexError(f"episode {index} of {len(self)}")
        entry = None if self.entries is None else self.entries[index]
        path, length, record = self._place(index)
        where = f"{path}: record {record}" + (f" (episode {entry.name})" if entry else "")
        episode = self._episode(self._record(path, length, record), where, index)
        if entry is not None:
            check_entry(episode, entry, where)
        return episode

    def _place(self, index: int) -> tuple[Path, int, int]:
        """Returns the file of an episode, the number of its records, and which of them it is."""
        record = index if self.entries is not None else self._with_steps[index]
        shard = bisect_right(self._ends, record)
        length = self.lengths[shard]
        return self.files[shard], length, record - self._ends[shard] + length

    def first_widths(self) -> dict[str, int]:
        """Returns the numbers a step of each column that is declared, as the first episode has them.

        Raises:
          UserError: it is damaged.
        """
        path, length, record = self._place(0)
        where = f"{path}: record {record}"
        features = _parse(self._record(path, length, record), where)
        try:
            steps = len(_values(features, INSTRUCTION)) or 1
            declared = {name: key for name, key in COLUMNS.items() if key in self.description.features}
            return {name: _floats(features, key, steps).shape[1] for name, key in declared.items()}
        except ValueError as error:
            raise _misfit(where, first_line(error)) from error

    @cached_property
    def _with_steps(self) -> list[int]:
        """Returns the positions of the records that have steps."""
        chosen, first = [], 0
        for path, length in zip(self.files, self.lengths, strict=True):
            starts = self._offsets_of(path, length)
            for index, end in enumerate([*starts[1:], path.stat().st_size][:length]):
                if end - starts[index] > _LONGEST_WITHOUT_STEPS or self._has_steps(path, length, index):
                    chosen.append(first + index)
            first += length
        return chosen

    def _has_steps(self, path: Path, length: int, index: int) -> bool:
        features = _parse(self._record(path, length, index), f"{path}: record {index}")
        return not features or any(len(_values(features, key)) for key in features if key.startswith(STEPS))

    def _record(self, path: Path, length: int, index: int) -> bytes:
        return read_record_at(path, self._offsets_of(path, length)[index], index)

    def _offsets_of(self, path: Path, length: int) -> list[int]:
        if path not in self._offsets:
            offsets = record_offsets(path)
            if len(offsets) != length:
                raise UserError(f"{path}: {len(offsets)} records, {INFO} says {length}; fetch or export it again")
            self._offsets[path] = offsets
        return self._offsets[path]

    def _episode(self, record: bytes, where: str, position: int) -> DatasetEpisode:
        features = _parse(record, where)
        try:
            episode = self._libero_episode(features, position)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        except ValueError as error:
            raise _misfit(where, first_line(error)) from error
        where = where if "(episode " in where else f"{where} (episode {episode.file_path})"
        return checked(episode, where, self.robot)

    def _libero_episode(self, features: Mapping[str, Any], position: int) -> DatasetEpisode:
        """Converts a record; `ValueError` where it has not what it should have."""
        prompts = _values(features, INSTRUCTION)
        if not len(prompts):
            raise ValueError(f"it has no {INSTRUCTION}")
        declared = self.description.features
        images = {name: self._images(features, name) for name in CAMERAS}
        columns = {
            name: _floats(features, key, len(prompts)) if key in declared else None for name, key in COLUMNS.items()
        }
        paths = _values(features, FILE_PATH) if FILE_PATH in declared else ()
        unnamed = f"{self.directory.absolute().parent.name}/{self.split}/{position}"
        return DatasetEpisode(
            **images,
            **columns,
            language_instruction=_text(prompts[0], INSTRUCTION),
            file_path=_text(paths[0], FILE_PATH) if len(paths) else unnamed,
        )

    def _images(self, features: Mapping[str, Any], name: str) -> EncodedFrames | None:
        key = OBSERVATION + name
        if key not in self.description.features:
            return None
        data = tuple(_values(features, key))
        if not data or not isinstance(data[0], bytes):
            raise ValueError(f"it has no {key}")
        size = image_shape(self.description.features[key], key)
        return EncodedFrames(data, image_size(data[0]) if size is None else size)


def read_rlds(directory: Path, split: str | None = None, *, any_robot: bool = False) -> RldsDataset:
    """Opens a dataset in LIBERO's schema.

    Args:
      directory: `<name>/<version>/`, with `dataset_info.json`.
      split: name of the split; by default `train`, or the only one there is.
      any_robot: whether states and actions may have other widths than those of LIBERO's robot.

    Raises:
      UserError: no readable dataset, no such split, another schema, or states and actions of other widths. Damaged
        records raise when they are read; the message names the file and the record.
    """
    directory = Path(directory)
    if not (directory / INFO).is_file():
        raise UserError(f"{directory}: no {INFO} there; expected a folder such as <name>/1.0.0")
    description = read_description(directory)
    names = sorted(description.splits)
    chosen = split or ("train" if "train" in names or len(names) != 1 else names[0])
    if chosen not in names:
        raise UserError(
            f"{directory}: no split {chosen!r}; it has {', '.join(names) or 'none'}, of which --split takes one"
        )
    widths = _declared_widths(directory, description, any_robot)
    robot = replace(LIBERO, **{name: width for name, width in widths.items() if width is not None})
    dataset = RldsDataset(directory, description, chosen, _entries(directory, description), robot)
    if not any_robot or None not in widths.values() or not len(dataset):
        return dataset
    found = dataset.first_widths()
    return replace(dataset, robot=replace(robot, **{name: found[name] for name, w in widths.items() if w is None}))


def _entries(directory: Path, description: RldsDescription) -> list[IndexEntry] | None:
    """Returns the index of a finished dataset of this project; None for others."""
    manifest = read_manifest(directory)
    if manifest is None or not (directory / INDEX).is_file():
        return None
    entries = read_index(directory)
    check_index(directory, entries, manifest[1])
    listed = {shard.file: shard.length for shards in description.splits.values() for shard in shards}
    if listed != {shard.file: shard.episodes for shard in manifest[1]}:
        raise UserError(f"{directory / INFO}: not the shards and lengths that {MANIFEST} lists; export it again")
    return entries


def _declared_widths(directory: Path, description: RldsDescription, any_robot: bool) -> dict[str, int | None]:
    """Returns the widths of the columns, None where they are left open, if a step has what is used of it."""
    features = description.features
    missing = [key for key in (COLUMNS["state"], COLUMNS["action"], INSTRUCTION) if key not in features]
    if not any(OBSERVATION + name in features for name in CAMERAS):
        missing.append(f"{OBSERVATION}image")
    if missing:
        names = ", ".join(sorted(key.rpartition("/")[2] for key in missing))
        raise UserError(f"{directory}: steps have no {names}; expected a LIBERO dataset of this schema")
    widths: dict[str, int | None] = {}
    for name, key in COLUMNS.items():
        feature = features.get(key)
        where = f"{directory / FEATURES}: {name}"
        if feature is None:
            continue
        if feature.encoding or feature.kind not in ("Tensor", "Scalar"):
            stored = f"{feature.kind} {feature.encoding}".strip()
            raise UserError(f"{where} is stored as {stored}, expected a Tensor of plain numbers; convert the dataset")
        if len(feature.shape) != 1:
            raise UserError(f"{where} has shape {list(feature.shape)}, expected a vector; convert the dataset first")
        width = widths[name] = feature.shape[0]
        if width is not None and width != WIDTHS[name] and not any_robot:
            raise width_error(where, width, WIDTHS[name])
    for name in CAMERAS:
        if OBSERVATION + name in features:
            image_shape(features[OBSERVATION + name], f"{directory / FEATURES}: {name}")
    return widths


def _misfit(where: str, reason: str) -> UserError:
    return UserError(f"{where} does not fit {FEATURES}: {reason}; fetch or export the dataset again")


def _parse(record: bytes, where: str) -> Mapping[str, Any]:
    """Returns the features of a record, by their path."""
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_pb2

    try:
        return tf_example_pb2.Example.FromString(record).features.feature
    except DecodeError as error:
        raise _misfit(where, first_line(error)) from error


def _values(features: Mapping[str, Any], key: str) -> Any:
    """Returns the list of values of a feature; empty if a record has none."""
    if key not in features:  # looking it up would add it
        return ()
    kind = features[key].WhichOneof("kind")
    return () if kind is None else getattr(features[key], kind).value


def _floats(features: Mapping[str, Any], key: str, steps: int) -> Float[np.ndarray, "T D"]:
    values = _values(features, key)
    if not len(values) or len(values) % steps or isinstance(values[0], bytes):
        raise ValueError(f"{key} has {len(values)} values for {steps} steps")
    return np.array(values, np.float32).reshape(steps, -1)


def _text(value: Any, key: str) -> str:
    if not isinstance(value, bytes):
        raise ValueError(f"{key} is {value}, no text")
    return value.decode()
