"""The paper's ablations (its figure 5) on the recipe of experts: complete clones, paired by task and seed.

Command:  uv run python experiments/ablations.py FLEET... [--names NAME ...] [--tasks libero_goal/2 libero_10/2]
          FLEET is a finished `rlgen fleet` by diffusion PPO, one for each seed; NAME is schedule, environments,
          sampler, network, habits, objects, gaussian or gaussian-habits.
Cost:     in core-minutes a run: schedule 7, environments 3, sampler 25, network 45, the others 15 on short tasks, twice
          that on long ones; runs lie beside each other with `--jobs 2`.
Expected: as the paper says, that five steps of DDIM are no worse than DDPM's 100, and that a cosine schedule, many
          environments and the U-Net do better; that one Gaussian is as good where demonstrations grasp in one way, and
          worse than a chain where they grasp in several.

Every run starts from what a run of a fleet has, which is the variant that the others are compared with: its clone where
PPO alone differs, else its demonstrations. A line of the ledger for each run has the scores of clone and expert from
the stored initial states, and those of PPO's evaluations; what it has is not run again.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student

from rlgen.core.text import number
from rlgen.fleet.assemble import episodes_path, read_states
from rlgen.fleet.plan import open_plan
from rlgen.libero.tasks.suites import find_task
from rlgen.training.metrics import read_metrics
from rlgen.training.run import open_run

RESULTS = Path(__file__).resolve().parent / "results" / "ablations"
# The third task of two suites, chosen before any run of it.
TASKS = ("libero_goal/2", "libero_10/2")
STAGES = ("demos", "bc", "ppo")
LEDGER = "ledger.jsonl"
# What the table compares, of a score in the ledger.
FIGURES: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "success, %": lambda score: 100 * score["successes"] / score["trials"],
    "length": lambda score: score["length"],
    "jerk": lambda score: score["mean_squared_jerk"],
}


@dataclass(frozen=True)
class Variant:
    """A difference from the recipe.

    Attributes:
      first: the first stage that differs.
      options: of `rlgen run`.
    """

    first: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Ablation:
    """A choice of the recipe and its alternative.

    Attributes:
      recipe: what the recipe has.
      other: name of the alternative.
      variant: how it is run.
    """

    recipe: str
    other: str
    variant: Variant


GAUSSIAN = ("--policy.algorithm", "gaussian")
DDPM = ("--policy.diffusion.sampler", "ddpm", "--policy.diffusion.num-finetuned-steps", "10")
ABLATIONS = {
    "schedule": Ablation("cosine", "constant", Variant("ppo", ("--ppo.schedule", "constant"))),
    # As many updates, each from a quarter of the control steps.
    "environments": Ablation("20", "5", Variant("ppo", ("--ppo.environments", "5", "--ppo.batch", "218"))),
    # DDPM trains the last ten of its 100 steps, as the reference implementation does: twice as many as DDIM has, so
    # that minibatches of twice the size are as many.
    "sampler": Ablation(
        "DDIM, 5 steps",
        "DDPM, 100 steps",
        Variant("bc", (*DDPM, "--ppo.batch", "1750")),
    ),
    "network": Ablation("MLP", "U-Net", Variant("bc", ("--policy.network", "unet"))),
    "habits": Ablation("usual grasps", "best grasps", Variant("demos", ("--demos.no-habits",))),
    "objects": Ablation("the scene seen", "the goal seen", Variant("bc", ("--policy.objects", "goal"))),
    "gaussian": Ablation("diffusion", "Gaussian", Variant("bc", GAUSSIAN)),
    "gaussian-habits": Ablation(
        "diffusion, usual grasps", "Gaussian, best grasps", Variant("demos", ("--demos.no-habits", *GAUSSIAN))
    ),
}
RECIPE = "recipe"
Pair = tuple[dict[str, Any], dict[str, Any]]


@dataclass(frozen=True)
class Start:
    """A run of a fleet.

    Attributes:
      task: suite and index.
      seed: of the run.
      folder: of the run.
    """

    task: str
    seed: int
    folder: Path


def main() -> None:
    """Runs what the ledger lacks, then draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fleets", nargs="+", type=Path)
    parser.add_argument("--names", nargs="+", choices=ABLATIONS, default=tuple(ABLATIONS))
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, a core each")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    starts = list(starts_of(arguments.fleets, arguments.tasks))
    if not starts:
        raise SystemExit(f"{' '.join(map(str, arguments.fleets))}: no finished task of {' '.join(arguments.tasks)}")
    run_missing(starts, arguments.names, arguments.runs, arguments.out / LEDGER, arguments.jobs)
    draw(arguments.out)


def starts_of(fleets: list[Path], tasks: list[str]) -> Iterator[Start]:
    """Yields the finished runs of some tasks."""
    wanted = {find_task(task).id: task for task in tasks}
    for fleet in fleets:
        plan = open_plan(fleet)
        for state in read_states(fleet, plan):
            if state.state == "done" and state.task.id in wanted:
                folder = episodes_path(fleet, plan, state)
                yield Start(wanted[state.task.id], open_run(folder).config.seed, folder)


def run_missing(
    starts: list[Start], names: list[str], runs: Path, ledger: Path, jobs: int, execute: Callable | None = None
) -> None:
    """Runs what the ledger lacks, and adds a line for each run that has ended.

    Args:
      starts: runs that the variants start from.
      names: of the ablations.
      runs: folder for the variants' runs.
      ledger: JSON lines.
      jobs: runs at a time.
      execute: runs a command of rlgen and returns its core-seconds; a process by default.
    """
    done = {_key(line) for line in read_metrics(ledger)} if ledger.exists() else set()
    ledger.parent.mkdir(parents=True, exist_ok=True)

    def one(start: Start, name: str) -> dict[str, Any]:
        if name == RECIPE:
            return measured(start.folder)
        variant = ABLATIONS[name].variant
        folder = runs / f"{name}-{start.task.replace('/', '-')}-{start.seed}"
        copy_run(start.folder, folder, STAGES[: STAGES.index(variant.first)])
        seconds = 0.0
        for stage in STAGES[STAGES.index(variant.first) :]:
            seconds += (execute or run_rlgen)(
                ["run", stage, "--run", str(folder), "--workers", "1", *variant.options],
            )
        return measured(folder) | {"core_seconds": round(seconds, 1)}

    todo = [
        (start, name) for start in starts for name in (RECIPE, *names) if (name, start.task, start.seed) not in done
    ]
    with ThreadPoolExecutor(jobs) as pool, open(ledger, "a") as file:
        runs_of = {pool.submit(one, start, name): (start, name) for start, name in todo}
        for result in as_completed(runs_of):
            start, name = runs_of[result]
            line = {"run": name, "task": start.task, "seed": start.seed, **result.result()}
            file.write(json.dumps(line) + "\n")
            file.flush()
            print(name, start.task, start.seed, json.dumps(line["expert"]), flush=True)


def _key(line: dict[str, Any]) -> tuple[str, str, int]:
    return line["run"], line["task"], line["seed"]


def copy_run(source: Path, target: Path, stages: tuple[str, ...]) -> None:
    """Copies a run with some of its stages; a copy that is there is left alone.

    Args:
      source: folder of the run.
      target: folder of the copy.
      stages: names of the stages to take over.
    """
    if target.exists():
        return
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    shutil.copyfile(source / "run.json", part / "run.json")
    for stage in stages:
        shutil.copytree(source / stage, part / stage)
    os.replace(part, target)


def run_rlgen(words: list[str]) -> float:
    """Runs a command of rlgen on one core, and returns its core-seconds."""
    one_core = {
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen([sys.executable, "-m", "rlgen", *words], env={**os.environ, **one_core})
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"rlgen {' '.join(words)}: exit status {process.returncode}")
    return _seconds(used)


def _seconds(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


def measured(folder: Path) -> dict[str, Any]:
    """Returns the scores of a finished run, what PPO changed, and its evaluations from training placements."""
    run = open_run(folder)
    result = run.result("ppo")
    tests = [line for line in read_metrics(folder / "ppo" / "metrics.jsonl") if "test" in line]
    curve = [{name: line[name] for name in ("control_steps", "test")} for line in tests]
    return {
        "clone": result["heldout"]["bc"],
        "expert": result["heldout"]["ppo"],
        "noise": result["exploration"],
        "iterations": result["iterations"],
        "curve": curve,
    }


def draw(out: Path) -> None:
    """Draws success, length and jerk over PPO for each ablation that has runs."""
    from rlgen.report.plots import ScoreCurve, progress
    from rlgen.report.style import save

    lines = read_metrics(out / LEDGER)
    panels: dict[str, dict[str, list[ScoreCurve]]] = {}
    for name, ablation in ABLATIONS.items():
        pairs = pairs_of(lines, name)
        if pairs:
            sides = {ablation.recipe: [one for one, _ in pairs], ablation.other: [other for _, other in pairs]}
            panels[name] = {
                side: [ScoreCurve.from_metrics(line["curve"]) for line in chosen] for side, chosen in sides.items()
            }
    if panels:
        save(progress(panels), out / "ablations.png")


def pairs_of(lines: list[dict[str, Any]], name: str) -> list[Pair]:
    """Returns the recipe's line and the variant's of each task and seed that have both.

    Args:
      lines: of the ledger.
      name: of the ablation.
    """
    found = {_key(line): line for line in lines}
    others = [key for key in found if key[0] == name]
    return [(found[(RECIPE, *key[1:])], found[key]) for key in others if (RECIPE, *key[1:]) in found]


def ablation_table() -> str:
    """Returns two rows for each ablation, clone and expert of either side, and how far apart the experts are."""
    ledger = RESULTS / LEDGER
    lines = read_metrics(ledger) if ledger.exists() else []
    head = ["ablation", "variant", "runs", *FIGURES, *(f"{name}, beside" for name in FIGURES), "core-min"]
    rows = [f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"]
    for name, ablation in ABLATIONS.items():
        pairs = pairs_of(lines, name)
        if not pairs:
            continue
        recipe, other = ([pair[side] for pair in pairs] for side in (0, 1))
        rows.append(f"| {name} | {ablation.recipe} | {len(pairs)} | {' | '.join([*_changes(recipe), *[''] * 4])} |")
        cells = [*_changes(other), *(_beside(pairs, figure) for figure in FIGURES), _cost(other)]
        rows.append(f"| {name} | {ablation.other} | {len(pairs)} | {' | '.join(cells)} |")
    return "\n".join(rows) if len(rows) > 2 else "None has been run on this recipe yet."


def _changes(lines: list[dict[str, Any]]) -> list[str]:
    """Returns the means of clones and experts over runs, such as `116 → 106`."""
    return [" → ".join(number(float(v)) for v in _values(lines, figure).mean(axis=1)) for figure in FIGURES.values()]


def _values(lines: list[dict[str, Any]], figure: Callable[[dict], float | None]) -> Float[np.ndarray, "2 R"]:
    """Returns a figure of clone and expert of each run; NaN where nothing succeeded."""
    return np.array([[figure(line[actor]) for line in lines] for actor in ("clone", "expert")], dtype=np.float64)


def apart(pairs: Sequence[Pair], name: str) -> list[float]:
    """Returns how much more of a figure the variant's expert has than the recipe's, of each pair.

    Args:
      pairs: lines of the recipe and of the variant.
      name: of the figure, as in `FIGURES`.
    """
    recipe, other = (_values([pair[side] for pair in pairs], FIGURES[name])[1] for side in (0, 1))
    return (other - recipe).tolist()


def student_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Returns the mean of at least two values with its 95 % interval by Student's t."""
    mean, count = float(np.mean(values)), len(values)
    reach = float(student.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return mean, mean - reach, mean + reach


def _beside(pairs: Sequence[Pair], name: str) -> str:
    values = apart(pairs, name)
    if len(values) < 2:
        return f"{values[0]:+.1f}"
    mean, low, high = student_interval(values)
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _cost(lines: list[dict[str, Any]]) -> str:
    return f"{np.mean([line['core_seconds'] for line in lines]) / 60:.0f}"


if __name__ == "__main__":
    main()
