"""Records of an evaluation by the public protocol: finished trials as JSON lines, and the report made of them.

`episodes.jsonl` is only ever appended to, so that an interrupted evaluation resumes after its last line;
`evaluation.json` says what is evaluated and how, so that another evaluation is not mixed in.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError
from rlgen.core.files import write_bytes, write_json
from rlgen.core.ownership import is_vacant, read_record
from rlgen.core.stats import SuccessRate
from rlgen.evaluation.protocol import Protocol
from rlgen.training.metrics import read_metrics

EPISODES, DESCRIPTION = "episodes.jsonl", "evaluation.json"


@dataclass(frozen=True)
class TrialRecord:
    """A finished trial. The fields are the keys of its line.

    Attributes:
      task: `<suite>/<name>`.
      trial: index of the trial within its task.
      initial_index: index of the stored initial state.
      success: whether the goal was reached.
      steps: control steps taken.
      reached: for a failure, the tasks of the same scene whose goal holds at the end.
      fixtures: positions and quaternions of the fixtures that were drawn for it; not in the line where none were.
    """

    task: str
    trial: int
    initial_index: int
    success: bool
    steps: int
    reached: tuple[str, ...] = ()
    fixtures: list[list[float]] | None = None


class Records:
    """The finished trials of an evaluation in a folder.

    Attributes:
      folder: of the evaluation.
      trials: in the order in which they finished.
    """

    def __init__(self, folder: Path, description: dict[str, Any]):
        """Opens a folder, or starts an evaluation in one that is empty or absent.

        Args:
          folder: of the evaluation.
          description: what is evaluated and how; must be that of the folder.

        Raises:
          UserError: the folder holds another evaluation, or something else.
        """
        self.folder = Path(folder)
        described = self.folder / DESCRIPTION
        before = read_record(described)
        if isinstance(before, dict):
            before = _upgraded(before)
            changed = [k for k in sorted(set(before) | set(description)) if before.get(k) != description.get(k)]
            if changed:
                found = _difference(before.get(changed[0]), description.get(changed[0]))
                raise UserError(f"{folder} holds an evaluation with another {changed[0]}{found}; choose another --out")
        elif not is_vacant(self.folder):
            raise UserError(f"{folder} exists and is not an evaluation; choose another --out")
        else:
            write_json(described, description)
        self._path = self.folder / EPISODES
        try:
            lines = read_metrics(self._path)
            self.trials = [TrialRecord(**{**line, "reached": tuple(line["reached"])}) for line in lines]
        except (TypeError, KeyError) as error:
            raise UserError(f"{self._path} is not of an evaluation ({error}); choose another --out") from error
        # Without a line that was cut off when the process was killed.
        write_bytes(self._path, "".join(_line(trial) for trial in self.trials).encode())

    def done(self, task: str) -> set[int]:
        """Returns the indices of a task's finished trials."""
        return {trial.trial for trial in self.trials if trial.task == task}

    def append(self, trials: list[TrialRecord]) -> None:
        """Adds finished trials; they are on disk when this returns."""
        with open(self._path, "a") as file:
            file.write("".join(_line(trial) for trial in trials))
            file.flush()
            os.fsync(file.fileno())
        self.trials += trials


def _upgraded(description: dict[str, Any]) -> dict[str, Any]:
    """Returns a description with what evaluations did not say before there was a choice: fixtures were fixed."""
    protocol = description.get("protocol")
    return {**description, "protocol": {"fixtures": "fixed", **protocol}} if isinstance(protocol, dict) else description


def _difference(before: Any, now: Any) -> str:
    """Returns which settings of two protocols differ, in parentheses; empty for other parts of a description."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return ""
    changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    return f" ({', '.join(f'{key} {before.get(key)}, not {now.get(key)}' for key in changed)})"


def _line(trial: TrialRecord) -> str:
    return json.dumps({key: value for key, value in asdict(trial).items() if value is not None}) + "\n"


def summary(name: str, protocol: Protocol, trials: Sequence[TrialRecord]) -> dict[str, Any]:
    """Returns success by task, by suite and in all, each with its interval, and which other goals failures reached.

    Args:
      name: of the policy.
      protocol: how success was measured.
      trials: the finished ones, at least one.
    """

    def rate(chosen: Sequence[TrialRecord]) -> dict[str, Any]:
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


def write_report(folder: Path, name: str, protocol: Protocol, trials: Sequence[TrialRecord]) -> dict[str, Any]:
    """Writes `report.json` and `report.md`.

    Args:
      folder: where to.
      name: of the policy.
      protocol: how success was measured.
      trials: the finished ones, at least one.

    Returns:
      The content of `report.json`.
    """
    report = summary(name, protocol, trials)
    write_json(Path(folder) / "report.json", report)
    write_bytes(Path(folder) / "report.md", markdown(report).encode())
    return report


def markdown(report: dict[str, Any]) -> str:
    """Returns a report as a page of Markdown."""
    lines = [f"# {report['policy']}", "", "| | success, 95 % Wilson interval |", "| --- | --- |"]
    rows = {"all": report["all"], **report["suites"], **report["tasks"]}
    lines += [f"| {name} | {SuccessRate.from_json(rate)} |" for name, rate in rows.items()]
    if report["confusion"]:
        lines += ["", "## Failures that reached another task's goal", "", "| task | reached | episodes |"]
        lines += ["| --- | --- | --- |"]
        pairs = [(task, other, n) for task, others in report["confusion"].items() for other, n in others.items()]
        lines += [f"| {task} | {other} | {count} |" for task, other, count in pairs]
    lines += ["", "## Protocol", "", "| | |", "| --- | --- |"]
    lines += [f"| {key.replace('_', ' ')} | {value} |" for key, value in report["protocol"].items()]
    return "\n".join(lines) + "\n"
