"""Reading RLDS without TensorFlow: any TFRecord dataset as dictionaries, LIBERO's schema as episodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlgen.core.errors import UserError
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.rlds.tfrecord import read_record_at, read_records, record_offsets
from rlgen.data.images import EncodedFrames
from rlgen.data.index import episode_of_record

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetInfo
    from tensorflow_datasets.core.features import FeatureConnector


@dataclass(frozen=True)
class RldsDataset:
    """Episodes of a dataset in LIBERO's schema. Pictures stay encoded until they are asked for.

    Attributes:
      directory: where the shards lie.
      info: tensorflow_datasets' description: features, splits, version.
      split: which split.
    """

    directory: Path
    info: DatasetInfo
    split: str
    _offsets: dict[Path, list[int]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def files(self) -> list[Path]:
        """The shards in order."""
        return [Path(path) for path in self.info.splits[self.split].filepaths]

    @property
    def lengths(self) -> list[int]:
        """Episodes in each shard."""
        return list(self.info.splits[self.split].shard_lengths)

    def __len__(self) -> int:
        return sum(self.lengths)

    def __iter__(self) -> Iterator[DatasetEpisode]:
        for path, index, record in _records(self.files, self.lengths):
            yield self._episode(record, path, index)

    def __getitem__(self, number: int) -> DatasetEpisode:
        if not 0 <= number < len(self):
            raise IndexError(f"episode {number} of {len(self)}")
        for path, length in zip(self.files, self.lengths, strict=True):
            if number < length:
                return self._episode(self._record(path, length, number), path, number)
            number -= length
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
      split: its name.

    Raises:
      UserError: no readable dataset, no such split, or another schema. Damaged records raise while
        iterating, naming the file and the record.
    """
    info = _open_info(directory, split)
    dataset = RldsDataset(Path(directory), info, split)
    missing = {"image", "wrist_image", "state", "joint_state"} - _observed(info.features)
    if missing:
        names = ", ".join(sorted(missing))
        raise UserError(f"{directory}: observations have no {names}; expected a LIBERO dataset of this schema")
    return dataset


def _observed(features: FeatureConnector) -> set[str]:
    """Names of the observations of a step; none for a dataset that is not one of steps."""
    step = getattr(features["steps"], "feature", {}) if "steps" in features else {}
    return set(step["observation"]) if "observation" in step else set()


def iterate_examples(directory: Path, split: str) -> Iterator[dict[str, Any]]:
    """Yields the episodes of any TFRecord dataset as nested dictionaries, named as in its features.

    Numbers come as arrays with a leading step axis, texts as `str` (a list of them along the steps), pictures
    as `EncodedFrames`. Errors as `read_rlds`.
    """
    info = _open_info(directory, split)
    chosen = info.splits[split]
    files = [Path(path) for path in chosen.filepaths]
    for path, index, record in _records(files, list(chosen.shard_lengths)):
        yield _parse(record, info.features, path, index)


def _open_info(directory: Path, split: str) -> DatasetInfo:
    import tensorflow_datasets as tfds

    if not (Path(directory) / "dataset_info.json").is_file():
        raise UserError(f"{directory}: no dataset_info.json there; expected a folder such as <name>/1.0.0")
    try:
        info = tfds.builder_from_directory(directory).info
        splits = sorted(info.splits)
    except Exception as error:  # the library raises many kinds for a damaged description
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{directory}: not a readable dataset ({reason}); fetch or export it again") from error
    if split not in splits:
        raise UserError(f"{directory}: no split {split!r}; it has {', '.join(splits) or 'none'}")
    return info


def _records(files: list[Path], lengths: list[int]) -> Iterator[tuple[Path, int, bytes]]:
    for path, length in zip(files, lengths, strict=True):
        found = 0
        for record in read_records(path):
            yield path, found, record
            found += 1
        _check_length(path, found, length)


def _check_length(path: Path, found: int, expected: int) -> None:
    if found != expected:
        raise UserError(f"{path}: {found} records, dataset_info.json says {expected}; fetch or export it again")


def _parse(record: bytes, features: FeatureConnector, path: Path, index: int) -> dict[str, Any]:
    from tensorflow_datasets.core.example_parser import ExampleParserNp

    try:
        raw = ExampleParserNp(features.get_serialized_info()).parse_example(record)
        return _present(raw, features)
    except Exception as error:  # protobuf and the parser raise many kinds for a foreign record
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        where = f"{path}: record {index} does not fit features.json{episode_of_record(path, index)}"
        raise UserError(f"{where}: {reason}; export it again") from error


def _present(value: Any, feature: FeatureConnector) -> Any:
    """Texts as `str`, pictures as `EncodedFrames`, all else as parsed."""
    from tensorflow_datasets.core import features as kinds

    if isinstance(feature, kinds.Dataset):
        return _present(value, feature.feature)
    if isinstance(feature, kinds.FeaturesDict):
        return {name: _present(value[name], feature[name]) for name in feature}
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
