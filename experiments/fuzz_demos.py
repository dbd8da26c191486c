"""Outcomes of reading a thousand damaged files of demonstrations.

Command:  uv run python experiments/fuzz_demos.py [--json experiments/results/fuzz_demos.json]
Cost:     two to four minutes on one core.
Expected: of files written by this project every episode comes back to the last bit or is counted as bad; of
          robosuite's own file none is lost. Nothing hangs and no error is longer than a line. robosuite's file has
          no checksums, so that damage to its numbers and to the name of its task cannot be noticed by anybody:
          `altered` under bits, bytes, zeroed, dtype and attribute.
"""

import argparse
import json
import tempfile
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np

from rlgen.bench.fuzz.hdf5 import COUNTS, KINDS, fuzz
from rlgen.core.types import Episode, RobotState
from rlgen.data.formats.hdf5.layout import DemoFileInfo
from rlgen.data.formats.hdf5.writer import write_demos

FILES = 1000


def main() -> None:
    """Damages both files in every way, and counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    each = arguments.files // (2 * len(KINDS))
    with tempfile.TemporaryDirectory() as folder:
        sources = {"written by rlgen": write_ours(Path(folder)), "robosuite's lift/demo.hdf5": robosuites()}
        report = {"h5py": h5py.__version__, "hdf5": h5py.version.hdf5_version}
        for name, path in sources.items():
            report[name] = {}
            for kind in KINDS:
                found = fuzz(path, Path(folder), [(kind, seed) for seed in range(each)])
                report[name][kind] = {key: int(found[key]) for key in COUNTS}
                print(name, kind, report[name][kind], flush=True)
    kinds = [counts for name in sources for counts in report[name].values()]
    report["total"] = {key: sum(counts[key] for counts in kinds) for key in COUNTS}
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")


def robosuites() -> Path:
    """Returns the file of three human demonstrations that comes with robosuite."""
    package = Path(find_spec("robosuite").submodule_search_locations[0])
    return package / "models/assets/demonstrations/lift/demo.hdf5"


def write_ours(folder: Path) -> Path:
    """Writes five demonstrations of random numbers, of the size of a real scene's."""
    path = folder / "ours_demo.hdf5"
    random = np.random.default_rng(0)
    episodes = [_episode(random, number) for number in range(5)]
    robots = [_robot(random, len(episode) + 1) for episode in episodes]
    info = DemoFileInfo("Libero_Floor_Manipulation", "libero_object/x.bddl", "x", "<mujoco/>" * 8_000)
    write_demos(path, episodes, robots, info)
    return path


def _episode(random: np.random.Generator, number: int, steps: int = 120, size: int = 105) -> Episode:
    return Episode(
        task="libero_object/x",
        prompt="x",
        source="scripted",
        initial_index=number,
        split="train",
        seed=number,
        initial_state=random.normal(size=size),
        states=random.normal(size=(steps + 1, size)),
        actions=random.uniform(-1, 1, (steps, 7)),
        rewards=np.r_[np.zeros(steps - 1), 1.0],
        success=True,
    )


def _robot(random: np.random.Generator, rows: int) -> RobotState:
    return RobotState(*(random.normal(size=(rows, size)) for size in (3, 3, 2, 7)))


if __name__ == "__main__":
    main()
