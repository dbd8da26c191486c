"""Four experts in one program (`rlgen fleet --together 4`) beside four single runs: numbers, time and memory.

Command:  uv run python experiments/together.py --assets DIR [--iterations 3] [--environments 40] [--folder DIR]
Cost:     by its parts fifteen minutes of one core; with `--iterations 2 --environments 20` about six.
Expected: equal numbers: on a CPU experts are computed one after the other in one program, whose sums are those of the
          single one. So little is gained there: a start and a compilation for all, and their memory.

Preset `state`, from clones of a few demonstrations, which the tasks of both fleets share. Both are worked on by the
command that every engine runs; costs are those of their ledgers, memory is the most that a process had.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rlgen.bench.timing import describe
from rlgen.configs.presets import expert_presets
from rlgen.configs.schema import BCConfig, CollectConfig, Config, DemosConfig
from rlgen.core.files import write_json
from rlgen.core.process import cache_folder
from rlgen.core.progress import Progress
from rlgen.fleet.engine import work_command
from rlgen.fleet.ledger import COSTS, NAME, read_ledger
from rlgen.fleet.plan import FleetPlan, make_plan, run_folder, store_plan, task_folder
from rlgen.libero.scenes.assets import find_assets
from rlgen.libero.tasks.suites import Task, find_tasks
from rlgen.pipeline.context import Context, run_stages
from rlgen.pipeline.ppo import load_policy
from rlgen.training.metrics import read_metrics
from rlgen.training.run import create_run, open_run

RESULTS = Path(__file__).resolve().parent / "results" / "fleet" / "together.json"
TASKS = ("libero_spatial/0", "libero_spatial/1", "libero_spatial/2", "libero_spatial/3")
CLONED = ("demos", "bc")


def main() -> None:
    """Runs both fleets, compares them and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--assets", type=Path, help="the benchmark's own assets; placeholder assets by default")
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--environments", type=int, default=40)
    parser.add_argument("--demonstrations", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="for the fleets; a temporary one by default")
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        report = compare(arguments, arguments.folder or Path(temporary))
    write_json(arguments.json, report)
    for name in ("alone", "together"):
        costs = report[name]
        print(f"{name}: {costs['core_seconds']:.0f} core-seconds, {costs['peak_bytes'] / 1e9:.2f} GB at most")
    print(f"largest difference of a parameter {report['largest']['parameter']:.2g}, of a metric, relative, "
          f"{report['largest']['metric']:.2g}")  # fmt: skip


def compare(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Returns the report.

    Args:
      arguments: of the command line.
      folder: for the fleets.
    """
    assets = find_assets(arguments.assets, placeholders=arguments.assets is None, cache=cache_folder())
    record = {**asdict(assets), "path": str(assets.path)}
    tasks, config = find_tasks(*arguments.tasks), settings(arguments)
    options = {"source": "diffusion", "tries": 1, "assets": record}
    plans = {
        name: make_plan(tasks, config, **options, together=count)
        for name, count in (("alone", 1), ("together", len(tasks)))
    }
    for name, plan in plans.items():
        store_plan(folder / name, plan)
    for task in tasks:
        clone(folder, plans["alone"], task)
    report: dict[str, Any] = {
        **describe(),
        **{"tasks": [task.id for task in tasks], "assets": assets.label},
        **{name: getattr(arguments, name) for name in ("iterations", "environments", "demonstrations")},
        "alone": measure(folder / "alone", [(task,) for task in tasks]),
        "together": measure(folder / "together", [tuple(tasks)]),
        "tasks_alike": [differences(folder, task) for task in tasks],
    }
    names = ("parameter", "metric")
    return report | {"largest": {name: max(row[name] for row in report["tasks_alike"]) for name in names}}


def settings(arguments: argparse.Namespace) -> Config:
    """Returns the preset, small where PPO does not look."""
    config = expert_presets()["state"]
    few = {"iterations": arguments.iterations, "environments": arguments.environments, "critic_warmup": 1}
    return replace(
        config,
        workers=1,
        demos=DemosConfig(episodes=arguments.demonstrations),
        bc=BCConfig(episodes=arguments.demonstrations, optimizer_steps=500, warmup=20),
        ppo=replace(config.ppo, **few, evaluate_episodes=5, score_episodes=0),
        # What comes after PPO is not measured: it gives up at once where it does not succeed.
        collect=CollectConfig(episodes=1, max_trials=1),
        evaluate=replace(config.evaluate, episodes=5),
    )


def clone(folder: Path, plan: FleetPlan, task: Task) -> None:
    """Records and clones a task's demonstrations, unless they are there, for both fleets."""
    first, second = (run_folder(folder / name, task, 0) for name in ("alone", "together"))
    if not first.exists():
        run = create_run(first, plan.run_config(task, 0), plan.assets)
        run_stages(Context(run, cache_folder()), CLONED, Progress(CLONED, every=60.0))
    if not second.exists():
        shutil.copytree(first, second)


def measure(root: Path, jobs: Sequence[tuple[Task, ...]]) -> dict[str, Any]:
    """Works on jobs one after the other; returns the costs of PPO, and the most memory that a process had.

    Args:
      root: folder of the fleet.
      jobs: of its tasks.
    """
    peaks = []
    for job in jobs:
        process = subprocess.Popen(work_command(root, job), stdout=sys.stderr)
        _, _, usage = os.wait4(process.pid, 0)
        peaks.append(usage.ru_maxrss * 1024)
    lines = [line for job in jobs for task in job for line in read_ledger(task_folder(root, task) / NAME)]
    trained = [line for line in lines if line["kind"] == "stage" and line["stage"] == "ppo"]
    if len(trained) != sum(map(len, jobs)):
        raise SystemExit(f"{root}: {len(trained)} tasks have been trained, expected all; see their logs")
    return {name: sum(line[name] for line in trained) for name in COSTS} | {"peak_bytes": max(peaks), "peaks": peaks}


def differences(folder: Path, task: Task) -> dict[str, Any]:
    """Returns the largest differences between a task's runs, and their successes with noise.

    Args:
      folder: of the fleets.
      task: of both.
    """
    runs = [open_run(run_folder(folder / name, task, 0)) for name in ("alone", "together")]
    params = [load_policy(Context(run, cache_folder()))[1] for run in runs]
    alone, together = (read_metrics(run.folder / "ppo" / "metrics.jsonl") for run in runs)
    pairs = [
        (one[name], other[name])
        for one, other in zip(alone, together, strict=True)
        for name in one
        if name != "test" and not name.startswith("seconds")
    ]
    return {
        "task": task.id,
        "parameter": max(
            float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())
            for a, b in zip(*map(jax.tree.leaves, params), strict=True)
        ),
        "metric": max(abs(a - b) / max(abs(a), 1e-6) for a, b in pairs),
        "success": [[line["success"] for line in lines] for lines in (alone, together)],
        "seconds": [sum(line.get("seconds_total", 0.0) for line in lines) for lines in (alone, together)],
    }


if __name__ == "__main__":
    main()
