"""The paper's tables: VLAs that differ in the source of their data alone, each trained from three seeds.

Command:  uv run python experiments/paper.py [table1|table2|dial] --assets DIR [--scale small|gpu|full]
          [--tasks libero_spatial] [--sources NAME ...] [--seeds 0 1 2] [--data NAME=DATASET] [--others TASK ...]
          [--dry-run]
Cost:     at scale `small` and for each source a fleet of ten tasks (hours on two cores), and for each seed an hour of
          training and one of evaluation; `--dry-run` prints every command. What the ledger has is not run again.
Expected: success of each source with its interval, and differences between sources, paired by initial states.

`table1`: the scripted expert's human-like demonstrations, clones without PPO, experts by Gaussian and by diffusion
PPO, all by `rlgen fleet`; people's demonstrations by `--data human=FOLDER`, a dataset that `rlgen data export` made.
Half as many scripted episodes again are recorded as are used: some do not succeed without their no-ops.
`table2`: mixtures of equal size and data of wide resets, evaluated on the stored initial states, on wide ones and on
tasks that were not trained on (`--others`). `dial`: one expert, several, and one that explores; scripted episodes in
one manner and more: which figure of a dataset's card ranks them as their VLAs' success does.
Settings are the same for all of them. Images of training and evaluation are of the same renderer.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from paper_sources import SOURCES, STUDIES, Command, Making, Step
from paper_tables import BENCHMARK, dial, table

from rlgen.training.metrics import read_metrics

RESULTS = Path(__file__).resolve().parent / "results" / "paper"


@dataclass(frozen=True)
class Scale:
    """The size of everything.

    Attributes:
      train: options of `rlgen vla train`.
      steps: optimizer steps.
      image_size: of training data and evaluation, pixels.
      trials: stored initial states of each task.
      episodes: of each task in the data.
    """

    train: tuple[str, ...]
    steps: int
    image_size: int
    trials: int = 50
    episodes: int = 50


SCALES = {
    "tiny": Scale(("--model", "tiny", "--train.batch", "4", "--image-size", "64", "--train.warmup", "1"), 4, 64, 1, 2),
    "small": Scale(("--model", "small", "--train.batch", "32", "--train.peak-rate", "1e-3"), 8000, 128),
    "gpu": Scale(("--model", "small", "--train.batch", "128", "--train.peak-rate", "1e-3"), 20000, 128),
    "full": Scale(("--model", "pi0"), 30000, 224),
}


@dataclass(frozen=True)
class Plan:
    """The runs of a table.

    Attributes:
      scale: of everything.
      sources: names of the sources.
      seeds: of the trainings.
      making: how the data are made.
      evaluations: words of tasks and a split, by the name of the evaluation.
    """

    scale: Scale
    sources: tuple[str, ...]
    seeds: tuple[int, ...]
    making: Making
    evaluations: dict[str, tuple[tuple[str, ...], str]]

    def train_command(self, source: str, seed: int) -> Command:
        """Returns the command of a training."""
        making = self.making
        options = ["--train.steps", str(self.scale.steps), "--train.seed", str(seed), "--workers", str(making.workers)]
        out = ["--out", str(self._folder(source, seed) / "train"), "--data", *making.datasets(source)]
        return ["vla", "train", *out, *self.scale.train, *options]

    def evaluate_command(self, source: str, seed: int, name: str) -> Command:
        """Returns the command of an evaluation."""
        folder, scale, (tasks, split) = self._folder(source, seed), self.scale, self.evaluations[name]
        options = ["--episodes", str(scale.trials), "--image-size", str(scale.image_size), "--seed", str(seed)]
        paths = ["--policy", str(folder / "train"), "--out", str(folder / name), "--split", split]
        return ["eval", *tasks, *paths, *options, *self.making.assets, "--workers", str(self.making.workers)]

    def outcomes(self, source: str, seed: int, name: str) -> dict[str, str]:
        """Returns of each task a 1 or a 0 for every trial, in the order of the initial states."""
        found: dict[str, list] = {}
        for line in read_metrics(self._folder(source, seed) / name / "episodes.jsonl"):
            found.setdefault(line["task"], []).append((line["trial"], line["success"]))
        return {task: "".join(str(int(success)) for _, success in sorted(rows)) for task, rows in sorted(found.items())}

    def _folder(self, source: str, seed: int) -> Path:
        return self.making.runs / f"{source}-{seed}"


def steps_of(plan: Plan) -> Iterator[Step]:
    """Yields what each run is, as the ledger has it, and its commands, which may need what the runs before it made."""
    for source in plan.sources:
        yield from plan.making.steps(source)
        for seed in plan.seeds:
            what = {"source": source, "seed": seed}
            yield {"run": "train", **what}, lambda s=source, n=seed: [plan.train_command(s, n)]
            for name in plan.evaluations:
                run = {"run": "evaluate", **what, "on": name}
                yield run, lambda s=source, n=seed, on=name: [plan.evaluate_command(s, n, on)]


def run_missing(plan: Plan, ledger: Path, execute: Callable[[Command], None], log: Callable[[str], None]) -> None:
    """Runs what the ledger lacks, and adds a line for each run that has ended.

    Args:
      plan: of the table.
      ledger: JSON lines.
      execute: runs a command of rlgen, and raises where it fails.
      log: called with a line for each run.
    """
    done = read_metrics(ledger) if ledger.exists() else []
    for what, commands in steps_of(plan):
        if any(what.items() <= line.items() for line in done):
            continue
        start, cores = time.time(), _children()
        for words in commands():
            log(f"rlgen {' '.join(words)}")
            execute(words)
        line = what | {"core_seconds": round(_children() - cores, 1), "seconds": round(time.time() - start, 1)}
        if what["run"] == "evaluate":
            line["outcomes"] = plan.outcomes(what["source"], what["seed"], what["on"])
        elif what["run"] == "train":
            line["labels"] = plan.making.labels(what["source"])
        done.append(line)
        ledger.parent.mkdir(parents=True, exist_ok=True)
        with open(ledger, "a") as file:
            file.write(json.dumps(line) + "\n")


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Runs what is missing of a table, and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", nargs="?", choices=STUDIES, default="table1")
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--tasks", nargs="+", default=("libero_spatial",), help="a suite, or tasks")
    parser.add_argument("--others", nargs="+", default=(), help="tasks that are not trained on, to evaluate on as well")
    parser.add_argument("--sources", nargs="+", metavar="NAME", help=f"of the study, or some of {', '.join(SOURCES)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--data", nargs="+", default=(), metavar="NAME=DATASET", help="sources that nobody makes")
    parser.add_argument("--assets", type=Path, help="the benchmark's own assets; placeholder assets by default")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    parser.add_argument("--ledger", type=Path, help="results/paper/SCALE-TASKS.jsonl by default, of all studies")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--weights", help="of PaliGemma or pi0, at scale full")
    parser.add_argument("--tokenizer", help="paligemma_tokenizer.model, at scale full")
    parser.add_argument("--fleet", nargs=argparse.REMAINDER, default=(), help="further options of the fleets, last")
    parser.add_argument("--dry-run", action="store_true", help="print the commands")
    arguments = parser.parse_args()
    plan = plan_of(arguments)
    name = f"{arguments.scale}-{'-'.join(arguments.tasks).replace('/', '-')}.jsonl"
    ledger = arguments.ledger or RESULTS / name
    if arguments.dry_run:
        lines = [" ".join(("rlgen", *words)) for _, commands in steps_of(plan) for words in commands()]
        print("\n".join(dict.fromkeys(lines)))
        return

    def execute(words: Command) -> None:
        subprocess.run([sys.executable, "-m", "rlgen", *words], check=True)

    run_missing(plan, ledger, execute, lambda line: print(line, flush=True))
    lines = read_metrics(ledger)
    print(table(lines))
    if arguments.study == "dial":
        print(dial(lines))


def plan_of(arguments: argparse.Namespace) -> Plan:
    """Returns the plan that the command line asks for."""
    given = dict(word.split("=", 1) for word in arguments.data)
    chosen = tuple(arguments.sources or STUDIES[arguments.study])
    unknown = [name for name in chosen if name not in SOURCES and name not in given]
    if unknown:
        raise SystemExit(f"sources {' '.join(unknown)}: expected some of {', '.join(SOURCES)}, or --data NAME=DATASET")
    tasks, others = tuple(arguments.tasks), tuple(arguments.others)
    evaluations = {BENCHMARK: (tasks, "heldout")}
    evaluations |= {"wide": (tasks, "wide")} if arguments.study == "table2" else {}
    evaluations |= {"others": (others, "heldout")} if others else {}
    weights = {"--weights": arguments.weights, "--tokenizer": arguments.tokenizer}
    scale = SCALES[arguments.scale]
    scale = replace(scale, train=(*scale.train, *(word for pair in weights.items() if pair[1] for word in pair)))
    assets = ("--placeholders",) if arguments.assets is None else ("--assets", str(arguments.assets))
    size = (arguments.runs / arguments.scale, scale.image_size, scale.episodes)
    making = Making(tasks, *size, assets, arguments.workers, given, tuple(arguments.fleet))
    sources = (*chosen, *(name for name in given if name not in chosen))
    return Plan(scale, sources, tuple(arguments.seeds), making, evaluations)


if __name__ == "__main__":
    main()
