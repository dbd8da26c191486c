"""Whether `fast` physics does what `exact` physics does: successful episodes of one, replayed in the other.

Command:  uv run python experiments/replay_modes.py --assets DIR [--json experiments/results/replay_modes.json]
Cost:     ten minutes on two cores.
Expected: at least 99 % of the episodes succeed again.

The episodes are the scripted demonstrator's, human-like, on the stored initial states of the ten tasks of
`libero_object`; recorded in `exact` and replayed in `fast`, and the other way round.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from rlgen.libero.assets import find_assets
from rlgen.libero.bundles import load_scene
from rlgen.libero.demonstrator import Demonstrator
from rlgen.libero.environment import SETTLE_ACTION, Mode
from rlgen.libero.pool import Pool
from rlgen.libero.scene import Scene
from rlgen.process import cache_folder
from rlgen.report.intervals import SuccessRate
from rlgen.rl.rollout import make_trials, run_episodes

TASKS = 10
OTHER: dict[Mode, Mode] = {"exact": "fast", "fast": "exact"}


def main() -> None:
    """Records and replays, task by task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cache = cache_folder()
    assets, tasks = find_assets(arguments.assets, cache=cache), {}
    for index in range(TASKS):
        scene = load_scene(f"libero_object/{index}", assets, cache)
        tasks[f"libero_object/{index}"] = {mode: compare(scene, mode, arguments.episodes) for mode in OTHER}
        print(f"libero_object/{index}", tasks[f"libero_object/{index}"], flush=True)
    report = {"assets": assets.label, "episodes": arguments.episodes, "total": total(tasks), "tasks": tasks}
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")


def compare(scene: Scene, recorded: Mode, episodes: int) -> dict[str, int]:
    """How many episodes succeeded in one mode, and how many of those succeed again in the other."""
    actor, trials = Demonstrator(scene), make_trials(episodes, len(scene.stored), seed=scene.task.index)
    waves = run_episodes(scene, actor, trials, split="heldout", source="demonstrator", mode=recorded)
    kept = [episode for wave in waves for episode in wave if episode.success]
    pool = Pool([scene] * len(kept), mode=OTHER[recorded])
    pool.reset(np.stack([episode.initial_state for episode in kept]))
    steps = max(len(episode.actions) for episode in kept)
    still = np.tile(SETTLE_ACTION, (steps, 1))
    chunks = np.stack([np.concatenate([episode.actions, still[len(episode.actions) :]]) for episode in kept])
    again = pool.step(chunks)
    pool.close()
    in_time = again.steps <= [len(episode.actions) for episode in kept]
    return {"recorded": len(kept), "replayed": int(np.sum(again.terminated & in_time))}


def total(tasks: dict[str, dict[Mode, dict[str, int]]]) -> dict[str, dict[str, int | float]]:
    """Sums over the tasks with Wilson intervals."""
    out = {}
    for mode, other in OTHER.items():
        recorded = sum(row[mode]["recorded"] for row in tasks.values())
        replayed = sum(row[mode]["replayed"] for row in tasks.values())
        out[f"{mode}, replayed in {other}"] = SuccessRate(replayed, recorded).to_json()
    return out


if __name__ == "__main__":
    main()
