"""The model of the smallest validation loss of a training, kept beside the last one as `model/best`."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import PyTree

from rlgen.core.files import write_json
from rlgen.core.ownership import read_record, remove
from rlgen.data.loader import Mixture
from rlgen.training.processes import is_first, wait_for_all

BEST, SCORE = "best", "best.json"


class BestModel:
    """A model folder that is replaced whenever a validation loss is smaller than all before.

    `best.json` in it has the step and the loss. Losses on other held-out data are not compared: after data have been
    added, the first validation replaces the model.

    Attributes:
      place: of the model folder.
      loss: the smallest so far; infinite where there is none.
    """

    def __init__(self, folder: Path, write: Callable[[Path, PyTree], None], held_out: Mixture):
        """Opens the best model of a training that may have begun.

        Args:
          folder: of the training's models.
          write: writes a model folder with the given parameters; every process calls it.
          held_out: the data to validate on.
        """
        self.place, self._write, self._data = folder / BEST, write, identity(held_out)
        self._part = self.place.with_name(f".{BEST}.part")
        if is_first() and not self.place.exists() and (self._part / SCORE).is_file():
            self._part.rename(self.place)  # of a training that was killed between removing the old and naming the new
        wait_for_all("best found")
        before = read_record(self.place / SCORE)
        wait_for_all("best")
        known = isinstance(before, dict) and before.get("held_out") == self._data
        loss = before.get("validation_loss") if known else None
        self.loss = float(loss) if isinstance(loss, int | float) else float("inf")

    def offer(self, step: int, loss: float, params: PyTree) -> bool:
        """Keeps a model if its loss is the smallest so far, and returns whether it is.

        Args:
          step: optimizer steps done.
          loss: of validation.
          params: to act with.
        """
        if not loss < self.loss:
            return False
        self.loss, part = loss, self._part
        if is_first():
            shutil.rmtree(part, ignore_errors=True)
        wait_for_all("best cleared")
        self._write(part, params)
        wait_for_all("best written")
        if is_first():
            write_json(part / SCORE, {"step": step, "validation_loss": loss, "held_out": self._data})
            if self.place.exists():
                remove(self.place)
            if self.place.exists():
                remove(self.place)
            part.rename(self.place)
        wait_for_all("best kept")
        return True


def identity(held_out: Mixture) -> str:
    """Returns a hash of the frames that a training validates on."""
    total = hashlib.sha256()
    for subset in held_out.subsets:
        total.update(np.ascontiguousarray(subset.frames.table.state[subset.index]).tobytes())
        total.update(np.ascontiguousarray(subset.frames.table.action[subset.index]).tobytes())
    return total.hexdigest()
