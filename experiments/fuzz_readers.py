"""Outcomes of reading a thousand damaged copies of every kind of file that this project reads.

Command:  uv run python experiments/fuzz_readers.py [--json experiments/results/fuzz_readers.json]; interrupted, it goes
          on with the kinds of files that are missing, and `--kinds` repeats some
Cost:     a quarter of an hour on a free core.
Expected: no traceback, crash or hang (10 s), no more than 1 GB, nothing written or read outside of the data, and
          nothing that changed unnoticed where there is a hash: it is refused, named by the check against the card, or
          unharmed.
"""

import argparse
import json
import platform
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from rlgen.bench.fuzz.readers import ReaderProcess
from rlgen.bench.fuzz.run import COUNTS, LARGEST_MB, MUST_BE_0, SECONDS, Fuzz
from rlgen.bench.fuzz.sources import SOURCES

FILES = 1000
PACKAGES = ("numpy", "h5py", "pyarrow", "array-record", "protobuf", "opencv-python-headless")


def main() -> None:
    """Damages every kind of data, and counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--kinds", nargs="*")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report = {"python": platform.python_version(), "versions": {name: version(name) for name in PACKAGES}}
    report |= {"seconds": SECONDS, "largest_mb": LARGEST_MB, "readers": {}}
    if arguments.json is not None and arguments.json.is_file():
        report["readers"] = json.loads(arguments.json.read_text())["readers"]
    kinds = arguments.kinds or [name for name in SOURCES if name not in report["readers"]]
    with tempfile.TemporaryDirectory() as folder, ReaderProcess() as process:
        for number, name in enumerate(kinds):
            kind, hashed, make = SOURCES[name]
            source = make(Path(folder) / f"source-{number}")
            fuzz = Fuzz(kind, source, Path(folder) / "scratch", process, hashed)
            by_damage = fuzz.run(range(arguments.first_seed, arguments.first_seed + arguments.files))
            total = {count: fuzz.total()[count] for count in COUNTS}
            report["readers"][name] = {"total": total, "by_damage": by_damage}
            print(name, total, flush=True)
            for example in fuzz.examples[:20]:
                print("  ", example, flush=True)
            write(report, arguments.json)
    print(json.dumps(report["total"]))
    raise SystemExit(any(report["total"][name] for name in MUST_BE_0))


def write(report: dict, path: Path | None) -> None:
    """Adds the totals over all kinds, in their order, and stores the report."""
    report["readers"] = {name: report["readers"][name] for name in SOURCES if name in report["readers"]}
    sums = Counter()
    for reader in report["readers"].values():
        sums.update(reader["total"])
    report["total"] = {count: sums[count] for count in COUNTS}
    if path is not None:
        path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
