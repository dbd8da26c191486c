"""Clones of scripted demonstrations before PPO: one change of cloning after the other, task by task.

Command:  uv run python experiments/recipe.py [--tasks ...] [--seeds ...] [--assets DIR]
Cost:     five to ten minutes of one core for each clone.
Expected: in tasks of two steps more than twice as many successes as without the changes; none lost in easy tasks.

Every clone is that of the preset `state` but for what its line says. It is scored from 100 training placements that
neither demonstrations nor corrections began from, in `fast` physics, without noise and with the noise of PPO's
rollouts. What is in `results/fleet/recipe.json` is not run again.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from rlgen.configs.presets import expert_presets, fit_to
from rlgen.configs.schema import Config
from rlgen.core.files import write_json
from rlgen.core.process import cache_folder
from rlgen.core.progress import Progress
from rlgen.data.metrics.score import make_score
from rlgen.evaluation.score import score_trials
from rlgen.libero.scenes.assets import AssetSource, find_assets
from rlgen.libero.tasks.suites import find_task
from rlgen.pipeline import bc
from rlgen.pipeline.context import Context, run_stages
from rlgen.pipeline.policy import make_actor
from rlgen.training.run import create_run, is_run, open_run

RESULTS = Path(__file__).resolve().parent / "results" / "fleet" / "recipe.json"
TASKS = ("libero_goal/3", "libero_10/0", "libero_spatial/5")
# Of the 256 training reset states those that no correction begins from; only a task with many failed demonstrations
# comes to them.
FIRST, EPISODES = bc.CORRECTED, 100


def changes() -> dict[str, Config]:
    """Returns configurations by what they are, each with what the ones before it have as well."""
    last = expert_presets()["state"]
    whole = replace(last, ppo=replace(last.ppo, action_steps=None))
    uncorrected = replace(whole, bc=replace(whole.bc, correction_rounds=0))
    noise = replace(whole.policy, diffusion=replace(whole.policy.diffusion, prediction="eps"))
    shallow = replace(uncorrected, policy=replace(noise, mlp_widths=(384,) * 3))
    human = replace(shallow, demos=replace(shallow.demos, clean=False))
    return {
        "human-like demonstrations, the noise predicted, three layers": human,
        "clean demonstrations": shallow,
        "five layers": replace(uncorrected, policy=noise),
        "the clean chunk predicted": uncorrected,
        "corrections": whole,
        "half of a chunk executed": last,
    }


def main() -> None:
    """Clones and scores what has no result yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0,))
    parser.add_argument("--assets", type=Path, help="the benchmark's own assets; placeholder assets by default")
    parser.add_argument("--runs", type=Path, default=Path("runs/recipe"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    assets = find_assets(arguments.assets, placeholders=arguments.assets is None, cache=cache_folder())
    for task in arguments.tasks:
        for seed in arguments.seeds:
            for name, config in changes().items():
                report: dict = (
                    json.loads(arguments.out.read_text()) if arguments.out.exists() else {"assets": assets.label}
                )
                rows = report.setdefault(task, {}).setdefault(name, {})
                if str(seed) in rows:
                    continue
                start = time.process_time()
                row = clone_and_score(task, replace(config, seed=seed), assets, arguments.runs / f"{task}-{seed}", name)
                rows[str(seed)] = row | {"core_seconds": round(time.process_time() - start, 1)}
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                write_json(arguments.out, report)
                print(task, seed, name, json.dumps(rows[str(seed)]), flush=True)


def clone_and_score(task: str, config: Config, assets: AssetSource, folder: Path, name: str) -> dict:
    """Runs demonstrations and cloning, and scores the clone with and without noise.

    Args:
      task: suite and index.
      config: of the run.
      assets: object assets.
      folder: of the task's runs.
      name: of the change.
    """
    known = find_task(task)
    run = folder / name.replace(" ", "-").replace(",", "")
    if not is_run(run):
        record = {"kind": assets.kind, "path": str(assets.path), "label": assets.label}
        # A core of its own: cloning and simulation take turns.
        create_run(run, fit_to(replace(config, task=known.id, workers=1), known.horizon), record)
    context = Context(open_run(run), cache_folder())
    stages = ("demos", "bc")
    run_stages(context, stages, Progress(stages, every=30.0))
    policy, params = bc.load_policy(context)
    scores = {}
    for kind in ("without noise", "with noise"):
        rows = score_trials(
            context.scene,
            make_actor(context, policy, params, explore=kind == "with noise"),
            EPISODES,
            seed=0,
            split=context.scene.training_split,
            source="bc",
            offset=FIRST,
            threads=1,
            physics="fast",
            fixtures=context.scene.training_fixtures,
        )
        scores[kind] = make_score(rows).summary().to_json()
    result = context.run.result("bc")
    return {**scores, "chunks": result["chunks"], "parameters": result["parameters"]}


if __name__ == "__main__":
    main()
