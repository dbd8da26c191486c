"""Success of the scripted expert on every task of the benchmark.

Command:  uv run python experiments/scripted_expert.py --assets DIR [--out runs/scripted_expert] [TASK ...]
Cost:     four hours of a core for all 130 tasks; finished trials are kept, and the same command resumes.
Expected: 50 demonstrations of at least 110 tasks; at least 80 % of the stored states in 35 of the 40 tasks of
          spatial, object, goal and 10.

Trials of a task go through its 50 stored initial states, in `exact` physics, human-like; the first 50 trials give the
success rate, and trials continue with new styles until 50 have succeeded, or 150 were run. `--json` collects what
is there into `experiments/results/scripted_expert.json`.
"""

import argparse
import os
from pathlib import Path

import numpy as np

from rlgen.core.files import read_json, write_json
from rlgen.core.process import cache_folder, worker_pool
from rlgen.demos.trials import Job, TrialResult, run_trials
from rlgen.libero.scenes.assets import find_assets
from rlgen.libero.scenes.bundles import build_scene_bundles
from rlgen.libero.tasks.suites import Task, all_tasks, find_tasks

TRIALS, WANTED, LIMIT = 50, 50, 150


def main() -> None:
    """Runs the trials, task by task, and collects the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=["all"])
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/scripted_expert"))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cache = cache_folder()
    assets = find_assets(arguments.assets, cache=cache)
    tasks = find_tasks(*arguments.tasks)
    bundles = build_scene_bundles(tasks, assets, cache, workers=arguments.workers)
    with worker_pool(arguments.workers) as pool:
        for task, bundle in zip(tasks, bundles, strict=True):
            job = Job(bundle, "heldout", seed=0, physics="exact", clean=False)
            trials = run_trials(
                job, folder(arguments.out, task), enough=enough, limit=LIMIT, pool=pool, workers=arguments.workers
            )
            print(f"{task.suite}/{task.index}", summary(list(trials)), flush=True)
    if arguments.json is not None:
        collect(arguments.out, arguments.json)


def folder(out: Path, task: Task) -> Path:
    """Returns the folder of a task's trials."""
    return out / f"{task.suite}-{task.index}"


def enough(results: list[TrialResult]) -> bool:
    """Returns whether all stored states were tried, with enough successes or too few for the trials that are left."""
    reached = sum(result.success for result in results)
    return len(results) >= TRIALS and (reached >= WANTED or reached + LIMIT - len(results) < WANTED)


def summary(results: list[TrialResult]) -> dict[str, int | float | None]:
    """Returns the row of a task."""
    reached = np.flatnonzero(np.cumsum([result.success for result in results]) >= WANTED)
    lengths = [result.control_steps for result in results if result.success]
    return {
        "successes": sum(result.success for result in results[:TRIALS]),
        "trials": TRIALS,
        "attempts_for_50": int(reached[0]) + 1 if len(reached) else None,
        "attempts": len(results),
        "mean_length": float(np.mean(lengths)) if lengths else None,
        "seconds": sum(result.seconds for result in results),
    }


def collect(out: Path, file: Path) -> None:
    """Adds the row of every task that is finished, by `<suite>/<name>`; rows of other tasks stay."""
    rows = read_json(file) if file.is_file() else {}
    found = {task.id: finished(folder(out, task)) for task in all_tasks()}
    rows |= {task: summary(results) for task, results in found.items() if results is not None}
    write_json(file, {task: rows[task] for task in found if task in rows})


def finished(trials: Path) -> list[TrialResult] | None:
    """Returns the results in a folder up to where there were enough; None before. Later ones had only started."""
    results = [TrialResult.from_json(read_json(record)) for record in sorted(trials.glob("[0-9]*.json"))]
    ends = (count for count in range(1, len(results) + 1) if count == LIMIT or enough(results[:count]))
    count = next(ends, None)
    return None if count is None else results[:count]


if __name__ == "__main__":
    main()
