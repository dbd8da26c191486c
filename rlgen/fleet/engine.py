"""Engines: who starts the jobs of a fleet, and the rule by which a job whose process has ended is started again.

The unit that every engine runs is the command `rlgen fleet work DIR --task TASK`: one process for one task, which goes
on where it was. An engine decides when and where it runs, and never what it does.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rlgen.core.errors import UserError
from rlgen.fleet.job import AGAIN
from rlgen.fleet.plan import task_folder
from rlgen.libero.tasks.suites import Task

LOG = "log.txt"
# The job's own rule counts deaths without progress; this ends a job that dies before it can count.
MOST_STARTS = 50
# Ends of a process that is no signal, such as an exception before the job begins.
MOST_ERRORS = 3


class Engine(Protocol):
    """A starter of jobs."""

    def run(self, root: Path, tasks: Sequence[Task], on_change: Callable[[], None]) -> list[str]:
        """Runs the jobs of tasks until all have ended.

        Args:
          root: folder of the fleet.
          tasks: whose jobs have not ended.
          on_change: called a few times a minute, and whenever a job has ended.

        Returns:
          A line for each task whose job could not be run to its end; the others are in their ledgers.

        Raises:
          UserError: the disk is full, or something else that concerns all of them.
        """
        ...


def work_command(root: Path, task: Task) -> list[str]:
    """Returns the command of a task's job, for a process of this Python."""
    return [sys.executable, "-P", "-m", "rlgen", *work_words(root, task.id)]


def work_words(root: Path | str, task: str) -> list[str]:
    """Returns the words of a task's job behind `rlgen`."""
    return ["fleet", "work", str(root), "--task", task]


@dataclass
class Endings:
    """The ends of jobs' processes, and what follows from them.

    Attributes:
      root: folder of the fleet.
      unfinished: a line for each job that is not started again.
    """

    root: Path
    unfinished: list[str] = field(default_factory=list)
    _starts: dict[Task, int] = field(default_factory=dict)
    _errors: dict[Task, int] = field(default_factory=dict)

    def again(self, task: Task, code: int) -> bool:
        """Returns whether the job of a task has to be started again, whose process has ended with an exit code.

        Args:
          task: of the job.
          code: negative for a signal.

        Raises:
          UserError: the process was refused something that concerns all of them.
        """
        if code == 0:
            return False
        log = task_folder(self.root, task) / LOG
        if code == 2:
            raise UserError(_last_line(log) or f"{task.id}: its job was refused; see {log}")
        self._starts[task] = self._starts.get(task, 0) + 1
        if code > 0 and code != AGAIN:
            self._errors[task] = self._errors.get(task, 0) + 1
        if self._starts[task] < MOST_STARTS and self._errors.get(task, 0) < MOST_ERRORS:
            return True
        self.unfinished.append(f"{task.id}: its process ends with {code} again and again; see {log}")
        return False


def longest_first(tasks: Sequence[Task]) -> list[Task]:
    """Returns tasks in the order in which they are started: the longest first, so that no core is idle at the end."""
    return sorted(tasks, key=lambda task: -task.horizon)


def _last_line(log: Path) -> str:
    """Returns the last line that a process said of its end, without the program's name."""
    if not log.is_file():
        return ""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        lines = file.read().decode(errors="replace").splitlines()
    said = [line.removeprefix("rlgen: ") for line in lines if line.startswith("rlgen: ")]
    return said[-1] if said else ""
