"""The numbers of a dataset, step by step, and the chunks of actions that begin at each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from rlgen.core.errors import UserError
from rlgen.data.formats.array_record.format import STEPS, read_array_record
from rlgen.data.formats.array_record.record_file import RecordFile
from rlgen.data.formats.array_record.steps import StepParser
from rlgen.data.images import ImageCache, decode_image
from rlgen.data.index import IndexEntry
from rlgen.data.resize import Kernel, resize_image


@dataclass(frozen=True)
class FrameTable:
    """The numbers of F steps, episode after episode: a hundred bytes a step.

    Attributes:
      state: end-effector position (m), axis-angle (rad), finger joints (m), as stored.
      action: as stored.
      episode: number of the episode that a step belongs to.
      end: number of the step behind the last one of that episode.
      prompt: number of its instruction in `prompts`.
      prompts: the instructions.
    """

    state: Float[np.ndarray, "F 8"]
    action: Float[np.ndarray, "F 7"]
    episode: Int[np.ndarray, " F"]
    end: Int[np.ndarray, " F"]
    prompt: Int[np.ndarray, " F"]
    prompts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.state)

    def chunks(
        self, steps: Int[np.ndarray, " B"], horizon: int
    ) -> tuple[Float[np.ndarray, "B H 7"], Bool[np.ndarray, "B H"]]:
        """The actions from steps on, an episode's last one repeated behind its end, and which of them exist."""
        index, end = steps[:, None] + np.arange(horizon), self.end[steps][:, None]
        return self.action[np.minimum(index, end - 1)], index < end


def frame_table(
    state: Float[np.ndarray, "F 8"], action: Float[np.ndarray, "F 7"], lengths: list[int], instructions: list[str]
) -> FrameTable:
    """The table of episodes of these lengths, with an instruction each."""
    prompts = tuple(dict.fromkeys(instructions))
    return FrameTable(
        state=state,
        action=action,
        episode=np.repeat(np.arange(len(lengths)), lengths),
        end=np.repeat(np.cumsum(lengths), lengths),
        prompt=np.repeat([prompts.index(instruction) for instruction in instructions], lengths),
        prompts=prompts,
    )


@dataclass(frozen=True)
class Records:
    """Where the F steps of a dataset lie.

    Attributes:
      file: number of a step's file in `files`.
      record: number of its record in that file.
      files: their names.
      entries: the episodes.
    """

    file: Int[np.ndarray, " F"]
    record: Int[np.ndarray, " F"]
    files: tuple[str, ...]
    entries: tuple[IndexEntry, ...]


def read_steps(directory: Path) -> tuple[FrameTable, Records]:
    """Reads the numbers of an array_record dataset; `UserError` where a part of it is missing or does not fit."""
    directory = Path(directory)
    entries = tuple(read_array_record(directory).entries)
    try:
        with np.load(directory / STEPS, allow_pickle=False) as stored:
            state, action = stored["state"], stored["action"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{directory / STEPS}: not readable; export the dataset again") from error
    lengths = [entry.steps for entry in entries]
    if len(state) != sum(lengths) or len(action) != sum(lengths):
        raise UserError(f"{directory / STEPS}: {len(state)} steps, the index has {sum(lengths)}; export it again")
    table = frame_table(state, action, lengths, [entry.prompt for entry in entries])
    files = tuple(dict.fromkeys(entry.file for entry in entries))
    file = np.repeat([files.index(entry.file) for entry in entries], lengths)
    first = np.array([np.argmax(file == number) for number in range(len(files))])
    return table, Records(file=file, record=np.arange(len(state)) - first[file], files=files, entries=entries)


class FrameSource:
    """Random access to the steps of a dataset, one or a batch.

    An item has `image` and `wrist_image` (uint8 `[h, w, 3]`), `state` `[8]`, `action_chunks` `[H, 7]`, `chunk_mask`
    `[H]` (False behind the episode's end), `prompt` (its number in `prompts`). Pictures are decoded when an item is
    asked for, not before.
    """

    def __init__(
        self,
        directory: Path,
        *,
        horizon: int,
        size: int | None = None,
        kernel: Kernel = "linear",
        cache: int = 1 << 30,
    ):
        """Opens a dataset.

        Args:
          directory: of an array_record dataset.
          horizon: H, actions in a chunk.
          size: pixels a side; as stored by default.
          kernel: how pictures get that size.
          cache: bytes that decoded pictures may take; 0 decodes a frame whenever it is asked for.

        Raises:
          UserError: no array_record dataset there, or a damaged one.
        """
        if horizon < 1:
            raise UserError(f"chunks of {horizon} actions: expected 1 or more")
        self.directory, self.horizon = Path(directory), horizon
        self.table, self._records = read_steps(self.directory)
        self.stored_size = read_array_record(self.directory).size
        self.size, self.kernel = size or self.stored_size, kernel
        self._budget = cache

    @property
    def prompts(self) -> tuple[str, ...]:
        """The different instructions, by their numbers."""
        return self.table.prompts

    @cached_property
    def _files(self) -> list[RecordFile]:
        return [RecordFile(self.directory / name) for name in self._records.files]

    @cached_property
    def _parser(self) -> StepParser:
        return StepParser()

    @cached_property
    def _cache(self) -> ImageCache:
        return ImageCache(len(self), self.size, self._budget)

    def __getstate__(self) -> dict:
        """Without what a process opened for itself."""
        own = ("_files", "_parser", "_cache")
        return {key: value for key, value in self.__dict__.items() if key not in own}

    def __repr__(self) -> str:
        return f"FrameSource({self.directory}, horizon={self.horizon}, size={self.size})"

    def __len__(self) -> int:
        return len(self.table.state)

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        return {name: values[0] for name, values in self.batch([step]).items()}

    def batch(self, steps: Sequence[int]) -> dict[str, np.ndarray]:
        """Several steps at once, with a leading axis; each picture is copied no more than once."""
        table, index = self.table, np.asarray(steps)
        shape = (len(index), self.size, self.size, 3)
        image, wrist = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
        for row, step in enumerate(index.tolist()):
            if self._cache.has(step):
                image[row], wrist[row] = self._cache.get(step)
            else:
                self._decode(step, image[row], wrist[row])
        chunks, mask = table.chunks(index, self.horizon)
        return {
            "image": image,
            "wrist_image": wrist,
            "state": table.state[index],
            "action_chunks": chunks,
            "chunk_mask": mask,
            "prompt": table.prompt[index].astype(np.int32),
        }

    def _decode(self, step: int, *out: UInt8[np.ndarray, "h w 3"]) -> None:
        """Puts the pictures of a step into `out`, and into the cache."""
        records = self._records
        entry, file = records.entries[self.table.episode[step]], self._files[records.file[step]]
        where = f"{file.path}: episode {entry.name}"
        record = file.read(int(records.record[step]), entry.name)
        stored = (self.stored_size, self.stored_size)
        try:
            decoded = [decode_image(data, stored) for data in self._parser.images(record, where)]
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        for image, place in zip(decoded, out, strict=True):
            resize_image(image, self.size, self.kernel, place)
        self._cache.put(step, out)


def use_own_threads_only() -> None:
    """Keeps OpenCV from starting threads for each small picture: the loader's own are as many as there are cores."""
    cv2.setNumThreads(1)
