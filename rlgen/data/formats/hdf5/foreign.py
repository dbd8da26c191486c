"""HDF5 files of others as a dataset; `schema.py` finds what is read of them.

Images are as they are stored, but for those of LIBERO's layout, which are raw.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError
from rlgen.core.types import Robot
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.cameras import CAMERAS
from rlgen.data.formats.hdf5.layout import array, named_damage, opened, stored
from rlgen.data.formats.hdf5.schema import (
    Hdf5Episode,
    Hdf5Schema,
    below,
    episode_group,
    episodes_of,
    find_schema,
    first_action,
    instruction_of,
    is_compressed,
)
from rlgen.data.formats.hdf5.stored_images import ImageReader, StoredImages
from rlgen.data.images import LARGEST_SIDE, EncodedFrames, FrameSequence, image_size
from rlgen.data.index import IndexedDataset, IndexEntry

SUFFIXES = (".hdf5", ".h5")
_LARGEST_IMAGES = 1 << 36  # bytes of a camera in an episode, which are not read at once


@dataclass(frozen=True)
class ForeignHdf5Dataset(IndexedDataset):
    """Episodes of HDF5 files that others wrote.

    Attributes:
      schema: of all of them.
      first_actions: along `entries`, the index of the action that belongs to the first row of the observations.
    """

    format = "hdf5"
    noun = "HDF5 files"
    schema: Hdf5Schema = field(kw_only=True)
    first_actions: list[int] = field(kw_only=True)

    @property
    def robot(self) -> Robot:
        """Returns the robot of the first episode."""
        return self.schema.robot

    def read_episode(self, index: int) -> DatasetEpisode:
        """Reads the arrays of an episode."""
        entry, schema, first = self.entries[index], self.schema, self.first_actions[index]
        path, steps = self.directory / entry.file, entry.steps + first
        with opened(path) as file:
            group = episode_group(file, entry.record, path)
            obs, seen = (below(group, key, path) for key in (schema.observations, schema.images))
            images = {name: self._images(seen, key, path, steps)[: entry.steps] for name, key in schema.cameras.items()}
            joints = _columns(obs, schema.joints, path, steps)[: entry.steps] if schema.joints else None
            return DatasetEpisode(
                **{**dict.fromkeys(CAMERAS), **images},
                state=_columns(obs, schema.state, path, steps)[: entry.steps],
                joint_state=joints,
                action=_columns(group, (schema.action,), path, steps)[first:],
                language_instruction=entry.prompt,
                file_path=entry.name,
            )

    def _images(self, group: h5py.Group, key: str, path: Path, steps: int) -> FrameSequence:
        """Returns the images of a camera in an episode; `UserError` where they are no such images."""
        images, where = _image_array(group, key, path), f"{path}: {group.name}/{key}"
        if images.ndim == 2 and len(images) == steps and is_compressed(group):
            data = tuple(row.tobytes() for row in array(group, key, path))
            return EncodedFrames(data, _size_of(data[0], where))
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or len(images) != steps:
            raise UserError(
                f"{where}: {images.dtype} {images.shape}, expected uint8 and three channels for each of {steps} "
                "actions; fetch or record the file again"
            )
        size = images.shape[1:3]
        if max(size) > LARGEST_SIDE:
            raise UserError(f"{where}: images of {size} pixels, expected {LARGEST_SIDE} a side at most")
        return StoredImages(self._reader, path, images.name, 0, steps, size, turned=self.schema.is_libero)

    @cached_property
    def _reader(self) -> ImageReader:
        return ImageReader()


def hdf5_files(path: Path) -> list[Path]:
    """Returns the HDF5 files in a folder, or that file itself."""
    if path.is_file():
        return [path] if path.suffix in SUFFIXES else []
    return sorted(file for suffix in SUFFIXES for file in path.glob(f"*{suffix}"))


def read_foreign_hdf5(path: Path, *, any_robot: bool = False) -> ForeignHdf5Dataset:
    """Opens HDF5 files that others wrote.

    Args:
      path: a file, or a folder of some, all of the same robot.
      any_robot: whether states and actions may have other widths than those of LIBERO's robot.

    Raises:
      UserError: there is none, a layout or a width that is not known, files that contradict themselves, or damage.
    """
    schema, size = None, 0
    entries, firsts = [], []
    for file in hdf5_files(path):
        with opened(file) as content:
            for episode in episodes_of(content, file):
                with named_damage(file, episode.group.name):
                    if schema is None:
                        schema = find_schema(episode, any_robot=any_robot)
                        size = _largest_side(episode, schema)
                    first, steps = first_action(episode, schema), _count_steps(episode, schema.action)
                    prompt = instruction_of(episode)
                if steps > first:
                    name = "/".join(filter(None, (file.stem, episode.name)))
                    entries.append(IndexEntry(file.name, episode.number, name, prompt, steps - first))
                    firsts.append(first)
    if schema is None:
        raise UserError(f"{path}: no HDF5 file there; name one, or a folder of some")
    directory = path.parent if path.is_file() else path
    return ForeignHdf5Dataset(directory, entries, size, schema=schema, first_actions=firsts)


def _columns(group: h5py.Group, keys: tuple[str, ...], path: Path, steps: int) -> Float[np.ndarray, "T D"]:
    """Returns arrays of numbers beside each other, a row a step."""
    parts = []
    for key in keys:
        values = array(group, key, path)
        if values.ndim > 2 or len(values) != steps:
            raise UserError(
                f"{path}: {group.name}/{key}: shape {values.shape}, expected a row for each of {steps} actions; fetch "
                "or record the file again"
            )
        parts.append(values.reshape(steps, -1).astype(np.float32))
    return np.concatenate(parts, axis=1)


def _count_steps(episode: Hdf5Episode, key: str) -> int:
    steps = len(stored(episode.group, key, episode.path))
    declared = episode.group.attrs.get("num_samples", steps)
    if declared != steps:
        raise UserError(f"{episode.where}: num_samples says {declared}, there are {steps} actions; fetch it again")
    return steps


def _largest_side(episode: Hdf5Episode, schema: Hdf5Schema) -> int:
    images, sides = below(episode.group, schema.images, episode.path), []
    for key in schema.cameras.values():
        dataset = _image_array(images, key, episode.path)
        is_jpeg = dataset.ndim == 2
        sides += _size_of(dataset[0].tobytes(), f"{episode.where}: {key}") if is_jpeg else dataset.shape[1:3]
    return max(sides)


def _image_array(group: h5py.Group, key: str, path: Path) -> h5py.Dataset:
    return stored(group, key, path, largest=_LARGEST_IMAGES)


def _size_of(data: bytes, where: str) -> tuple[int, int]:
    try:
        return image_size(data)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
