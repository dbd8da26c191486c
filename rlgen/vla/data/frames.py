"""What training reads: the steps of a dataset, small numbers in memory, pictures when they are asked for."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int, UInt8

from rlgen.core.errors import UserError
from rlgen.core.files import read_json
from rlgen.data.card import CARD_JSON
from rlgen.data.dataset import dataset_format, open_dataset
from rlgen.data.frames import FrameSource, FrameTable, frame_table
from rlgen.data.images import EncodedFrames
from rlgen.vla.data.images import resize_with_pad
from rlgen.vla.data.transforms import PROMPT, STATE, Sample

KEYS = {"image": "observation/image", "wrist_image": "observation/wrist_image"}
DECODED_BYTES = 2 << 30


class Frames(Protocol):
    """A dataset: its table, and pictures by the number of the step."""

    @property
    def table(self) -> FrameTable:
        """The numbers of all steps."""

    def images(self, index: Int[np.ndarray, " B"]) -> dict[str, UInt8[np.ndarray, "B h w 3"]]:
        """`image` and `wrist_image` of steps, upright."""


class DatasetEpisode(Protocol):
    """What is used of an episode of an RLDS export; pictures are upright."""

    image: UInt8[np.ndarray, "T h w 3"] | EncodedFrames
    wrist_image: UInt8[np.ndarray, "T h w 3"] | EncodedFrames
    state: Float[np.ndarray, "T 8"]
    action: Float[np.ndarray, "T 7"]
    language_instruction: str


@dataclass(frozen=True)
class MemoryFrames:
    """A dataset in memory; pictures as arrays, or encoded, and decoded by threads when they are asked for.

    What is decoded then is given in squares of `side` pixels, if that is not None.
    """

    table: FrameTable
    image: UInt8[np.ndarray, "F h w 3"] | EncodedFrames
    wrist_image: UInt8[np.ndarray, "F h w 3"] | EncodedFrames
    pool: ThreadPoolExecutor | None = field(default=None, compare=False)
    side: int | None = None

    def images(self, index: Int[np.ndarray, " B"]) -> dict[str, UInt8[np.ndarray, "B h w 3"]]:
        """`image` and `wrist_image` of steps, upright."""
        return {name: self._some(getattr(self, name), index) for name in KEYS}

    def _some(self, stored: np.ndarray | EncodedFrames, index: np.ndarray) -> np.ndarray:
        if isinstance(stored, np.ndarray):
            return stored[index]
        decode = map if self.pool is None else self.pool.map
        return np.stack(list(decode(lambda number: _squares(stored[int(number)], self.side), index)))


@dataclass(frozen=True)
class ItemFrames:
    """A source that gives whole items by number, such as a reader of records, as a dataset.

    Attributes:
      source: has a `table`, and items with `image` and `wrist_image`.
      pool: threads that read and decode.
      side: pixels of the squares in which pictures are given; None leaves them as they are.
    """

    source: Sequence
    pool: ThreadPoolExecutor
    side: int | None = None

    @property
    def table(self) -> FrameTable:
        """The numbers of all steps."""
        return self.source.table

    def images(self, index: Int[np.ndarray, " B"]) -> dict[str, UInt8[np.ndarray, "B h w 3"]]:
        """`image` and `wrist_image` of steps, upright."""
        items = list(self.pool.map(self._images, index))
        return {name: np.stack([item[name] for item in items]) for name in KEYS}

    def _images(self, number: int) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
        item = self.source[int(number)]
        return {name: _squares(item[name], self.side) for name in KEYS}


def _squares(images: UInt8[np.ndarray, "*B h w 3"], side: int | None) -> UInt8[np.ndarray, "*B h w 3"]:
    return images if side is None else resize_with_pad(images, side)


def take(frames: Frames, index: Int[np.ndarray, " B"], horizon: int) -> Sample:
    """Steps as a robot would send them, with the actions that follow."""
    table = frames.table
    actions, mask = table.chunks(index, horizon)
    images = {KEYS[name]: image for name, image in frames.images(index).items()}
    prompts = [table.prompts[number] for number in table.prompt[index]]
    return {**images, STATE: table.state[index], PROMPT: prompts, "actions": actions, "action_mask": mask}


def from_rlds(episodes: Iterable[DatasetEpisode], side: int, *, threads: int = 1) -> MemoryFrames:
    """Reads every episode once and keeps it in memory.

    Pictures are kept decoded and in squares of `side` pixels where they take less than 2 GiB, encoded as they
    are otherwise.

    Raises:
      UserError: there is no episode.
    """
    held = list(episodes)
    if not held:
        raise UserError("the dataset holds no episode; export at least one before training on it")
    table = frame_table(
        state=np.concatenate([np.asarray(episode.state, np.float32) for episode in held]),
        action=np.concatenate([np.asarray(episode.action, np.float32) for episode in held]),
        lengths=[len(episode.action) for episode in held],
        instructions=[episode.language_instruction for episode in held],
    )
    large = 2 * len(table) * side * side * 3 > DECODED_BYTES
    columns = {name: [getattr(episode, name) for episode in held] for name in KEYS}
    if large and all(isinstance(part, EncodedFrames) for column in columns.values() for part in column):
        kept = {name: _joined(column) for name, column in columns.items()}
        return MemoryFrames(table, **kept, pool=ThreadPoolExecutor(threads), side=side)
    decoded = {n: np.concatenate([resize_with_pad(np.asarray(p), side) for p in parts]) for n, parts in columns.items()}
    return MemoryFrames(table, **decoded)


def _joined(parts: Sequence[EncodedFrames]) -> EncodedFrames:
    return EncodedFrames(tuple(data for part in parts for data in part.data), parts[0].size)


def open_frames(folder: Path, side: int, threads: int) -> Frames:
    """The dataset in a folder, of any format, with pictures in squares of `side` pixels.

    An array_record dataset stays on the disk; the others are read into memory.

    Raises:
      UserError: there is none, or it is damaged.
    """
    if dataset_format(Path(folder)) == "array_record":
        # What the model sees is what is kept decoded, made by the resize that evaluation and server use.
        source = FrameSource(Path(folder), horizon=1, size=side, kernel="pillow")
        return ItemFrames(source, ThreadPoolExecutor(threads), side)
    return from_rlds(open_dataset(Path(folder)), side, threads=threads)


def action_semantics(folder: Path) -> Any:
    """What a dataset's card says of its actions, None where there is no card or it says nothing.

    Raises:
      UserError: there is no such folder, or the card cannot be read.
    """
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such folder; expected a dataset such as <suite>_no_noops/1.0.0")
    path = Path(folder) / CARD_JSON
    if not path.is_file():
        return None
    try:
        return read_json(path).get("action_semantics")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); export the dataset again") from error
