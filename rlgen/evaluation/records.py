"""Finished episodes, one JSON line each, only ever appended: what an evaluation goes on from."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlgen.errors import UserError
from rlgen.files import read_json, write_json
from rlgen.train.metrics import read_metrics

EPISODES, RECORD = "episodes.jsonl", "evaluation.json"


@dataclass(frozen=True)
class Trial:
    """A finished episode.

    Attributes:
      task: `<suite>/<name>`.
      trial: number of the trial of its task.
      initial_index: stored initial state.
      success: whether the goal was reached.
      steps: control steps taken.
      reached: of a failure, tasks of the same scene whose goal holds at the end.
    """

    task: str
    trial: int
    initial_index: int
    success: bool
    steps: int
    reached: tuple[str, ...] = ()


class Records:
    """The episodes of an evaluation in a folder.

    Raises:
      UserError: the folder holds another evaluation, or something else.
    """

    def __init__(self, folder: Path, description: dict[str, Any]):
        self.folder = Path(folder)
        described = self.folder / RECORD
        if described.is_file():
            before = read_json(described)
            changed = [k for k in sorted(set(before) | set(description)) if before.get(k) != description.get(k)]
            if changed:
                raise UserError(f"{folder} holds an evaluation with another {changed[0]}; choose another --out")
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise UserError(f"{folder} is there and is no evaluation; choose another --out")
        else:
            write_json(described, description)
        self._path = self.folder / EPISODES
        self.trials = [Trial(**{**line, "reached": tuple(line["reached"])}) for line in read_metrics(self._path)]
        # A line that was cut off when the process was killed is written again.
        self._path.write_text("".join(_line(trial) for trial in self.trials))

    def done(self, task: str) -> set[int]:
        """Numbers of the finished trials of a task."""
        return {trial.trial for trial in self.trials if trial.task == task}

    def append(self, trials: list[Trial]) -> None:
        """Adds finished episodes; on the disk before this returns."""
        with open(self._path, "a") as file:
            file.write("".join(_line(trial) for trial in trials))
            file.flush()
            os.fsync(file.fileno())
        self.trials += trials


def _line(trial: Trial) -> str:
    return json.dumps(asdict(trial)) + "\n"
