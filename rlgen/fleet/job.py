"""The work on one task: from demonstrations to episodes, in one process, which goes on where another one was killed.

What ends a try is decided here, by one rule for all engines, because it decides what is in the datasets:

    a mistake or an error of the program    the try has failed; the next one begins from another seed
    killed, or without memory               the same try goes on, in a process that the engine starts again; where it
                                            gets no further in `DEATHS` of them, it has failed
    interrupted, or the disk is full        the same try goes on when the command is repeated
"""

import errno
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from rlgen.core.errors import UserError, first_line
from rlgen.core.ownership import only_writer
from rlgen.core.progress import Progress
from rlgen.fleet.ledger import COSTS, NAME, Ledger, check_intact, read_ledger, stopped_in_a_row
from rlgen.fleet.meter import Meter, Shares, left_behind, timestamp
from rlgen.fleet.plan import FLEET, FleetPlan, run_folder, task_folder
from rlgen.libero.tasks.suites import Task
from rlgen.training.run import Run, create_run, is_run, open_run

if TYPE_CHECKING:
    from rlgen.pipeline.context import Turns

# Exit code of a process whose job has to be started again (EX_TEMPFAIL).
AGAIN = 75
# Processes in a row that may be killed at the same place: more than anybody kills by hand, since it costs a seed.
DEATHS = 20
# Seconds to wait for a process at the same task that the system has not ended yet, as where a node was lost.
PATIENCE = 120.0
# The place at which a process was killed.
_PLACE = ("try", "stage", "mark")
# What a process at a task says.
LOG = "log.txt"
_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE),
    *(errno.EMFILE, errno.ENFILE),
}
_DISK_WORDS = ("No space left", "no space left", "Disk quota", "Read-only file system")
_MEMORY_WORDS = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory", "bad_alloc", "Unable to allocate")


class TryAgainError(Exception):
    """The end of the work of a process on a task, which goes on in another one."""


def kind_of_error(error: BaseException) -> Literal["failed", "killed", "disk"]:
    """Returns what an error means for its try; see the module."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    for link in links:
        # HDF5, and what another process has said, have the number in the text.
        found = re.search(r"(?:errno = |\[Errno )(\d+)", str(link))
        number = link.errno if isinstance(link, OSError) and link.errno else int(found[1]) if found else None
        if number in _DISK or any(words in str(link) for words in _DISK_WORDS):
            return "disk"
    for link in links:
        is_memory = isinstance(link, MemoryError) or (isinstance(link, OSError) and link.errno == errno.ENOMEM)
        if is_memory or isinstance(link, BrokenProcessPool) or any(words in str(link) for words in _MEMORY_WORDS):
            return "killed"
    return "failed"


def deaths(root: Path, task: Task) -> int:
    """Returns how often in a row a process at a task was killed at the place where it is.

    Args:
      root: folder of the fleet.
      task: of its plan.
    """
    folder = task_folder(root, task)
    lines, left = read_ledger(folder / NAME), left_behind(folder)
    last = left or (lines[-1] if lines else {})
    return stopped_in_a_row(lines, {name: last.get(name) for name in _PLACE}) + (left is not None)


@dataclass(frozen=True)
class Surroundings:
    """The surroundings that the tasks of a process share.

    Attributes:
      root: folder of the fleet.
      plan: of the fleet.
      cache: folder of scenes and compiled programs.
      log: called with a line for what is decided.
      shares: costs of the process.
      pool: threads of PPO's environments; None for threads of each task's own.
      patience: seconds to wait for another process at the same task.
    """

    root: Path
    plan: FleetPlan
    cache: Path
    log: Callable[[str], None]
    shares: Shares
    pool: ThreadPoolExecutor | None = None
    patience: float = PATIENCE


def task_turns(around: Surroundings, task: Task) -> "Turns[None]":
    """Does the work on a task, or what is left of it: tries until one succeeds or all have failed.

    A generator, which leaves the iterations of PPO to its caller (`pipeline.context.Turns`), so that the tasks of a
    process may have theirs together. What goes wrong is this task's own.

    Args:
      around: of the process.
      task: of the plan.

    Raises:
      UserError: another process is at the task, or the disk refuses.
      TryAgainError: it goes on in another process.
    """
    with only_writer(task_folder(around.root, task), FLEET.option, patience=around.patience):
        yield from _Work(around, task).turns()


class _Work:
    """The work on one task in this process."""

    def __init__(self, around: Surroundings, task: Task):
        self._around, self._task = around, task
        self._root, self._plan, self._log = around.root, around.plan, around.log
        self._folder = task_folder(around.root, task)
        self._ledger = Ledger(self._folder / NAME, task=task.id)
        self._meter = Meter(self._folder, task.id, around.shares)

    def turns(self) -> "Turns[None]":
        check_intact(self._ledger.read(), self._folder / NAME)
        self._charge_killed()
        lines = self._ledger.read()
        try:
            while not any(line["kind"] == "done" for line in lines):
                number = sum(line["kind"] == "failed" for line in lines)
                if number >= self._plan.tries:
                    self._log(f"{self._task.id}: given up after {number} tries")
                    return
                yield from self._try(number)
                lines = self._ledger.read()
        finally:
            self._meter.close()
        self._log(f"{self._task.id}: done")

    def _charge_killed(self) -> None:
        """Records what a process that was killed has cost, and whether the try has failed by that."""
        left = left_behind(self._folder)
        if left is None:
            return
        place = {name: left[name] for name in ("try", "seed", "stage", "mark")}
        costs = {name: round(float(left[name]), 3) for name in COSTS}
        times = {name: timestamp(left[key]) for name, key in (("start", "start"), ("end", "now"))}
        self._ledger.append("stopped", **place, why="killed", **costs, **times)
        (self._folder / "running.json").unlink(missing_ok=True)
        where = {name: place[name] for name in _PLACE}
        count = stopped_in_a_row(self._ledger.read(), where)
        if count >= DEATHS:
            reason = f"its process was killed {count} times in stage {place['stage']}, probably for want of memory"
            self._fail(place["try"], place["stage"], reason)

    def _try(self, number: int) -> "Turns[None]":
        """Goes on with a try until it is done or has failed."""
        stage, seed = "", self._plan.seed(number)
        try:
            run = self._open(number)
            with only_writer(run.folder, FLEET.option):
                for stage in self._plan.stages:
                    if not run.done(stage):
                        yield from self._stage(run, number, stage)
                stage = "figures"
                self._meter.begin(**{"try": number}, seed=seed, stage=stage, mark=0.0)
                figures = self._finish(run)
                self._ledger.append(
                    "done", **{"try": number}, seed=seed, stage="", figures=figures, **self._meter.end()
                )
        except KeyboardInterrupt:
            self._stop(number, stage, "interrupted")
            raise
        except Exception as error:
            kind = kind_of_error(error)
            if kind == "disk":
                self._stop(number, stage, "disk")
                advice = "" if isinstance(error, UserError) else "; make room, then the same command goes on"
                raise UserError(f"{self._task.id}: {first_line(error)}{advice}") from error
            if kind == "killed":
                self._log(f"{self._task.id}: {first_line(error)}; in stage {stage}, which goes on in a new process")
                raise TryAgainError(str(error)) from error
            if not isinstance(error, UserError):
                self._log("".join(traceback.format_exception(error)))
            # The advice of a stage is a command for a run that stands alone.
            known = isinstance(error, UserError)
            reason = error.reason if known else f"{type(error).__name__}: {first_line(error)}"
            self._fail(number, stage, reason[:500], self._meter.end())

    def _open(self, number: int) -> Run:
        folder = run_folder(self._root, self._task, number)
        if is_run(folder):
            return open_run(folder)
        return create_run(folder, self._plan.run_config(self._task, number), self._plan.assets)

    def _stage(self, run: Run, number: int, stage: str) -> "Turns[None]":
        from rlgen.pipeline.context import Context, stage_turns

        about = {"try": number, "seed": run.config.seed, "stage": stage}
        self._meter.begin(**about, mark=run.seconds(stage))
        context = Context(run, self._around.cache, pool=self._around.pool)
        with self._stream() as stream:
            yield from stage_turns(context, (stage,), Progress(self._plan.stages, stream=stream, every=30.0))
        self._ledger.append("stage", **about, **self._meter.end())

    @contextmanager
    def _stream(self) -> Iterator[TextIO | None]:
        """Yields where progress is written: into each task's own log where several are worked on in turn."""
        if self._plan.together == 1:
            yield None
            return
        with open(self._folder / LOG, "a") as stream:
            yield stream

    def _finish(self, run: Run) -> dict[str, Any]:
        """Returns the figures of a finished run, and writes its clips."""
        from rlgen.fleet.figures import run_figures, write_clips
        from rlgen.pipeline.context import Context

        context = Context(run, self._around.cache)
        figures = run_figures(context)
        write_clips(context, self._folder / "clips", figures)
        return figures

    def _fail(self, number: int, stage: str, reason: str, costs: Mapping[str, Any] | None = None) -> None:
        seed = self._plan.seed(number)
        self._ledger.append("failed", **{"try": number}, seed=seed, stage=stage, reason=reason, **(costs or {}))
        left = self._plan.tries - number - 1
        then = f"the next try begins from seed {self._plan.seed(number + 1)}" if left else "given up"
        self._log(f"{self._task.id}: try {number} failed in stage {stage}: {reason}; {then}")

    def _stop(self, number: int, stage: str, why: str) -> None:
        """Records the costs of a stage that was stopped by what is no fault of its own, where the disk allows it."""
        with suppress(OSError, UserError):
            costs, seed = self._meter.end(), self._plan.seed(number)
            self._ledger.append("stopped", **{"try": number}, seed=seed, stage=stage, why=why, **costs)
