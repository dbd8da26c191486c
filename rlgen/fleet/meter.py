"""Costs of a job: core-seconds, device-seconds, wall seconds, recorded while it works so that a kill hides little.

Where a process is at work for several tasks at once, its costs in that time are divided by their number.
"""

import datetime
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlgen.core.files import write_json
from rlgen.core.ownership import has_keys, read_record
from rlgen.fleet.ledger import COSTS, RUNNING

# Seconds between two records of a process at work.
BEAT = 10.0
# Stages that use a device, if there is one.
_ON_DEVICE = ("bc", "ppo", "collect", "figures")


def core_seconds() -> float:
    """Returns the processor time of this process, all its threads and its children that have ended, in seconds."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def timestamp(seconds: float) -> str:
    """Returns a time (seconds since 1970) as `2026-05-01T12:00:00Z`."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Spent:
    """Costs so far.

    Attributes:
      core: core-seconds.
      device: device-seconds.
      wall: seconds.
    """

    core: float = 0.0
    device: float = 0.0
    wall: float = 0.0


class Shares:
    """The costs of this process, shared out among the tasks that it is at work for.

    The first of them also bears what starting the process did.

    Args:
      clock: time, seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time):
        self.clock = clock
        self._spent: dict[str, Spent] = {}
        self._most: dict[str, int] = {}
        self._at_work: tuple[str, ...] = ()
        self._devices = 1
        self._core, self._time = 0.0, clock()
        self._lock = threading.Lock()

    def work_for(self, *tasks: str, devices: int = 1) -> None:
        """Says for whom this process works from now on.

        Args:
          *tasks: in equal shares; none where it waits.
          devices: accelerators on which it does.
        """
        with self._lock:
            self._settle()
            self._at_work, self._devices = tasks, devices
            for task in tasks:
                self._most[task] = max(len(tasks), self._most.get(task, 1))

    def of(self, task: str) -> Spent:
        """Returns what a task has cost this process so far."""
        with self._lock:
            self._settle()
            return replace(self._spent.get(task, Spent()))

    def most_together(self, task: str) -> int:
        """Returns the most tasks, this one included, that it was worked for at once, since this was asked last."""
        with self._lock:
            most = self._most.pop(task, 1)
            if task in self._at_work:
                self._most[task] = len(self._at_work)
            return most

    def _settle(self) -> None:
        core, now = core_seconds(), self.clock()
        if not self._at_work:
            # Before the first of them: it is charged.
            self._time = self._time if not self._spent else now
            self._core = self._core if not self._spent else core
            return
        wall = max(0.0, now - self._time) / len(self._at_work)
        for task in self._at_work:
            spent = self._spent.setdefault(task, Spent())
            spent.core += (core - self._core) / len(self._at_work)
            spent.wall += wall
            spent.device += wall * devices() * self._devices
        self._core, self._time = core, now


def left_behind(folder: Path) -> dict[str, Any] | None:
    """Returns what a process at a task that was killed said of itself last; None if none was.

    Args:
      folder: of the task.
    """
    record = read_record(folder / RUNNING)
    return record if has_keys(record, "try", "seed", "stage", "mark", "start", "now", *COSTS) else None


class Meter:
    """The meter of one process at a task; `begin` starts a stage, `end` says what it cost.

    While a stage runs, a thread writes what it has cost so far to `running.json`; what a process that was killed left
    there is charged by the next one, see `left_behind`.

    Args:
      folder: of the task.
      task: its name in `shares`.
      shares: of this process.
    """

    def __init__(self, folder: Path, task: str, shares: Shares):
        self._path, self._task, self._shares = folder / RUNNING, task, shares
        # What this process has done for the task before, its start perhaps, is of the first stage.
        self._spent, self._start = Spent(), shares.clock()
        self._about: dict[str, Any] = {}
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, **about: Any) -> None:
        """Starts a stage.

        Args:
          **about: of the stage: `try`, `seed`, `stage`, and `mark`, which grows as the stage gets on.
        """
        self._about = about
        self._write()
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, daemon=True)
            self._thread.start()

    def end(self) -> dict[str, Any]:
        """Ends the stage; returns its costs, and the times of its start and end as texts.

        Where the process was at work for several tasks at once, `together` says for how many at most.
        """
        with self._lock:
            values = self._values()
            self._spent, self._start = self._shares.of(self._task), self._shares.clock()
            self._about = {}
            self._path.unlink(missing_ok=True)
        costs: dict[str, Any] = {name: round(values[name], 3) for name in COSTS}
        most = self._shares.most_together(self._task)
        costs |= {"together": most} if most > 1 else {}
        return {**costs, "start": timestamp(values["start"]), "end": timestamp(values["now"])}

    def close(self) -> None:
        """Ends the thread; a stage that has not ended stays recorded as one that was killed."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _values(self) -> dict[str, Any]:
        spent = self._shares.of(self._task)
        on_device = self._about.get("stage") in _ON_DEVICE
        return {
            **self._about,
            "core_seconds": spent.core - self._spent.core,
            "device_seconds": spent.device - self._spent.device if on_device else 0.0,
            "wall_seconds": spent.wall - self._spent.wall,
            "start": self._start,
            "now": self._shares.clock(),
            "host": socket.gethostname(),
            "process": os.getpid(),
        }

    def _write(self) -> None:
        with self._lock:
            if self._about:
                write_json(self._path, self._values())

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            # A full disk is met by the stage itself.
            with suppress(OSError):
                self._write()


def devices() -> int:
    """Returns the accelerators of an expert that is trained alone: one where jax has found any, else none."""
    jax = sys.modules.get("jax")
    # What has not been asked for yet is not initialized here.
    if jax is None or not _is_initialized(jax):
        return 0
    return int(jax.default_backend() != "cpu")


def _is_initialized(jax: Any) -> bool:
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bool(getattr(bridge, "_backends", {}))
