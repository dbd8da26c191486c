"""Seconds to build the scene bundles of all 130 tasks, and to load them.

Command:  uv run python experiments/build_scenes.py --assets DIR [--json experiments/results/world/build_scenes.json]
Cost:     three minutes on two cores.
Expected: under 3 minutes to build all of them, under 0.3 s to load one.

Everything is built into an empty folder; loading is timed in this process, each bundle once, the first not counted.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from rlgen.bench.timing import machine
from rlgen.core.process import cache_folder
from rlgen.libero.scenes.assets import find_assets
from rlgen.libero.scenes.bundles import build_scene_bundles
from rlgen.libero.scenes.scene import load_scene_bundle
from rlgen.libero.tasks.suites import all_tasks


def main() -> None:
    """Builds, loads, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    assets, workers = find_assets(arguments.assets, cache=cache_folder()), os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        bundles = build_scene_bundles(all_tasks(), assets, Path(folder), workers=workers)
        built = time.perf_counter() - start
        loads = [timed(bundle) for bundle in bundles][1:]
        size = sum(file.stat().st_size for file in {f.stat().st_ino: f for f in files(Path(folder))}.values())
    report = {
        "machine": machine(),
        "assets": assets.label,
        "bundles": len(bundles),
        "workers": workers,
        "build_seconds": built,
        "load_seconds": {"median": float(np.median(loads)), "worst": max(loads)},
        "megabytes": size / 1e6,
    }
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")


def timed(bundle: Path) -> float:
    """Returns the seconds that loading a bundle takes."""
    start = time.perf_counter()
    load_scene_bundle(bundle)
    return time.perf_counter() - start


def files(folder: Path) -> list[Path]:
    """Returns every file below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


if __name__ == "__main__":
    main()
