"""What an evaluation found, for programs and for people."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlgen.evaluation.protocol import Protocol
from rlgen.evaluation.records import Trial
from rlgen.files import write_bytes, write_json
from rlgen.report.intervals import SuccessRate


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
