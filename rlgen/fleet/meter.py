"""Costs of a job: core-seconds, device-seconds, wall seconds, recorded while it works so that a kill hides little."""

import datetime
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rlgen.core.files import write_json
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


class Meter:
    """The meter of one process of a task; `begin` starts a stage, `end` says what it cost.

    The first stage also bears what starting the process did. While a stage runs, a thread writes what it has cost so
    far to `running.json`; what a process that was killed left there is charged by the next one, see `left_behind`.

    Args:
      folder: of the task.
      clock: time, seconds since 1970.
    """

    def __init__(self, folder: Path, clock: Any = time.time):
        self._path, self._clock = folder / RUNNING, clock
        self._spent, self._start = 0.0, clock()
        self._about: dict[str, Any] = {}
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def left_behind(self) -> dict[str, Any] | None:
        """Returns what a process that was killed said of itself last; None if none was."""
        from rlgen.core.ownership import has_keys, read_record

        record = read_record(self._path)
        return record if has_keys(record, "try", "seed", "stage", "mark", "start", "now", *COSTS) else None

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
        """Ends the stage; returns its costs, and the times of its start and end as texts."""
        with self._lock:
            values = self._values()
            self._spent, self._start = core_seconds(), self._clock()
            self._about = {}
            self._path.unlink(missing_ok=True)
        costs = {name: round(values[name], 3) for name in COSTS}
        return {**costs, "start": timestamp(values["start"]), "end": timestamp(values["now"])}

    def close(self) -> None:
        """Ends the thread; a stage that has not ended stays recorded as one that was killed."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _values(self) -> dict[str, Any]:
        now = self._clock()
        wall = max(0.0, now - self._start)
        return {
            **self._about,
            "core_seconds": core_seconds() - self._spent,
            "device_seconds": wall * devices() if self._about.get("stage") in _ON_DEVICE else 0.0,
            "wall_seconds": wall,
            "start": self._start,
            "now": now,
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
    """Returns the accelerators that this process trains on: one where jax has found any, else none."""
    jax = sys.modules.get("jax")
    # What has not been asked for yet is not initialized here.
    if jax is None or not _is_initialized(jax):
        return 0
    return int(jax.default_backend() != "cpu")


def _is_initialized(jax: Any) -> bool:
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bool(getattr(bridge, "_backends", {}))
