"""A digest of what the smoke quickstart left, so that a change that must not change numbers can show that it does not.

    python tests/smoke_digest.py show RUN       # prints the digest as JSON
    python tests/smoke_digest.py record RUN     # stores it as the expected one
    python tests/smoke_digest.py check RUN      # compares; exit code 1 where the same machine gives other bytes

Floating-point sums differ between processors, so that another processor or other versions are said and not compared.
"""

import hashlib
import json
import sys
from importlib.metadata import version
from pathlib import Path

EXPECTED = Path(__file__).parent / "fixtures" / "smoke_digest.json"
# Whole files by the bytes; lines and reports without what a clock says.
BYTES = ("demos/demos.hdf5", "collect/episodes/*.npz", "export/*/1.0.0/*", "evaluate/*/*.npz", "quality/*.csv")
METRICS = ("bc/metrics.jsonl", "ppo/metrics.jsonl", "vla-train/metrics.jsonl")
PACKAGES = ("jax", "jaxlib", "mujoco", "numpy", "flax", "optax")


def digest(run: Path) -> dict[str, str]:
    """Returns a SHA-256 for every stored file of a run whose content does not depend on a clock."""
    found = {}
    for pattern in BYTES:
        for path in sorted(run.glob(pattern)):
            found[str(path.relative_to(run))] = hashlib.sha256(path.read_bytes()).hexdigest()
    for name in METRICS:
        lines = [without_clock(json.loads(line)) for line in (run / name).read_text().splitlines()]
        found[name] = text_hash(lines)
    summary = without_clock(json.loads((run / "summary.json").read_text()))
    # Not its list of settings, which a new one makes longer: what settings do is in the numbers.
    found["summary.json"] = text_hash({name: value for name, value in summary.items() if name != "config"})
    return found


def without_clock(value):
    """Returns a JSON value without its entries named `seconds...`."""
    if isinstance(value, dict):
        return {name: without_clock(entry) for name, entry in value.items() if not name.startswith("seconds")}
    return [without_clock(entry) for entry in value] if isinstance(value, list) else value


def text_hash(value) -> str:
    """Returns the SHA-256 of a JSON value, keys in order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def machine() -> dict[str, object]:
    """Returns what the bits of a floating-point sum depend on here."""
    processor = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {"processor": processor[0].split(":")[1].strip(), "versions": {name: version(name) for name in PACKAGES}}


def compare(expected: dict, found: dict[str, str]) -> list[str]:
    """Returns the names of files that differ, are missing or are new."""
    digests = expected["digests"]
    return sorted(name for name in digests.keys() | found.keys() if digests.get(name) != found.get(name))


def main() -> int:
    """Runs the command that the first word names; returns the exit code."""
    command, run = sys.argv[1], Path(sys.argv[2])
    found = digest(run)
    if command == "show":
        print(json.dumps(found, indent=1))
    elif command == "record":
        EXPECTED.write_text(json.dumps({**machine(), "digests": found}, indent=1) + "\n")
    elif command == "check":
        expected = json.loads(EXPECTED.read_text())
        different = compare(expected, found)
        here = machine()
        same = all(expected[name] == here[name] for name in here)
        where = "" if same else " (recorded on another processor or with other versions: not compared)"
        print(f"smoke digest: {len(found)} files, {len(different)} differ{where}")
        for name in different:
            print(f"  {name}")
        return 1 if different and same else 0
    else:
        raise SystemExit(f"unknown command {command!r}: expected show, record or check")
    return 0


if __name__ == "__main__":
    sys.exit(main())
