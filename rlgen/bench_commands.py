"""`rlgen bench dataset`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path


def bench_datasets(words: Sequence[str]) -> None:
    """`rlgen bench dataset`: steps written and frames loaded a second, beside tensorflow_datasets."""
    parser = argparse.ArgumentParser(
        prog="rlgen bench dataset", description="Writing and loading datasets, tensorflow_datasets beside ours."
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--quick", action="store_true", help="tiny: that it runs, not what it takes")
    arguments = parser.parse_args(words)
    from rlgen.bench import datasets
    from rlgen.files import write_json

    tiny = {"episodes": 4, "steps": 20, "size": 64, "resized": 32, "batches": 2, "batch": 8, "repetitions": 1}
    setup = datasets.SETUP | (tiny if arguments.quick else {})
    report = datasets.run(setup, lambda line: print(line, file=sys.stderr, flush=True))
    if arguments.json is not None:
        write_json(arguments.json, report)
    print(json.dumps(report, indent=1))
