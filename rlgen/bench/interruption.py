"""Commands that are interrupted on purpose: how they end, what they say, and whether a process of theirs lives on.

Reads `/proc`, so that it runs on Linux alone.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LINES = {
    signal.SIGINT: "interrupted; the same command resumes where it was",
    signal.SIGTERM: "terminated; the same command resumes where it was",
}
# A server that answers what has begun says so.
STOPPED = "stopped; what had begun was answered"
# What a crash, a bug or a dropped exception says.
NOISE = ("Traceback", "Exception ignored", "Fatal Python error", "Segmentation fault", "rlgen: ")
# Seconds that a command may take to end, and those after which it counts as hanging.
LIMIT, HANGS = 10.0, 60.0
# Seconds after a signal within which a command that had done all has ended, with exit code 0.
DONE = 1.0
# Seconds in which processes of a command that ended have to be gone.
LEFT_BEHIND = 2.0


@dataclass(frozen=True)
class Ending:
    """The ending of a command after a signal.

    Attributes:
      number: of the signal.
      at: seconds from the start of the command to the signal.
      doing: the last line that the command had written.
      code: its exit code, negative where a signal ended it; None where it had to be killed.
      seconds: from the signal to the end.
      said: lines on standard error from the signal on.
      left: processes of the command that lived on.
    """

    number: int
    at: float
    doing: str
    code: int | None
    seconds: float
    said: tuple[str, ...]
    left: int

    @property
    def is_right(self) -> bool:
        """True where it ended in time, with its exit code, its line and nothing else."""
        if self.number == signal.SIGKILL:
            return self.code == -signal.SIGKILL and not self.left
        line = LINES[signal.Signals(self.number)]
        return (
            self.code == 128 + self.number
            and self.seconds < LIMIT
            and self.said[-1:] in ((line,), (STOPPED,))
            and not any(noise in said for said in self.said for noise in NOISE)
            and not self.left
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the fields by name, seconds rounded, and whether it was right."""
        rounded = {"at": round(self.at, 2), "seconds": round(self.seconds, 3), "said": list(self.said)}
        return {**asdict(self), **rounded, "right": self.is_right}


def interrupt(
    command: Sequence[str],
    log: Path,
    moment: float,
    number: int = signal.SIGINT,
    *,
    after: str = "",
    environment: Mapping[str, str] | None = None,
) -> Ending | None:
    """Starts a command and sends it a signal; SIGINT goes to its children as well, as a terminal sends it.

    Args:
      command: program and words.
      log: file for what it writes; standard error goes to one of the same name that ends in `.err`.
      moment: seconds from its start, or from the moment at which it has said `after`.
      number: of the signal.
      after: text to wait for.
      environment: of the command; that of this process by default.

    Returns:
      How it ended; None where it ended before the signal, or had no more to do than to end.
    """
    errors = log.with_suffix(".err")
    with open(log, "w") as output, open(errors, "w") as error_output:
        process = start(command, output, error_output, environment)
    started_at = time.monotonic()
    try:
        while after and after not in log.read_text() + errors.read_text():
            if process.poll() is not None:
                return None
            time.sleep(0.02)
        due = time.monotonic() + moment
        while time.monotonic() < due:
            if process.poll() is not None:
                return None
            time.sleep(0.01)
        children, written = descendants(process.pid), errors.stat().st_size
        doing = ["", *log.read_text().splitlines(), *errors.read_text().splitlines()][-1]
        sent = time.monotonic()
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        code = _wait(process)
        seconds = time.monotonic() - sent
        if code == 0 and seconds < DONE:
            return None
        said = errors.read_bytes()[written:].decode(errors="replace").splitlines()
        return Ending(number, sent - started_at, doing, code, seconds, tuple(said), _left(children))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def start(
    command: Sequence[str], output: Any = None, errors: Any = None, environment: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Starts a command in a session of its own, as one that Ctrl-C reaches even where this process ignores it.

    Args:
      command: program and words.
      output: file for its standard output.
      errors: file for its standard error.
      environment: of the command; that of this process by default.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=None if environment is None else dict(environment),
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def descendants(process: int) -> set[tuple[int, str]]:
    """Returns the processes below a process, each with the time of its start, which tells it from later ones."""
    parents = {pid: parent for pid in _pids() if (parent := _stat(pid, 1)) is not None}
    found: set[int] = set()
    ahead = {process}
    while ahead:
        ahead = {pid for pid, parent in parents.items() if int(parent) in ahead} - found
        found |= ahead
    return {(pid, started) for pid in found if (started := _stat(pid, 19)) is not None}


def _wait(process: "subprocess.Popen[bytes]") -> int | None:
    try:
        return process.wait(HANGS)
    except subprocess.TimeoutExpired:
        return None


def _left(children: set[tuple[int, str]]) -> int:
    """Returns how many of the processes are still at work after a while."""
    deadline = time.monotonic() + LEFT_BEHIND
    while True:
        alive = [pid for pid, started in children if _stat(pid, 19) == started and _stat(pid, 0) != "Z"]
        if not alive or time.monotonic() > deadline:
            return len(alive)
        time.sleep(0.02)


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _stat(pid: int, field: int) -> str | None:
    """Returns a field of `/proc/PID/stat`, counted from the one behind the name; None if the process is gone."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[field]
    except (OSError, IndexError):
        return None
