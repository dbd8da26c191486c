"""Memory of a vector environment: 64 environments of one task, and of 64 different tasks.

Command:  uv run python experiments/pool_memory.py --assets DIR [--json experiments/results/world/pool_memory.json]
Cost:     a minute where the scenes are built, five where they are not.
Expected: megabytes an environment, the same for one task and for many, since models are small and shared.

Each is made in a process of its own, reset and stepped; what counts is its resident memory above that of a
process that has only imported the same things.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

COUNT = 64


def main() -> None:
    """Measures both and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tasks", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.tasks is not None:
        print(json.dumps(measure(arguments.assets, arguments.tasks)))
        return
    report = {}
    for tasks in (1, COUNT):
        command = [sys.executable, __file__, "--assets", str(arguments.assets), "--tasks", str(tasks)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        what = "one task" if tasks == 1 else f"{tasks} different tasks"
        report[f"{COUNT} environments of {what}"] = json.loads(done.stdout.splitlines()[-1])
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")


def measure(assets: Path, tasks: int) -> dict[str, float]:
    """Returns the megabytes of a vector environment and of its parts."""
    import mujoco

    from rlgen.core.process import cache_folder
    from rlgen.libero.envs.vector_env import VectorEnv
    from rlgen.libero.scenes.assets import find_assets
    from rlgen.libero.scenes.bundles import build_scene_bundles
    from rlgen.libero.scenes.scene import load_scene_bundle
    from rlgen.libero.tasks.suites import all_tasks

    cache = cache_folder()
    source = find_assets(assets, cache=cache)
    folders = build_scene_bundles(all_tasks()[:tasks], source, cache, workers=2)
    warm = VectorEnv([load_scene_bundle(folders[0])])
    warm.reset(warm.scenes[0].stored_states[:1])
    warm.step(np.zeros((1, 1, 7)))
    before = resident()
    scenes = [load_scene_bundle(folder) for folder in folders]
    loaded = resident()
    env = VectorEnv([scenes[number % len(scenes)] for number in range(COUNT)])
    width = max(scene.stored_states.shape[1] for scene in scenes)
    initial = np.zeros((COUNT, width))
    for row, scene in zip(initial, env.scenes, strict=True):
        row[: scene.stored_states.shape[1]] = scene.stored_states[0]
    env.reset(initial)
    env.step(np.zeros((COUNT, 8, 7)))
    after = resident()
    return {
        "scenes_mb": loaded - before,
        "pool_mb": after - loaded,
        "per_environment_mb": (after - loaded) / COUNT,
        "models_mb": sum(mujoco.mj_sizeModel(scene.model) for scene in scenes) / 1e6,
    }


def resident() -> float:
    """Returns the resident memory of this process, megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    main()
