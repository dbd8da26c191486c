"""Engines, which start the jobs of a fleet: the rule by which they start them again, and the engine `local`.

The unit that every engine runs is the command `rlgen fleet work DIR --task JOB`: one process for one task, or for those
whose experts are trained together, which goes on where it was. An engine decides when and where it runs, and never what
it does.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rlgen.core.errors import UserError
from rlgen.core.files import disk_errors
from rlgen.core.process import start_child
from rlgen.fleet.job import AGAIN
from rlgen.fleet.jobs import Job, job_log, job_name, longest_first

# Seconds between two looks at the processes, between two calls of `on_change`, and that a process has to end by itself.
POLL = 0.1
CHANGE = 5.0
GRACE = 2.0
Command = Callable[[Path, Job], list[str]]
# The job's own rule counts deaths without progress; this ends a job that dies before it can count.
MOST_STARTS = 50
# Ends of a process that is no signal, such as an exception before the job begins.
MOST_ERRORS = 3


class Engine(Protocol):
    """A starter of jobs."""

    def run(self, root: Path, jobs: Sequence[Job], on_change: Callable[[], None]) -> list[str]:
        """Runs jobs until all have ended.

        Args:
          root: folder of the fleet.
          jobs: that have not ended.
          on_change: called a few times a minute, and whenever a job has ended.

        Returns:
          A line for each job that could not be run to its end; the others are in the ledgers of their tasks.

        Raises:
          UserError: the disk is full, or something else that concerns all of them.
        """
        ...


def work_command(root: Path, job: Job) -> list[str]:
    """Returns the command of a job, for a process of this Python."""
    return [sys.executable, "-P", "-m", "rlgen", *work_words(root, job_name(job))]


def work_words(root: Path | str, job: str) -> list[str]:
    """Returns the words of a job behind `rlgen`; see `job_name`."""
    return ["fleet", "work", str(root), "--task", job]


@dataclass
class Endings:
    """The ends of jobs' processes, and what follows from them.

    Attributes:
      root: folder of the fleet.
      unfinished: a line for each job that is not started again.
    """

    root: Path
    unfinished: list[str] = field(default_factory=list)
    _starts: dict[Job, int] = field(default_factory=dict)
    _errors: dict[Job, int] = field(default_factory=dict)

    def again(self, job: Job, code: int) -> bool:
        """Returns whether a job has to be started again, whose process has ended with an exit code.

        Args:
          job: of the process.
          code: negative for a signal.

        Raises:
          UserError: the process was refused something that concerns all of them.
        """
        if code == 0:
            return False
        log = job_log(self.root, job)
        if code == 2:
            raise UserError(_last_line(log) or f"{job_name(job)}: this job was refused; see {log}")
        self._starts[job] = self._starts.get(job, 0) + 1
        if code > 0 and code != AGAIN:
            self._errors[job] = self._errors.get(job, 0) + 1
        if self._starts[job] < MOST_STARTS and self._errors.get(job, 0) < MOST_ERRORS:
            return True
        self.unfinished.append(f"{job_name(job)}: its process ends with {code} again and again; see {log}")
        return False


@dataclass(frozen=True)
class LocalEngine:
    """Processes of this machine.

    Attributes:
      at_a_time: processes at the same time.
      command: of a job.
    """

    at_a_time: int
    command: Command = work_command

    def run(self, root: Path, jobs: Sequence[Job], on_change: Callable[[], None]) -> list[str]:
        """Runs jobs; however this ends, its processes have ended then. Arguments as of `Engine.run`."""
        waiting, running, endings = longest_first(jobs), dict[Job, subprocess.Popen[bytes]](), Endings(root)
        changed, started = time.monotonic(), list[subprocess.Popen[bytes]]()

        def start(job: Job) -> "subprocess.Popen[bytes]":
            started.append(self._start(root, job))
            return started[-1]

        # Interruptions reach the main thread alone: this one loses no process between its start and the list.
        with ThreadPoolExecutor(1) as starter:
            try:
                while waiting or running:
                    while waiting and len(running) < self.at_a_time:
                        job = waiting.pop(0)
                        running[job] = starter.submit(start, job).result()
                    ended = [job for job, process in running.items() if process.poll() is not None]
                    for job in ended:
                        if endings.again(job, running.pop(job).returncode):
                            waiting.append(job)
                    if ended or time.monotonic() - changed >= CHANGE:
                        changed = time.monotonic()
                        on_change()
                    time.sleep(POLL)
            finally:
                starter.submit(lambda: None).result()
                end_processes([process for process in started if process.poll() is None])
        return endings.unfinished

    def _start(self, root: Path, job: Job) -> "subprocess.Popen[bytes]":
        log = job_log(root, job)
        with disk_errors(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            with open(log, "ab") as stream:
                return start_child(
                    self.command(root, job), stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
                )


def end_processes(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Ends processes: they may say first what they have cost, unless somebody interrupts that as well."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
    end = time.monotonic() + GRACE
    try:
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, end - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _last_line(log: Path) -> str:
    """Returns the last line that a process said of its end, without the program's name."""
    if not log.is_file():
        return ""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        lines = file.read().decode(errors="replace").splitlines()
    said = [line.removeprefix("rlgen: ") for line in lines if line.startswith("rlgen: ")]
    return said[-1] if said else ""
