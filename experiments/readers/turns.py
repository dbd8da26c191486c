"""Requests to processes that load a dataset, in turn; imported by both sides, so that it needs neither's packages."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

BATCH, HORIZON = 32, 16
"""Frames a batch, and actions from each frame on, as the VLA is trained."""


class Side:
    """The process of one side."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None):
        """Starts it.

        Args:
          command: as of a shell.
          environment: variables; by default those of this process.
        """
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def request(self, **message: Any) -> Any:
        """Sends a request and returns the answer; `RuntimeError` where there is none."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(map(str, self._process.args))}: ended without an answer")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process, which ends when nothing more can come."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)


def serve(answer: Callable[..., Any]) -> None:
    """Answers the requests on standard input; what libraries print to standard output goes to standard error."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), file=answers, flush=True)


def timed_epochs(opened: Callable[[], Sequence[Iterable[int]]]) -> dict[str, Any]:
    """Opens a dataset and goes through its epochs.

    Args:
      opened: opens it, and returns for each epoch what yields the number of frames of every batch.

    Returns:
      `open`, the seconds until it was open; for each epoch `seconds` and `frames`; `cpu_seconds`, the processor time of
      all, with that of processes that ended meanwhile; and `memory_mb`, the most of this process and of one of those.
    """
    before, start = os.times(), time.perf_counter()
    epochs = opened()
    times, frames = [time.perf_counter()], []
    for epoch in epochs:
        frames.append(sum(epoch))
        times.append(time.perf_counter())
    del epochs, epoch  # ends the processes of a loader
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "open": times[0] - start,
        "seconds": [end - begin for begin, end in pairwise(times)],
        "frames": frames,
        "cpu_seconds": sum(os.times()[:4]) - sum(before[:4]),
        "memory_mb": peaks,
    }


def script(name: str) -> str:
    """Returns the path of a script beside this file."""
    return str(Path(__file__).resolve().parent / name)
