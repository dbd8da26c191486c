"""Random access to the frames of a dataset: their numbers in a table, their images on request.

A frame is one step of an episode. `open_frames` opens a dataset of any format; `read_frames` gives some of its frames
with the chunk of actions that follows each, and `rlgen.data.loader` draws them in batches.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from rlgen.core.arrays import ReusedMemory, Scratch, copy_rows
from rlgen.core.errors import UserError
from rlgen.core.types import LIBERO, Robot
from rlgen.data.dataset import open_dataset
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.array_record.format import ArrayRecordDataset, read_array_record
from rlgen.data.formats.array_record.record_file import RecordFile
from rlgen.data.formats.array_record.steps import StepParser
from rlgen.data.images import FrameSequence, ImageCache, decode_image, join_frames
from rlgen.data.index import IndexEntry
from rlgen.data.resize import Kernel, resize_image, resize_with_pad

CAMERAS = ("image", "wrist_image")
DECODED_BYTES = 2 << 30
"""Images of a dataset in memory are kept decoded up to this size by default."""

FrameBatch = dict[str, Any]
"""B frames: `image` and `wrist_image` (uint8 `[B, h, w, 3]`), `image_mask` and `wrist_image_mask` `[B]` (False where a
dataset lacks the camera, and its image is black), `state` `[B, S]`, `action_chunks` `[B, H, A]`, `chunk_mask` `[B, H]`
(False behind the end of the episode), `prompt` (a list of B instructions)."""


@dataclass(frozen=True)
class FrameTable:
    """The numbers of F frames, episode after episode: about a hundred bytes a frame.

    Attributes:
      state: as stored; of LIBERO's robot position (m), axis-angle (rad), finger joints (m).
      action: as stored.
      episode: index of the frame's episode.
      end: index of the frame behind the last one of that episode.
      prompt: index of its instruction in `prompts`.
      prompts: the different instructions.
    """

    state: Float[np.ndarray, "F S"]
    action: Float[np.ndarray, "F A"]
    episode: Int[np.ndarray, " F"]
    end: Int[np.ndarray, " F"]
    prompt: Int[np.ndarray, " F"]
    prompts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.state)

    def chunks(
        self, frames: Int[np.ndarray, " B"], horizon: int
    ) -> tuple[Float[np.ndarray, "B H A"], Bool[np.ndarray, "B H"]]:
        """Returns the `horizon` actions from each frame on, and a mask of those inside the episode.

        Behind the end of the episode its last action is repeated, and the mask is False.
        """
        index, end = frames[:, None] + np.arange(horizon), self.end[frames][:, None]
        return self.action[np.minimum(index, end - 1)], index < end


class FrameSource(Protocol):
    """A dataset with random access to its frames."""

    @property
    def table(self) -> FrameTable:
        """Returns the numbers of all frames."""

    @property
    def robot(self) -> Robot:
        """Returns the robot that the numbers are of."""

    @property
    def cameras(self) -> tuple[str, ...]:
        """Returns those of `CAMERAS` that it has."""

    def images(self, frames: Int[np.ndarray, " B"]) -> dict[str, UInt8[np.ndarray, "B h w 3"]]:
        """Returns the images of its cameras for some frames, in the orientation of datasets."""


def open_frames(
    folder: Path, *, size: int | None = None, split: str | None = None, any_robot: bool = False
) -> FrameSource:
    """Opens a dataset of any format.

    An array_record dataset, large videos and large HDF5 files of others stay on the disk; all else is read at once.

    Args:
      folder: of the dataset, `<name>/<version>`.
      size: pixels along a side of the images, which are resized as openpi's clients do; as stored by default.
      split: as of `open_dataset`.
      any_robot: likewise.

    Raises:
      UserError: no dataset there, an empty one, or a damaged one.
    """
    dataset = open_dataset(Path(folder), split, any_robot=any_robot)
    if isinstance(dataset, ArrayRecordDataset):
        return RecordFrames(Path(folder), size=size, kernel="pillow")
    if not len(dataset):
        raise UserError(f"{folder}: no episode in it; export at least one, or name another --split")
    episodes = list(dataset)
    try:
        return frames_from_episodes(episodes, size=size, robot=dataset.robot)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error


def read_frames(source: FrameSource, frames: Int[np.ndarray, " B"], horizon: int) -> FrameBatch:
    """Reads some frames of a dataset.

    Args:
      source: the dataset.
      frames: indices of B frames.
      horizon: H, actions in a chunk.

    Returns:
      What `FrameBatch` lists.
    """
    table = source.table
    chunks, mask = table.chunks(frames, horizon)
    images = source.images(frames)
    return {
        **images,
        **{name: np.zeros_like(next(iter(images.values()))) for name in CAMERAS if name not in images},
        **{f"{name}_mask": np.full(len(frames), name in images) for name in CAMERAS},
        "state": table.state[frames],
        "action_chunks": chunks,
        "chunk_mask": mask,
        "prompt": [table.prompts[index] for index in table.prompt[frames]],
    }


@dataclass(frozen=True)
class MemoryFrames:
    """A dataset in memory.

    Attributes:
      table: the numbers of all frames.
      image: images of the fixed camera, as an array, or encoded and decoded on request; None if there are none.
      wrist_image: likewise of the camera at the gripper.
      size: pixels along a side, to which encoded images are resized; None leaves them as they are.
      robot: that the numbers are of.
      memory: of the images that are returned.
    """

    table: FrameTable
    image: UInt8[np.ndarray, "F h w 3"] | FrameSequence | None = None
    wrist_image: UInt8[np.ndarray, "F h w 3"] | FrameSequence | None = None
    size: int | None = None
    robot: Robot = LIBERO
    memory: ReusedMemory = field(default_factory=ReusedMemory, repr=False, compare=False)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Returns those of `CAMERAS` that it has."""
        return tuple(name for name in CAMERAS if getattr(self, name) is not None)

    def images(self, frames: Int[np.ndarray, " B"]) -> dict[str, UInt8[np.ndarray, "B h w 3"]]:
        """Returns the images of its cameras for some frames, in the orientation of datasets."""
        return {name: self._take(getattr(self, name), frames) for name in self.cameras}

    def _take(self, stored: np.ndarray | FrameSequence, frames: np.ndarray) -> np.ndarray:
        size = stored.shape[1:3] if self.size is None or isinstance(stored, np.ndarray) else (self.size, self.size)
        out = self.memory.empty((len(frames), *size, 3))
        if isinstance(stored, np.ndarray):
            copy_rows(stored, frames, np.arange(len(frames)), out)
        else:
            for row in np.argsort(frames).tolist():  # in a video's order, so that neighbors are decoded once
                out[row] = _resized(stored[int(frames[row])], self.size)
        return out


def frames_from_episodes(
    episodes: Sequence[DatasetEpisode], *, size: int | None = None, robot: Robot = LIBERO, most: int = DECODED_BYTES
) -> MemoryFrames:
    """Reads every episode once and keeps it in memory.

    Args:
      episodes: of a dataset.
      size: pixels along a side of the images; as stored by default.
      robot: of the dataset.
      most: bytes up to which images are kept decoded and resized; they stay encoded otherwise.

    Raises:
      UserError: there is no episode.
    """
    if not episodes:
        raise UserError("the dataset holds no episode; export at least one before training on it")
    table = frame_table(
        state=np.concatenate([np.asarray(episode.state, np.float32) for episode in episodes]),
        action=np.concatenate([np.asarray(episode.action, np.float32) for episode in episodes]),
        lengths=[len(episode.action) for episode in episodes],
        instructions=[episode.language_instruction for episode in episodes],
    )
    columns = {name: [getattr(episode, name) for episode in episodes] for name in CAMERAS}
    present = {name: column for name, column in columns.items() if all(images is not None for images in column)}
    if not present:
        raise UserError("the dataset has no camera that all its episodes have; expected image or wrist_image")
    shapes = {images.shape[1:3] for column in present.values() for images in column}
    if size is None and len(shapes) > 1:
        raise UserError(f"images of different sizes {sorted(shapes)}; choose a size to which they are resized")
    height, width = (size, size) if size is not None else next(iter(shapes))
    is_large = len(CAMERAS) * len(table) * height * width * 3 > most
    if is_large and not any(isinstance(images, np.ndarray) for column in present.values() for images in column):
        joined = {name: join_frames(column) for name, column in present.items()}
        return MemoryFrames(table, **joined, size=size, robot=robot)
    decoded = {name: np.empty((len(table), height, width, 3), np.uint8) for name in present}
    ends = np.cumsum([len(episode.action) for episode in episodes])

    def decode(index: int, name: str) -> None:
        episode, end = episodes[index], ends[index]
        images, out = getattr(episode, name), decoded[name][end - len(episode.action) : end]
        try:
            for step in range(len(out)):  # one at a time, for they may be much larger than `size`
                out[step] = _resized(images[step], size)
        except UserError as error:
            raise UserError(f"episode {episode.file_path}: {name}: {error}") from error

    with ThreadPoolExecutor(os.cpu_count() or 1) as executor:
        list(executor.map(decode, *zip(*product(range(len(episodes)), present), strict=True)))
    return MemoryFrames(table, **decoded, robot=robot)


def frame_table(
    state: Float[np.ndarray, "F S"], action: Float[np.ndarray, "F A"], lengths: list[int], instructions: list[str]
) -> FrameTable:
    """Builds the table of the frames of some episodes.

    Args:
      state: of all frames, episode after episode.
      action: likewise.
      lengths: frames in each episode; they add up to F.
      instructions: one for each episode.
    """
    position = {prompt: index for index, prompt in enumerate(dict.fromkeys(instructions))}
    return FrameTable(
        state=state,
        action=action,
        episode=np.repeat(np.arange(len(lengths)), lengths),
        end=np.repeat(np.cumsum(lengths), lengths),
        prompt=np.repeat([position[instruction] for instruction in instructions], lengths),
        prompts=tuple(position),
    )


def _resized(images: UInt8[np.ndarray, "*B h w 3"], size: int | None) -> UInt8[np.ndarray, "*B h w 3"]:
    return images if size is None else resize_with_pad(images, size)


class RecordFrames:
    """An array_record dataset on the disk; images are decoded on request and kept while there is room.

    Args:
      directory: of the dataset.
      size: pixels along a side of the images; as stored by default.
      kernel: of the resize.
      cache: bytes that decoded images may take; 0 decodes a frame on every request.

    Raises:
      UserError: no array_record dataset there, or a damaged one.
    """

    def __init__(self, directory: Path, *, size: int | None = None, kernel: Kernel = "linear", cache: int = 1 << 30):
        directory = Path(directory)
        dataset = read_array_record(directory)
        self.table, self._records = _read_records(dataset)
        self._stored_size, self.robot = dataset.size, dataset.robot
        self.size, self.kernel = size or self._stored_size, kernel
        self._files = [RecordFile(directory / name) for name in self._records.files]
        for index, file in enumerate(self._files):
            expected = int((self._records.file == index).sum())
            if len(file) != expected:
                raise UserError(f"{file.path}: {len(file)} steps, the index has {expected}; export the dataset again")
        self._parser = StepParser()
        self._cache = ImageCache(len(self.table), len(CAMERAS), self.size, cache)
        self._memory = ReusedMemory()

    @property
    def cameras(self) -> tuple[str, ...]:
        """Returns both: this project's datasets have them."""
        return CAMERAS

    def images(self, frames: Int[np.ndarray, " B"]) -> dict[str, UInt8[np.ndarray, "B h w 3"]]:
        """Returns `image` and `wrist_image` of some frames; each image is copied no more than once."""
        out = [self._memory.empty((len(frames), self.size, self.size, 3)) for _ in CAMERAS]
        frames, scratch = np.asarray(frames), Scratch()
        for row in self._cache.read(frames, out).tolist():
            self._decode(int(frames[row]), scratch, *(images[row] for images in out))
        return dict(zip(CAMERAS, out, strict=True))

    def _decode(self, frame: int, scratch: Scratch, *out: UInt8[np.ndarray, "h w 3"]) -> None:
        """Writes the images of a frame to `out`, and to the cache."""
        records = self._records
        entry, file = records.entries[self.table.episode[frame]], self._files[records.file[frame]]
        where = f"{file.path}: episode {entry.name}"
        record = file.read(int(records.record[frame]), entry.name)
        stored = (self._stored_size, self._stored_size)
        step = frame - int(self.table.end[frame]) + entry.steps
        images = self._parser.images(record, entry.name, step, where)
        decoded = scratch.empty((*stored, 3), np.uint8)
        try:
            for data, target in zip(images, out, strict=True):
                resize_image(decode_image(data, stored, decoded), self.size, self.kernel, target, scratch)
        except UserError as error:
            raise UserError(f"{where}: step {step}: {error}") from error
        self._cache.put(frame, out)


@dataclass(frozen=True)
class _Records:
    """The position of each of F frames in the files of a dataset.

    Attributes:
      file: index of the frame's file in `files`.
      record: index of its record in that file.
      files: their names.
      entries: the episodes.
    """

    file: Int[np.ndarray, " F"]
    record: Int[np.ndarray, " F"]
    files: tuple[str, ...]
    entries: tuple[IndexEntry, ...]


def _read_records(dataset: ArrayRecordDataset) -> tuple[FrameTable, _Records]:
    """Returns the numbers of an array_record dataset, and the positions of its frames."""
    entries, columns = tuple(dataset.entries), dataset.columns
    lengths = [entry.steps for entry in entries]
    table = frame_table(columns["state"], columns["action"], lengths, [entry.prompt for entry in entries])
    files = tuple(dict.fromkeys(entry.file for entry in entries))
    position = {file: index for index, file in enumerate(files)}
    file = np.repeat([position[entry.file] for entry in entries], lengths)
    first = np.array([np.argmax(file == index) for index in range(len(files))])
    return table, _Records(file=file, record=np.arange(len(table)) - first[file], files=files, entries=entries)
