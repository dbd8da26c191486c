"""Agreement of `fast` and `exact` physics: successful episodes of one, replayed in the other.

Command:  uv run python experiments/replay_modes.py --assets DIR [--json experiments/results/world/replay_modes.json]
Cost:     twenty minutes on two cores.
Expected: at least 99 % of the episodes succeed again.

The episodes are the scripted expert's, human-like, on stored initial states of two tasks of each suite; recorded
in `exact` and replayed in `fast`, and the other way round. After its last action an episode has ten control steps in
which things may still fall; `in_time` counts those that needed none of them.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from rlgen.core.process import cache_folder
from rlgen.core.stats import SuccessRate
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.libero.envs.environment import SETTLE_ACTION, Physics
from rlgen.libero.envs.rollouts import make_trials, run_episodes
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.scenes.assets import find_assets
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.scene import Scene

TASKS = (
    *("libero_spatial/0", "libero_spatial/9", "libero_object/0", "libero_object/6", "libero_goal/1"),
    *("libero_goal/7", "libero_10/0", "libero_10/4", "libero_90/0", "libero_90/65"),
)
AFTER = 10
OTHER: dict[Physics, Physics] = {"exact": "fast", "fast": "exact"}


def main() -> None:
    """Records and replays, task by task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=25)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cache = cache_folder()
    assets, tasks = find_assets(arguments.assets, cache=cache), {}
    for name in TASKS:
        scene = load_scene(name, assets, cache)
        tasks[name] = {mode: compare(scene, mode, arguments.episodes) for mode in OTHER}
        print(name, tasks[name], flush=True)
    report = {"assets": assets.label, "episodes": arguments.episodes, "total": total(tasks), "tasks": tasks}
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")


def compare(scene: Scene, recorded: Physics, episodes: int) -> dict[str, int]:
    """Counts the episodes that succeed in one kind of physics, and those of them that succeed again in the other.

    Args:
      scene: the task's scene.
      recorded: physics of the recording.
      episodes: number of trials.
    """
    actor, trials = ScriptedExpert(scene), make_trials(episodes, len(scene.stored_states), seed=scene.task.index)
    waves = run_episodes(scene, actor, trials, split="heldout", source="demonstrator", physics=recorded)
    kept = [episode for wave in waves for episode in wave if episode.success]
    env = VectorEnv([scene] * len(kept), physics=OTHER[recorded], horizon=scene.task.horizon + AFTER)
    env.reset(np.stack([episode.initial_state for episode in kept]))
    steps = max(len(episode.actions) for episode in kept) + AFTER
    still = np.tile(SETTLE_ACTION, (steps, 1))
    chunks = np.stack([np.concatenate([episode.actions, still[len(episode.actions) :]]) for episode in kept])
    again = env.step(chunks)
    env.close()
    late = again.control_steps - [len(episode.actions) for episode in kept]
    return {
        "recorded": len(kept),
        "replayed": int(np.sum(again.terminated & (late <= AFTER))),
        "in_time": int(np.sum(again.terminated & (late <= 0))),
    }


def total(tasks: dict[str, dict[Physics, dict[str, int]]]) -> dict[str, dict[str, int | float]]:
    """Sums over the tasks with Wilson intervals."""
    out = {}
    for mode, other in OTHER.items():
        recorded = sum(row[mode]["recorded"] for row in tasks.values())
        replayed = sum(row[mode]["replayed"] for row in tasks.values())
        out[f"{mode}, replayed in {other}"] = SuccessRate(replayed, recorded).to_json()
    return out


if __name__ == "__main__":
    main()
