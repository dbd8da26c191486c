"""Distances of the world on a GPU from the CPU's: figures of the slow tests of `tests/libero/warp`.

Command:  uv run python experiments/warp_world.py [--json FILE] [PYTEST ARGUMENTS ...]
          e.g. `tests/libero/warp/test_controller.py -k libero_goal`; motion needs MuJoCo Warp.
Cost:     twenty minutes of a core in all; parts are added to those in the file.
Expected: motion within 1e-5, torque within 1e-3 N m, observations within 2e-6, the same goals everywhere.

The tests compare, and record what they measured; this only runs them and keeps the figures of those that passed.
"""

import argparse
import ast
import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import mujoco

from rlgen.bench.timing import machine
from rlgen.core.files import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results" / "world" / "warp_world.json"
TESTS = [f"tests/libero/warp/test_{name}.py" for name in ("world", "controller", "observation", "goals")]


def main() -> int:
    """Runs the tests and adds their figures to the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments, chosen = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tests.xml"
        options = ["-n0", "-m", "slow or not slow", "-o", "junit_family=xunit1", f"--junitxml={file}"]
        done = subprocess.run([sys.executable, "-m", "pytest", *options, *(chosen or TESTS)], cwd=ROOT, check=False)
        measured = figures(ElementTree.parse(file))
    report = json.loads(arguments.json.read_text()) if arguments.json.exists() else {"machine": machine(), "tests": {}}
    for test, names in measured.items():
        entry = report["tests"].setdefault(test, {"mujoco": mujoco.__version__})
        for name, values in names.items():
            entry[name] = entry.get(name, {}) | values
    write_json(arguments.json, report)
    return done.returncode


def figures(tests: ElementTree.ElementTree) -> dict[str, dict[str, dict]]:
    """Returns what tests that passed recorded: for each test and name, the value of each case."""
    found: dict[str, dict[str, dict]] = {}
    for case in tests.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            continue
        test, _, rest = case.get("name", "").partition("[")
        for one in case.iter("property"):
            values = found.setdefault(test, {}).setdefault(one.get("name", ""), {})
            values[rest.rstrip("]")] = parsed(one.get("value", ""))
    return found


def parsed(text: str) -> object:
    """Returns a number or a list from its text; other text as it is."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == "__main__":
    raise SystemExit(main())
