"""The job of a task: from demonstrations to episodes, in one process, which goes on where another one was killed.

What ends a try is decided here, by one rule for all engines, because it decides what is in the datasets:

    a mistake or an error of the program    the try has failed; the next one begins from another seed
    killed, or without memory               the same try goes on, in a process that the engine starts again; where it
                                            gets no further in `DEATHS` of them, it has failed
    interrupted, or the disk is full        the same try goes on when the command is repeated
"""

import errno
import re
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from rlgen.core.errors import UserError, first_line
from rlgen.core.ownership import only_writer
from rlgen.core.progress import Progress
from rlgen.fleet.ledger import COSTS, NAME, Ledger, check_intact, stopped_in_a_row
from rlgen.fleet.meter import Meter, timestamp
from rlgen.fleet.plan import FLEET, FleetPlan, open_plan, run_folder, task_folder
from rlgen.libero.tasks.suites import Task
from rlgen.training.run import Run, create_run, is_run, open_run

# Exit code of a process whose job has to be started again (EX_TEMPFAIL).
AGAIN = 75
# Processes in a row that may be killed at the same place: more than anybody kills by hand, since it costs a seed.
DEATHS = 20
# Seconds to wait for a process at the same task that the system has not ended yet, as where a node was lost.
PATIENCE = 120.0
_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE),
    *(errno.EMFILE, errno.ENFILE),
}
_DISK_WORDS = ("No space left", "no space left", "Disk quota", "Read-only file system")
_MEMORY_WORDS = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory", "bad_alloc", "Unable to allocate")


class TryAgainError(Exception):
    """The end of a process whose job goes on in another one."""


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


def work(root: Path, task: Task, cache: Path, log: Callable[[str], None], patience: float = PATIENCE) -> None:
    """Does the job of a task, or what is left of it: tries until one succeeds or all have failed.

    Args:
      root: folder of the fleet.
      task: of its plan.
      cache: folder of scenes and compiled programs.
      log: called with a line for what is decided.
      patience: seconds to wait for another process at the same task.

    Raises:
      UserError: the task is not in the plan, another process is at it, or the disk refuses.
      TryAgainError: the job goes on in another process.
    """
    plan = open_plan(root)
    if task.id not in plan.tasks:
        raise UserError(f"{task.id} is not in the plan of {root}; add it with `rlgen fleet TASKS --out {root}`")
    with only_writer(task_folder(root, task), FLEET.option, patience=patience):
        _Job(root, plan, task, cache, log).run()


class _Job:
    """The job of one task in this process."""

    def __init__(self, root: Path, plan: FleetPlan, task: Task, cache: Path, log: Callable[[str], None]):
        self._root, self._plan, self._task, self._cache, self._log = root, plan, task, cache, log
        self._folder = task_folder(root, task)
        self._ledger = Ledger(self._folder / NAME, task=task.id)
        self._meter = Meter(self._folder)

    def run(self) -> None:
        check_intact(self._ledger.read(), self._folder / NAME)
        self._charge_killed()
        lines = self._ledger.read()
        try:
            while not any(line["kind"] == "done" for line in lines):
                number = sum(line["kind"] == "failed" for line in lines)
                if number >= self._plan.tries:
                    self._log(f"{self._task.id}: given up after {number} tries")
                    return
                self._try(number)
                lines = self._ledger.read()
        finally:
            self._meter.close()
        self._log(f"{self._task.id}: done")

    def _charge_killed(self) -> None:
        """Records what a process that was killed has cost, and whether the try has failed by that."""
        left = self._meter.left_behind()
        if left is None:
            return
        place = {name: left[name] for name in ("try", "seed", "stage", "mark")}
        costs = {name: round(float(left[name]), 3) for name in COSTS}
        times = {name: timestamp(left[key]) for name, key in (("start", "start"), ("end", "now"))}
        self._ledger.append("stopped", **place, why="killed", **costs, **times)
        (self._folder / "running.json").unlink(missing_ok=True)
        where = {name: place[name] for name in ("try", "stage", "mark")}
        count = stopped_in_a_row(self._ledger.read(), where)
        if count >= DEATHS:
            reason = f"its process was killed {count} times in stage {place['stage']}, probably for want of memory"
            self._fail(place["try"], place["stage"], reason)

    def _try(self, number: int) -> None:
        """Goes on with a try until it is done or has failed."""
        stage, seed = "", self._plan.seed(number)
        try:
            run = self._open(number)
            with only_writer(run.folder, FLEET.option):
                for stage in self._plan.stages:
                    if not run.done(stage):
                        self._stage(run, number, stage)
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
            name = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            self._fail(number, stage, f"{name}{first_line(error)}"[:500], self._meter.end())

    def _open(self, number: int) -> Run:
        folder = run_folder(self._root, self._task, number)
        if is_run(folder):
            return open_run(folder)
        return create_run(folder, self._plan.run_config(self._task, number), self._plan.assets)

    def _stage(self, run: Run, number: int, stage: str) -> None:
        from rlgen.pipeline.context import Context, run_stages

        about = {"try": number, "seed": run.config.seed, "stage": stage}
        self._meter.begin(**about, mark=run.seconds(stage))
        run_stages(Context(run, self._cache), (stage,), Progress(self._plan.stages, every=30.0))
        self._ledger.append("stage", **about, **self._meter.end())

    def _finish(self, run: Run) -> dict[str, Any]:
        """Returns the figures of a finished run, and writes its clips."""
        from rlgen.fleet.figures import run_figures, write_clips
        from rlgen.pipeline.context import Context

        context = Context(run, self._cache)
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
