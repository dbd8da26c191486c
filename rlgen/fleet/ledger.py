"""The ledger of a task: what its runs have cost and how they ended, a file of JSON lines that is only appended to.

Every line has `kind`, `task`, `try`, `seed` and the times `start` and `end`; its kinds are

    stage     a stage is done: its cost in core-seconds, device-seconds and wall seconds
    stopped   a process ended in the middle of a stage: what it had cost until shortly before, and why it ended
    failed    a try has failed: the reason; the next one begins from another seed
    done      the task has its episodes: figures of the clone and of the expert

Where the process was at work for several tasks at once, its costs are divided by their number, and `together` is the
most there were.

A line that was torn, because the process was killed or the disk was full, is not read, and removed before the next one.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlgen.core.errors import UserError
from rlgen.core.files import disk_errors, parse_json
from rlgen.core.ownership import has_keys, read_record
from rlgen.fleet.plan import FleetPlan, task_folder
from rlgen.libero.tasks.suites import Task

NAME = "ledger.jsonl"
# What a process at work says of itself, several times a minute.
RUNNING = "running.json"
COSTS = ("core_seconds", "device_seconds", "wall_seconds")
# Seconds after which a process that says nothing is no longer counted as at work.
SILENT = 60.0
State = Literal["waiting", "running", "stopped", "done", "failed"]


class Ledger:
    """The ledger of one task, open for lines of one process or of several.

    Args:
      path: of the file; it is made if it is absent.
      **common: values that every line has, such as the task.
    """

    def __init__(self, path: Path, **common: Any):
        self._path, self._common = Path(path), common

    def append(self, kind: str, **values: Any) -> dict[str, Any]:
        """Appends one line, whole or not at all; on the disk when this returns.

        Args:
          kind: of the line.
          **values: JSON values beside the common ones.

        Raises:
          UserError: the disk refuses.
        """
        line = {"kind": kind, **self._common, **values}
        data = (json.dumps(line, allow_nan=False) + "\n").encode()
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                end = _end_of_whole_lines(handle)
                os.ftruncate(handle, end)
                try:
                    os.pwrite(handle, data, end)
                    os.fsync(handle)
                    if os.fstat(handle).st_size < end + len(data):
                        raise OSError(28, os.strerror(28))
                except OSError:
                    os.ftruncate(handle, end)
                    raise
            finally:
                os.close(handle)
        return line

    def read(self) -> list[dict[str, Any]]:
        """Returns all whole lines."""
        return read_ledger(self._path)


def _end_of_whole_lines(handle: int) -> int:
    """Returns the position behind the last line that has an end."""
    end = os.fstat(handle).st_size
    while end > 0:
        start = max(0, end - 4096)
        block = os.pread(handle, end - start, start)
        if b"\n" in block:
            return start + block.rindex(b"\n") + 1
        end = start
    return 0


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """Returns the whole lines of a ledger; none where there is no file."""
    if not path.is_file():
        return []
    lines = []
    for data in path.read_bytes().split(b"\n")[:-1]:
        try:
            line = parse_json(data)
        except ValueError:
            continue
        if has_keys(line, "kind", "task", "try"):
            lines.append(line)
    return lines


@dataclass(frozen=True)
class TaskState:
    """The progress of a task.

    Attributes:
      task: of it.
      state: `waiting` has not begun, `stopped` was ended in the middle and goes on with the same command.
      number: of the try, from 0.
      stage: at work, or at which it stopped; empty where there is none.
      reasons: of the tries that failed, in order.
      costs: of all its processes, by the names in `COSTS`.
      figures: of a task that is done.
    """

    task: Task
    state: State
    number: int = 0
    stage: str = ""
    reasons: Sequence[str] = ()
    costs: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COSTS, 0.0))
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """Reason why the last try failed; empty where none did."""
        return self.reasons[-1] if self.reasons else ""


def read_state(root: Path, plan: FleetPlan, task: Task, now: float) -> TaskState:
    """Returns how far a task of a fleet is.

    Args:
      root: folder of the fleet.
      plan: of the fleet.
      task: of the plan.
      now: time, seconds since 1970.
    """
    folder = task_folder(root, task)
    return state_of(task, read_ledger(folder / NAME), read_record(folder / RUNNING), plan.tries, now)


def state_of(task: Task, lines: Sequence[dict[str, Any]], running: Any, tries: int, now: float) -> TaskState:
    """Returns how far a task is.

    Args:
      task: of the lines.
      lines: of its ledger.
      running: what a process at work said of itself; anything else counts as none.
      tries: after which it is given up.
      now: time, seconds since 1970.
    """
    costs = total_costs(lines)
    reasons = tuple(str(line.get("reason", "")) for line in lines if line["kind"] == "failed")
    done = [line for line in lines if line["kind"] == "done"]
    if done:
        return TaskState(task, "done", done[-1]["try"], "", reasons, costs, done[-1].get("figures", {}))
    if len(reasons) >= tries:
        return TaskState(task, "failed", len(reasons) - 1, lines[-1].get("stage", ""), reasons, costs)
    if has_keys(running, "stage", "now", "try", *COSTS):
        costs = {name: costs[name] + float(running[name]) for name in COSTS}
        state: State = "running" if now - running["now"] < SILENT else "stopped"
        return TaskState(task, state, running["try"], running["stage"], reasons, costs)
    if not lines:
        return TaskState(task, "waiting")
    return TaskState(task, "stopped", len(reasons), lines[-1].get("stage", ""), reasons, costs)


def total_costs(lines: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Returns the sums of the costs in lines."""
    lines = list(lines)
    return {name: sum(float(line.get(name, 0.0)) for line in lines) for name in COSTS}


def stopped_in_a_row(lines: Sequence[dict[str, Any]], where: dict[str, Any]) -> int:
    """Returns how often in a row, until the last line, a process has ended at a place without getting further.

    Args:
      lines: of a ledger.
      where: values that a line of such an end has; those that were interrupted, or had no disk, do not count.
    """
    count = 0
    for line in reversed(lines):
        if line["kind"] != "stopped" or any(line.get(name) != value for name, value in where.items()):
            return count
        count += line.get("why") == "killed"
    return count


def check_intact(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Raises `UserError` where lines are about several tasks, as where a file was put in another's place."""
    tasks = {line["task"] for line in lines}
    if len(tasks) > 1:
        raise UserError(f"{path} is about {', '.join(sorted(tasks))}; expected one task, move it away")
