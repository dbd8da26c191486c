"""The schema of datasets with a record for every step: what random access over frames needs.

tensorflow_datasets opens it as a data source of steps (`tfds.builder_from_directory(...).as_data_source`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rlgen.data.rlds_schema import SPLIT, libero_features, write_description

if TYPE_CHECKING:
    from tensorflow_datasets.core.features import FeaturesDict


def step_features(size: int) -> FeaturesDict:
    """The features of one step: those of RLDS, and which step of which episode it is."""
    import tensorflow_datasets as tfds

    kinds = tfds.features
    of_episode = libero_features(size)
    step = dict(of_episode["steps"].feature)
    place = {
        "episode_index": kinds.Scalar(dtype=np.int64, doc="Number of the episode in the dataset."),
        "step_index": kinds.Scalar(dtype=np.int64, doc="Number of the step in the episode."),
    }
    return kinds.FeaturesDict({**step, "episode_metadata": of_episode["episode_metadata"], **place})


def write_step_info(
    directory: Path, name: str, version: str, size: int, description: str, shards: Sequence[tuple[int, int]]
) -> None:
    """Writes `features.json` and `dataset_info.json`; `shards` are steps and bytes of each."""
    write_description(directory, name, version, step_features(size), "array_record", description, shards)


def step_shard_name(name: str, index: int, count: int) -> str:
    """File name of shard `index` of `count`."""
    return f"{name}-{SPLIT}.array_record-{index:05d}-of-{count:05d}"
