"""The engine `local`: jobs as processes of this machine, as many at a time as cores and memory allow."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rlgen.core.files import disk_errors
from rlgen.core.process import start_child
from rlgen.fleet.engine import LOG, Endings, longest_first, work_command
from rlgen.fleet.plan import task_folder
from rlgen.libero.tasks.suites import Task

# Seconds between two looks at the processes, between two calls of `on_change`, and that a process has to end by itself.
POLL = 0.1
CHANGE = 5.0
GRACE = 2.0
Command = Callable[[Path, Task], list[str]]


@dataclass(frozen=True)
class LocalEngine:
    """Processes of this machine.

    Attributes:
      jobs: processes at a time.
      command: of the job of a task.
    """

    jobs: int
    command: Command = work_command

    def run(self, root: Path, tasks: Sequence[Task], on_change: Callable[[], None]) -> list[str]:
        """Runs jobs; however this ends, its processes have ended then. Arguments as of `Engine.run`."""
        waiting, running, endings = longest_first(tasks), dict[Task, subprocess.Popen[bytes]](), Endings(root)
        changed = time.monotonic()
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    task = waiting.pop(0)
                    running[task] = self._start(root, task)
                ended = [task for task, process in running.items() if process.poll() is not None]
                for task in ended:
                    if endings.again(task, running.pop(task).returncode):
                        waiting.append(task)
                if ended or time.monotonic() - changed >= CHANGE:
                    changed = time.monotonic()
                    on_change()
                time.sleep(POLL)
        finally:
            _end(list(running.values()))
        return endings.unfinished

    def _start(self, root: Path, task: Task) -> "subprocess.Popen[bytes]":
        log = task_folder(root, task) / LOG
        with disk_errors(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            with open(log, "ab") as stream:
                return start_child(
                    self.command(root, task), stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
                )


def _end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Ends processes: they may say first what they have cost."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
    end = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(timeout=max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
