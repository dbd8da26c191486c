"""A check of HDF5 files in a child process: the HDF5 library may crash or hang on damaged files.

`GuardedReader` asks a child process to read every demonstration of a file and to report which are good. Only those are
then read in this process, in the same way.
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
from rlgen.core.process import end_with_parent, start_child
from rlgen.data.formats.hdf5.reader import iterate_demos, observed_before_action, read_info, read_model_files

# -P: the working directory may be full of foreign files, and modules are not looked for in it.
COMMAND = (sys.executable, "-P", "-m", "rlgen.data.formats.hdf5.guard")
TIMEOUT = 120.0  # seconds for one file; the public ones take less than one


@dataclass(frozen=True)
class FileCheck:
    """The result of checking a file.

    Attributes:
      good: names of the demonstrations that can be read.
      bad: for each that cannot be read or is missing, its name and the reason in one line.
      task: `<suite>/<name>` as stored in the file, or `robosuite/<env>`; empty if nothing is good.
      problem: reason why the file as a whole cannot be read; empty if it can.
    """

    good: tuple[str, ...] = ()
    bad: Mapping[str, str] = field(default_factory=dict)
    task: str = ""
    problem: str = ""


class GuardedReader:
    """A child process that checks files, started when it is needed. Use it in a `with` statement."""

    def __init__(self, timeout: float = TIMEOUT, command: Sequence[str] = COMMAND):
        """Takes the time limit for one file in seconds, and the command that starts the child."""
        self._timeout, self._command = timeout, command
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "GuardedReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def check(self, path: Path, *, clip: bool = False) -> FileCheck:
        """Reads a file in the child process; `clip` is that of `read_demos`.

        A file that makes the child crash or hang gives a `problem` that says so; the next check starts a new child.
        """
        request = json.dumps({"path": str(path), "clip": clip}).encode() + b"\n"
        child = self._started()
        try:
            child.stdin.write(request)
            child.stdin.flush()
            reply = _read_line(child, time.monotonic() + self._timeout)
        except BrokenPipeError:
            reply = b""
        except TimeoutError:
            self._end()
            return FileCheck(problem=f"{path}: not read after {self._timeout:g} s, damaged; fetch or record it again")
        if not reply.endswith(b"\n"):
            self._end()
            return FileCheck(problem=f"{path}: the HDF5 library crashed on it, damaged; fetch or record it again")
        value: dict[str, Any] = json.loads(reply)
        return FileCheck(**{**value, "good": tuple(value["good"])})

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._child is None or self._child.poll() is not None:
            self._end()
            self._child = start_child(
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


def _read_line(child: "subprocess.Popen[bytes]", deadline: float) -> bytes:
    """Returns one line of the child's output, or the part of it that was written before the child died."""
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        part = os.read(child.stdout.fileno(), 1 << 16)
        if not part:
            return line
        line += part
    return line


def check_file(path: Path, *, clip: bool = False) -> FileCheck:
    """Reads a file in this process; `clip` is that of `read_demos`."""
    bad: dict[str, str] = {}
    good, task = [], ""
    try:
        # Everything that is read from the file later is read here first.
        observed_before_action(path)
        with contextlib.suppress(UserError):
            read_info(path)
        for name, episode in iterate_demos(path, clip=clip, on_bad=lambda name, error: bad.update({name: str(error)})):
            good.append(name)
            task = episode.task
        for _ in read_model_files(path, good):
            pass
    except UserError as error:
        return FileCheck(problem=str(error))
    return FileCheck(tuple(good), bad, task)


def main() -> None:
    """Replies to requests on standard input, one JSON object a line, until the input ends."""
    end_with_parent()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        reply = asdict(check_file(Path(request["path"]), clip=request["clip"]))
        sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
