"""Reading HDF5 of strangers in a process of its own: the library may crash or loop on damaged files.

`GuardedReader` asks a child process to read every demonstration of a file and to say which are good. Only those are
then read here, in the same way.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError
from rlgen.data.formats.hdf5.reader import iterate_demos, observed_before_action, read_info, read_model_files

COMMAND = (sys.executable, "-m", "rlgen.data.formats.hdf5.guard")
PATIENCE = 120.0  # seconds for one file; the public ones take less than one


@dataclass(frozen=True)
class FileCheck:
    """What a file holds.

    Attributes:
      good: names of the demonstrations that can be read.
      bad: name of each that cannot, or is missing, and why in one line.
      task: `<suite>/<name>` as the file says it, or `robosuite/<env>`; empty if nothing is good.
      fault: why the file as a whole cannot be read; empty if it can.
    """

    good: tuple[str, ...] = ()
    bad: Mapping[str, str] = field(default_factory=dict)
    task: str = ""
    fault: str = ""


class GuardedReader:
    """A child process that reads files first. Use it in a `with` statement."""

    def __init__(self, patience: float = PATIENCE, command: Sequence[str] = COMMAND):
        """`patience` is seconds for one file; `command` starts the child."""
        self._patience, self._command = patience, command
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "GuardedReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def check(self, path: Path, *, clip: bool = False) -> FileCheck:
        """Reads a file in the child; one that makes the child crash or hang has a `fault` that says so."""
        question = json.dumps({"path": str(path), "clip": clip}).encode() + b"\n"
        child = self._started()
        try:
            child.stdin.write(question)
            child.stdin.flush()
            answer = _line(child, time.monotonic() + self._patience)
        except BrokenPipeError:
            answer = b""
        except TimeoutError:
            self._end()
            return FileCheck(fault=f"{path}: not read after {self._patience:g} s, damaged; fetch or record it again")
        if not answer.endswith(b"\n"):
            self._end()
            return FileCheck(fault=f"{path}: the HDF5 library crashed on it, damaged; fetch or record it again")
        value: dict[str, Any] = json.loads(answer)
        return FileCheck(**{**value, "good": tuple(value["good"])})

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._child is None or self._child.poll() is not None:
            self._end()
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
        return self._child

    def _end(self) -> None:
        if self._child is None:
            return
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            stream.close()
        self._child = None


def _line(child: "subprocess.Popen[bytes]", deadline: float) -> bytes:
    """One line of the child's output, or less of it where the child has died."""
    read = b""
    while not read.endswith(b"\n"):
        ready, _, _ = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        part = os.read(child.stdout.fileno(), 1 << 16)
        if not part:
            return read
        read += part
    return read


def check_file(path: Path, *, clip: bool = False) -> FileCheck:
    """As `GuardedReader.check`, here and now."""
    bad: dict[str, str] = {}
    good, task = [], ""
    try:
        # All that is read later is read here first.
        observed_before_action(path)
        with contextlib.suppress(UserError):
            read_info(path)
        for name, episode in iterate_demos(path, clip=clip, on_bad=lambda name, error: bad.update({name: str(error)})):
            good.append(name)
            task = episode.task
        for _ in read_model_files(path, good):
            pass
    except UserError as error:
        return FileCheck(fault=str(error))
    return FileCheck(tuple(good), bad, task)


def main() -> None:
    """Answers questions on standard input, a line each, until there are no more."""
    for line in sys.stdin.buffer:
        question = json.loads(line)
        answer = asdict(check_file(Path(question["path"]), clip=question["clip"]))
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
