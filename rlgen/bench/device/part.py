"""One part of `rlgen bench device`, the program of a child process: `part.py NAME FILE SETUP`, the last as JSON."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rlgen.core.process import end_with_parent, prepare_process


def main(words: Sequence[str]) -> int:
    """Measures a part into its file; returns 0, or 1 where an error ended it."""
    end_with_parent()
    prepare_process()
    # No other process needs the device meanwhile.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
    from rlgen.bench.device.plan import find_parts
    from rlgen.bench.device.record import Record, Setup

    name, file, setup = words
    [part] = find_parts((name,))
    record = Record(Path(file))
    try:
        part.measure(record.put, Setup(**json.loads(setup)))
    except Exception as error:  # whatever it is, the other parts go on
        record.finish(error)
        return 1
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
