"""One side of `rlgen bench dataset` in a process of its own, which does what a line on its standard input says.

A process each, because the memory of both is told, and because TensorFlow takes threads and memory for itself.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any, Protocol


class Side(Protocol):
    """What both sides can do."""

    def prepare(self) -> None: ...
    def write(self) -> int: ...
    def load(self, kind: str) -> int: ...


def make_side(name: str, folder: Path, setup: dict[str, Any]) -> Side:
    """`ours` or `tfds`; imports only what that side needs."""
    if name == "ours":
        from rlgen.bench.dataset_ours import Ours

        return Ours(folder, setup)
    from rlgen.bench.dataset_tensorflow import TensorFlow

    return TensorFlow(folder, setup)


def serve(side: Side) -> None:
    """Answers each request with seconds, units and the largest memory so far."""
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        start, cpu = time.perf_counter(), time.process_time()
        units = getattr(side, command)(*arguments)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        answer = {"seconds": seconds, "cpu_seconds": time.process_time() - cpu, "units": units, "peak_mb": peak}
        print(json.dumps(answer), file=ANSWERS, flush=True)


if __name__ == "__main__":
    # What libraries print to standard output must not be taken for an answer.
    ANSWERS = sys.stdout
    sys.stdout = sys.stderr
    serve(make_side(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])))
