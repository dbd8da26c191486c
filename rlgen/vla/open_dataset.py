"""Datasets by their folder, as training reads them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rlgen.data.card import CARD_JSON
from rlgen.data.frame_source import FrameSource
from rlgen.data.open_dataset import dataset_format, open_dataset
from rlgen.errors import UserError
from rlgen.files import read_json
from rlgen.vla.frames import Frames, ItemFrames, from_rlds


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
