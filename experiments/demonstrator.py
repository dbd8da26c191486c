"""How well the scripted demonstrator does on every task of the benchmark.

Command:  uv run python experiments/demonstrator.py --assets DIR [--out runs/demonstrator] [TASK ...]
Cost:     four hours of a core for all 130 tasks; what is done is kept, and the same command goes on.
Expected: 50 demonstrations of at least 110 tasks; at least 80 % of the stored states in 35 of the 40 tasks of
          spatial, object, goal and 10.

Attempts at a task go through its 50 stored initial states, in `exact` physics, human-like; the first 50 attempts give
the success rate, and attempts go on with new styles until 50 have succeeded, or 150 were made. `--json` collects what
is there into `experiments/results/demonstrator.json`.
"""

import argparse
import os
from pathlib import Path

import numpy as np

from rlgen.core.files import read_json, write_json
from rlgen.core.process import cache_folder, worker_pool
from rlgen.demos.record import Attempt, Job, make_attempts
from rlgen.libero.scenes.assets import find_assets
from rlgen.libero.scenes.bundles import build_bundles
from rlgen.libero.tasks.suites import Task, all_tasks, find_tasks

TRIALS, WANTED, LIMIT = 50, 50, 150


def main() -> None:
    """Attempts, task by task, and collects."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=["all"])
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/demonstrator"))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cache = cache_folder()
    assets = find_assets(arguments.assets, cache=cache)
    tasks = [task for name in arguments.tasks for task in find_tasks(name)]
    bundles = build_bundles(tasks, assets, cache, workers=arguments.workers)
    with worker_pool(arguments.workers) as pool:
        for task, bundle in zip(tasks, bundles, strict=True):
            job = Job(bundle, "heldout", seed=0, mode="exact", clean=False)
            attempts = make_attempts(
                job, folder(arguments.out, task), enough=enough, limit=LIMIT, pool=pool, workers=arguments.workers
            )
            print(f"{task.suite}/{task.index}", summary(list(attempts)), flush=True)
    if arguments.json is not None:
        collect(arguments.out, arguments.json)


def folder(out: Path, task: Task) -> Path:
    """Where the attempts at a task are kept."""
    return out / f"{task.suite}-{task.index}"


def enough(attempts: list[Attempt]) -> bool:
    """All stored states tried, and enough successes, or too few for the attempts that are left."""
    reached = sum(ended.success for ended in attempts)
    return len(attempts) >= TRIALS and (reached >= WANTED or reached + LIMIT - len(attempts) < WANTED)


def summary(attempts: list[Attempt]) -> dict[str, int | float | None]:
    """The row of a task."""
    reached = np.flatnonzero(np.cumsum([ended.success for ended in attempts]) >= WANTED)
    lengths = [ended.steps for ended in attempts if ended.success]
    return {
        "successes": sum(ended.success for ended in attempts[:TRIALS]),
        "trials": TRIALS,
        "attempts_for_50": int(reached[0]) + 1 if len(reached) else None,
        "attempts": len(attempts),
        "mean_length": float(np.mean(lengths)) if lengths else None,
        "seconds": sum(ended.seconds for ended in attempts),
    }


def collect(out: Path, file: Path) -> None:
    """Adds the row of every task that is finished, by `<suite>/<name>`; rows of other tasks stay."""
    rows = read_json(file) if file.is_file() else {}
    found = {task.id: kept(folder(out, task)) for task in all_tasks()}
    rows |= {task: summary(attempts) for task, attempts in found.items() if attempts is not None}
    write_json(file, {task: rows[task] for task in found if task in rows})


def kept(attempts: Path) -> list[Attempt] | None:
    """Attempts in a folder as far as they count; those that had begun when there were enough do not. None before."""
    records = [Attempt(**read_json(record)) for record in sorted(attempts.glob("[0-9]*.json"))]
    ends = (count for count in range(1, len(records) + 1) if count == LIMIT or enough(records[:count]))
    count = next(ends, None)
    return None if count is None else records[:count]


if __name__ == "__main__":
    main()
