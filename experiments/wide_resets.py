"""Success of the scripted expert from wide resets, compared with standard ones, and how far both are spread.

Command:  uv run python experiments/wide_resets.py --assets DIR [--tasks ...] [--out experiments/results/wide_resets]
          uv run python experiments/wide_resets.py --assets DIR --draw 4 [--tasks libero_goal libero_90/20 ...]
Cost:     a minute or two of one core a task; tasks that have their JSON are not run again. With --draw some seconds a
          task, and ten more where its scene is to be built.
Expected: success within ten points of that from standard resets; objects spread five times as wide, and more.

One task of each suite, 20 trials each, in `exact` physics and human-like. Spreads are over all training reset states:
standard deviations of an object's place along x and y before settling, and, after settling, how far the hand is from
where it is in the standard state of the same index.

With `--draw N` no episode is run: in each task N wide states are drawn, from training reset states as far from each
other as may be, and how many draws each takes is kept, of `DRAWS` at most, the last hundred of them from ranges that
shrink.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.files import read_json, write_json
from rlgen.core.process import cache_folder
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.libero.envs.environment import Environment
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.rollouts import make_trials, run_episodes
from rlgen.libero.envs.wide_resets import DRAWS, FULL, WideDraws, with_resets
from rlgen.libero.physics import kernel
from rlgen.libero.scenes.assets import find_assets
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.scenes.wide import ObjectLayout
from rlgen.libero.tasks.suites import find_tasks

TASKS = ("libero_spatial/0", "libero_object/6", "libero_goal/8", "libero_10/0", "libero_90/60")
TRIALS, SETTLED = 20, 64
PLOTTED = TASKS[0]
DRAWN = Path(__file__).resolve().parent / "results" / "world" / "wide_draws.json"


def main() -> None:
    """Runs what is missing, writes the JSON and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--out", type=Path, default=Path("experiments/results/wide_resets"))
    parser.add_argument("--draw", type=int, metavar="N", help="only draw N wide states of each task")
    parser.add_argument("--json", type=Path, default=DRAWN, help="of --draw; tasks that it has are not drawn again")
    arguments = parser.parse_args()
    if arguments.draw is not None:
        return draw_states(arguments.tasks, arguments.draw, arguments.assets, arguments.json)
    assets, cache = find_assets(arguments.assets, cache=cache_folder()), cache_folder()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for task in arguments.tasks:
        file = arguments.out / f"{task.replace('/', '-')}.json"
        if file.is_file():
            continue
        standard = load_scene(task, assets, cache)
        wide = with_resets(standard, "wide")
        if task == PLOTTED:
            draw(standard, wide, arguments.out / "placements.png")
        report = {"task": task, "prompt": standard.task.prompt, "assets": assets.label, **spreads(standard, wide)}
        report |= {scene.resets: successes(scene) for scene in (standard, wide)}
        print(report, flush=True)
        write_json(file, report)


def draw_states(names: Sequence[str], count: int, folder: Path, path: Path) -> None:
    """Draws wide states of tasks, and writes after each task how many draws they took.

    Args:
      names: of tasks or suites.
      count: states of each task.
      folder: of the assets.
      path: of the JSON.
    """
    kernel.link_mujoco()
    assets, cache = find_assets(folder, cache=cache_folder()), cache_folder()
    report = {"states": count, "draws": DRAWS, "from_whole_ranges": FULL, "assets": assets.label, "tasks": {}}
    if path.is_file():
        report = read_json(path)
    for task in find_tasks(*names):
        name = f"{task.suite}/{task.index}"
        if name in report["tasks"]:
            continue
        report["tasks"][name] = found = draws_of(load_scene(task, assets, cache), count)
        print(name, found, flush=True)
        write_json(path, report)
    tasks = report["tasks"].values()
    print(f"{sum(not task['failed'] for task in tasks)} of {len(tasks)} tasks have all of their wide states")


def draws_of(scene: Scene, count: int) -> dict[str, Any]:
    """Returns how many draws each of some wide states of a task took, and which had none that was valid.

    Args:
      scene: with standard resets.
      count: number of states.
    """
    draws, layout, environment = WideDraws(scene), ObjectLayout(scene), Environment(scene, scene.model)
    start, taken, failed = time.process_time(), [], []
    for index in np.linspace(0, len(scene.training_states) - 1, count).astype(int).tolist():
        try:
            taken.append(draws.draw(layout, environment, index)[1])
        except UserError:
            failed.append(index)
    seconds = round(time.process_time() - start, 1)
    return {"draws": taken, "failed": failed, "movers": len(layout.movers), "core_seconds": seconds}


def successes(scene: Scene) -> dict[str, float]:
    """Returns how many trials of the scripted expert succeed, and how long those are."""
    trials = make_trials(TRIALS, len(scene.training_states), seed=0)
    options = {"split": scene.training_split, "source": "scripted", "width": 1, "physics": "exact", "threads": 1}
    episodes = [episode for [episode] in run_episodes(scene, ScriptedExpert(scene), trials, **options)]
    lengths = [len(episode) for episode in episodes if episode.success]
    return {"trials": TRIALS, "successes": len(lengths), "mean_length": float(np.mean(lengths))}


def spreads(standard: Scene, wide: Scene) -> dict[str, object]:
    """Returns how far objects, joints and the hand are spread."""
    layout, arm = ObjectLayout(standard), 1 + standard.robot.arm_qpos
    places = {
        scene.resets: np.stack([layout.places(state) for state in scene.training_states]) for scene in (standard, wide)
    }
    joints = np.linalg.norm(wide.training_states[:, arm] - standard.training_states[:, arm], axis=1)
    hands = np.linalg.norm(settled_hands(wide) - settled_hands(standard), axis=1)
    moved = np.abs(places["wide"] - places["standard"])[:, :, :2].max(axis=0)
    return {
        "objects": {
            name: {
                "moved": index in layout.movers,
                **{f"std_{resets}": places[resets][:, index, :2].std(axis=0).round(4).tolist() for resets in places},
                "farthest": moved[index].round(4).tolist(),
            }
            for index, name in enumerate(standard.object_names)
        },
        "joints": {"mean": float(joints.mean()), "farthest": float(joints.max())},
        "hand": {"mean": float(hands.mean()), "farthest": float(hands.max())},
    }


def all_places(layout: ObjectLayout, scene: Scene) -> np.ndarray:
    """Returns where the objects are in all training reset states, `[R, objects, 3]`, metres."""
    return np.stack([layout.places(state) for state in scene.training_states])


def settled_hands(scene: Scene) -> np.ndarray:
    """Returns where the hand is after settling from the first states, metres."""
    kernel.link_mujoco()
    environment, settled = Environment(scene, scene.model), []
    for state in scene.training_states[:SETTLED]:
        environment.reset(state)
        settled.append(environment.state.copy())
    return Observer(scene)(np.stack(settled)).robot.position


def draw(standard: Scene, wide: Scene, path: Path) -> None:
    """Draws where each object is in all states, seen from above, the robot below."""
    layout = ObjectLayout(standard)
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharex=True, sharey=True)
    for axis, scene in zip(axes, (standard, wide), strict=True):
        places = all_places(layout, scene)
        for index, name in enumerate(scene.object_names):
            axis.scatter(places[:, index, 1], places[:, index, 0], s=5, alpha=0.6, lw=0, label=name)
        for body in scene.fixture_bodies:
            x, y, _ = scene.model.body_pos[body]
            axis.plot(y, x, "ks", ms=7)
            name = scene.model.body(body).name.removesuffix("_main")
            axis.annotate(name, (y, x), fontsize=7, xytext=(6, -3), textcoords="offset points")
        axis.set_title(f"{scene.resets} resets", fontsize=10)
        axis.set_xlabel("y, m")
        axis.set_aspect("equal")
    axes[0].set_ylabel("x, m (away from the robot)")
    axes[0].invert_xaxis()
    axes[0].legend(fontsize=7, loc="lower left", markerscale=2)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
