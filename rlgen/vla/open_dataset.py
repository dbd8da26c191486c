"""Datasets by their folder, as training reads them."""

from pathlib import Path
from typing import Any

from rlgen.data.card import CARD_JSON
from rlgen.data.rlds import read_rlds
from rlgen.errors import UserError
from rlgen.files import read_json
from rlgen.vla.frames import Frames, from_rlds


def open_frames(folder: Path, side: int, threads: int) -> Frames:
    """The dataset in a folder; pictures fit a model of `side` pixels as far as they are decoded now.

    Raises:
      UserError: there is none, or it is damaged.
    """
    return from_rlds(read_rlds(Path(folder)), side, threads=threads)


def action_semantics(folder: Path) -> Any:
    """What a dataset's card says of its actions, None where there is no card or it says nothing.

    Raises:
      UserError: the card cannot be read.
    """
    path = Path(folder) / CARD_JSON
    if not path.is_file():
        return None
    try:
        return read_json(path).get("action_semantics")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); export the dataset again") from error
