"""A reader of RLDS datasets in LIBERO's schema, ours or others', without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlgen.core.errors import UserError, first_line
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.rlds.tfrecord import read_record_at, read_records, record_offsets
from rlgen.data.images import EncodedFrames
from rlgen.data.index import episode_of_record

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetInfo
    from tensorflow_datasets.core.features import FeatureConnector


@dataclass(frozen=True)
class RldsDataset:
    """The episodes of a dataset in LIBERO's schema, read when they are accessed. Images stay encoded.

    Attributes:
      directory: of the shards.
      info: tensorflow_datasets' description: features, splits, version.
      split: name of the split.
    """

    directory: Path
    info: DatasetInfo
    split: str
    _offsets: dict[Path, list[int]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def files(self) -> list[Path]:
        """Returns the shards in order."""
        return [Path(path) for path in self.info.splits[self.split].filepaths]

    @property
    def lengths(self) -> list[int]:
        """Returns the number of episodes in each shard."""
        return list(self.info.splits[self.split].shard_lengths)

    def __len__(self) -> int:
        return sum(self.lengths)

    def __iter__(self) -> Iterator[DatasetEpisode]:
        for path, length in zip(self.files, self.lengths, strict=True):
            found = 0
            for record in read_records(path):
                yield self._episode(record, path, found)
                found += 1
            _check_length(path, found, length)

    def __getitem__(self, index: int) -> DatasetEpisode:
        if not 0 <= index < len(self):
            raise IndexError(f"episode {index} of {len(self)}")
        for path, length in zip(self.files, self.lengths, strict=True):
            if index < length:
                return self._episode(self._record(path, length, index), path, index)
            index -= length
        raise AssertionError("unreachable: the lengths sum to len(self)")

    def _record(self, path: Path, length: int, index: int) -> bytes:
        if path not in self._offsets:
            offsets = record_offsets(path)
            _check_length(path, len(offsets), length)
            self._offsets[path] = offsets
        return read_record_at(path, self._offsets[path][index], index)

    def _episode(self, record: bytes, path: Path, index: int) -> DatasetEpisode:
        example = _parse(record, self.info.features, path, index)
        try:
            return _libero_episode(example)
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(f"{path}: record {index} has no {error}, expected LIBERO's schema") from error


def read_rlds(directory: Path, split: str = "train") -> RldsDataset:
    """Opens a dataset in LIBERO's schema.

    Args:
      directory: `<name>/<version>/`, with `dataset_info.json`.
      split: name of the split.

    Raises:
      UserError: no readable dataset, no such split, or another schema. Damaged records raise when they are read; the
        message names the file and the record.
    """
    info = _open_info(directory, split)
    dataset = RldsDataset(Path(directory), info, split)
    missing = {"image", "wrist_image", "state", "joint_state"} - _observation_names(info.features)
    if missing:
        names = ", ".join(sorted(missing))
        raise UserError(f"{directory}: observations have no {names}; expected a LIBERO dataset of this schema")
    return dataset


def _open_info(directory: Path, split: str) -> DatasetInfo:
    import tensorflow_datasets as tfds

    if not (Path(directory) / "dataset_info.json").is_file():
        raise UserError(f"{directory}: no dataset_info.json there; expected a folder such as <name>/1.0.0")
    try:
        info = tfds.builder_from_directory(directory).info
        splits = sorted(info.splits)
    except Exception as error:  # the library raises many types for a damaged description
        message = f"{directory}: not a readable dataset ({first_line(error)}); fetch or export it again"
        raise UserError(message) from error
    if split not in splits:
        raise UserError(f"{directory}: no split {split!r}; it has {', '.join(splits) or 'none'}")
    return info


def _observation_names(features: FeatureConnector) -> set[str]:
    """Returns the names of a step's observations; none for a dataset whose records are no episodes of steps."""
    step = getattr(features["steps"], "feature", {}) if "steps" in features else {}
    return set(step["observation"]) if "observation" in step else set()


def _check_length(path: Path, found: int, expected: int) -> None:
    if found != expected:
        raise UserError(f"{path}: {found} records, dataset_info.json says {expected}; fetch or export it again")


def _parse(record: bytes, features: FeatureConnector, path: Path, index: int) -> dict[str, Any]:
    """Returns a record as nested dictionaries, named as in the dataset's features."""
    from tensorflow_datasets.core.example_parser import ExampleParserNp

    try:
        raw = ExampleParserNp(features.get_serialized_info()).parse_example(record)
        return _convert(raw, features)
    except Exception as error:  # protobuf and the parser raise many types for a foreign record
        episode = episode_of_record(path, index)
        named = f" (episode {episode})" if episode else ""
        where = f"{path}: record {index} does not fit features.json{named}"
        raise UserError(f"{where}: {first_line(error)}; export it again") from error


def _convert(value: Any, feature: FeatureConnector) -> Any:
    """Returns texts as `str`, images as `EncodedFrames`, and anything else as parsed."""
    from tensorflow_datasets.core import features as kinds

    if isinstance(feature, kinds.Dataset):
        return _convert(value, feature.feature)
    if isinstance(feature, kinds.FeaturesDict):
        return {name: _convert(value[name], feature[name]) for name in feature}
    if isinstance(feature, kinds.Image):
        data = (value,) if isinstance(value, bytes) else tuple(value)
        return EncodedFrames(data, feature.shape[:2])
    if isinstance(feature, kinds.Text):
        return value.decode() if isinstance(value, bytes) else [text.decode() for text in value]
    return value


def _libero_episode(example: dict[str, Any]) -> DatasetEpisode:
    steps = example["steps"]
    observation = steps["observation"]
    return DatasetEpisode(
        image=observation["image"],
        wrist_image=observation["wrist_image"],
        state=np.asarray(observation["state"]),
        joint_state=np.asarray(observation["joint_state"]),
        action=np.asarray(steps["action"]),
        language_instruction=steps["language_instruction"][0],
        file_path=example["episode_metadata"]["file_path"],
    )
