"""Finished episodes, one JSON line each, only ever appended: what an evaluation goes on from."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError
from rlgen.core.files import read_json, write_bytes, write_json
from rlgen.core.stats import SuccessRate
from rlgen.evaluation.protocol import Protocol
from rlgen.training.metrics import read_metrics

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


def summary(name: str, protocol: Protocol, trials: Sequence[Trial]) -> dict[str, Any]:
    """Success by task, by suite and in all, each with its interval, and what was done instead."""

    def rate(chosen: Sequence[Trial]) -> dict[str, Any]:
        return SuccessRate(sum(trial.success for trial in chosen), len(chosen)).to_json()

    tasks = list(dict.fromkeys(trial.task for trial in trials))
    suites = list(dict.fromkeys(task.split("/")[0] for task in tasks))
    confusion = {
        task: dict(Counter(other for trial in trials if trial.task == task for other in trial.reached))
        for task in tasks
    }
    return {
        "policy": name,
        "protocol": protocol.to_json(),
        "all": rate(trials),
        "suites": {suite: rate([t for t in trials if t.task.startswith(f"{suite}/")]) for suite in suites},
        "tasks": {task: rate([t for t in trials if t.task == task]) for task in tasks},
        "confusion": {task: others for task, others in confusion.items() if others},
    }


def write_report(folder: Path, name: str, protocol: Protocol, trials: Sequence[Trial]) -> dict[str, Any]:
    """Writes `report.json` and `report.md`; returns the first."""
    told = summary(name, protocol, trials)
    write_json(Path(folder) / "report.json", told)
    write_bytes(Path(folder) / "report.md", markdown(told).encode())
    return told


def markdown(told: dict[str, Any]) -> str:
    """The report as a page of text."""
    lines = [f"# {told['policy']}", "", "| | success, 95 % Wilson interval |", "| --- | --- |"]
    rows = {"all": told["all"], **told["suites"], **told["tasks"]}
    lines += [f"| {name} | {SuccessRate.from_json(rate)} |" for name, rate in rows.items()]
    if told["confusion"]:
        lines += ["", "## Failures that reached another task's goal", "", "| task | reached | episodes |"]
        lines += ["| --- | --- | --- |"]
        pairs = [(task, other, n) for task, others in told["confusion"].items() for other, n in others.items()]
        lines += [f"| {task} | {other} | {count} |" for task, other, count in pairs]
    lines += ["", "## Protocol", "", "| | |", "| --- | --- |"]
    lines += [f"| {key.replace('_', ' ')} | {value} |" for key, value in told["protocol"].items()]
    return "\n".join(lines) + "\n"
