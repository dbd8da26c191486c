"""Table I of the paper: VLAs that differ in the source of their data alone, each trained from three seeds.

Command:  uv run python experiments/paper.py --assets DIR [--scale small|gpu|full] [--suite libero_spatial]
          [--sources scripted clone gaussian diffusion] [--seeds 0 1 2] [--data NAME=DATASET] [--dry-run]
Cost:     at scale `small` and for each source a fleet of ten tasks (hours on two cores), and for each seed an hour of
          training and one of evaluation; `--dry-run` prints every command. What the ledger has is not run again.
Expected: success of each source with its interval, and differences between sources, paired by initial states.

The sources: the scripted expert's human-like demonstrations, clones without PPO, experts by Gaussian and by diffusion
PPO, all by `rlgen fleet`; people's demonstrations by `--data human=FOLDER`, a dataset that `rlgen data export` made.
Settings are the same for all of them. Images of training and evaluation are of the same renderer.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from rlgen.core.errors import UserError
from rlgen.core.files import read_json
from rlgen.training.metrics import read_metrics

RESULTS = Path(__file__).resolve().parent / "results" / "paper"
SOURCES = ("scripted", "clone", "gaussian", "diffusion")
RESAMPLES = 2000
Command = list[str]


@dataclass(frozen=True)
class Scale:
    """The size of everything.

    Attributes:
      train: options of `rlgen vla train`.
      steps: optimizer steps.
      image_size: of training data and evaluation, pixels.
      trials: stored initial states of each task.
    """

    train: tuple[str, ...]
    steps: int
    image_size: int
    trials: int = 50


SCALES = {
    "tiny": Scale(("--model", "tiny", "--train.batch", "4", "--image-size", "64", "--train.warmup", "1"), 4, 64, 1),
    "small": Scale(("--model", "small", "--train.batch", "32", "--train.peak-rate", "1e-3"), 8000, 128),
    "gpu": Scale(("--model", "small", "--train.batch", "128", "--train.peak-rate", "1e-3"), 20000, 128),
    "full": Scale(("--model", "pi0"), 30000, 224),
}


@dataclass(frozen=True)
class Plan:
    """The runs of a table.

    Attributes:
      scale: of everything.
      suite: whose tasks are trained on and evaluated.
      sources: names of the sources.
      seeds: of the trainings.
      data: datasets of sources that no fleet makes.
      assets: options that choose the object assets.
      runs: folder of fleets, trainings and evaluations.
      workers: threads and jobs.
      fleet: further options of the fleets.
    """

    scale: Scale
    suite: str
    sources: tuple[str, ...]
    seeds: tuple[int, ...]
    data: dict[str, str]
    assets: tuple[str, ...]
    runs: Path
    workers: int
    fleet: tuple[str, ...] = ()

    def fleet_command(self, source: str) -> Command:
        """Returns the command of a source's fleet."""
        out = ["--out", str(self.runs / f"fleet-{source}"), "--source", source, "--jobs", str(self.workers)]
        return ["fleet", self.suite, *out, "--export.image-size", str(self.scale.image_size), *self.assets, *self.fleet]

    def train_command(self, source: str, seed: int) -> Command:
        """Returns the command of a training."""
        options = ["--train.steps", str(self.scale.steps), "--train.seed", str(seed), "--workers", str(self.workers)]
        out = ["--out", str(self._folder(source, seed) / "train"), "--data", *self._datasets(source)]
        return ["vla", "train", *out, *self.scale.train, *options]

    def evaluate_command(self, source: str, seed: int) -> Command:
        """Returns the command of an evaluation."""
        folder, scale = self._folder(source, seed), self.scale
        options = ["--episodes", str(scale.trials), "--image-size", str(scale.image_size), "--seed", str(seed)]
        paths = ["--policy", str(folder / "train"), "--out", str(folder / "evaluation")]
        return ["eval", self.suite, *paths, *options, *self.assets, "--workers", str(self.workers)]

    def outcomes(self, source: str, seed: int) -> dict[str, str]:
        """Returns of each task a 1 or a 0 for every trial, in the order of the initial states."""
        found: dict[str, list] = {}
        for line in read_metrics(self._folder(source, seed) / "evaluation" / "episodes.jsonl"):
            found.setdefault(line["task"], []).append((line["trial"], line["success"]))
        return {task: "".join(str(int(success)) for _, success in sorted(rows)) for task, rows in sorted(found.items())}

    def _folder(self, source: str, seed: int) -> Path:
        return self.runs / f"{source}-{seed}"

    def _datasets(self, source: str) -> list[str]:
        if source in self.data:
            return [self.data[source]]
        folder = self.runs / f"fleet-{source}" / "datasets"
        names = read_json(folder / "made.json")["datasets"] if (folder / "made.json").is_file() else ["DATASET"]
        return [str(folder / name) for name in names]


def steps_of(plan: Plan) -> Iterator[tuple[dict[str, Any], Callable[[], Command]]]:
    """Yields what each run is, as the ledger has it, and its command, which may need what the runs before it made."""
    for source in plan.sources:
        if source not in plan.data:
            yield {"run": "fleet", "source": source}, lambda source=source: plan.fleet_command(source)
        for seed in plan.seeds:
            what = {"source": source, "seed": seed}
            yield {"run": "train", **what}, lambda s=source, n=seed: plan.train_command(s, n)
            yield {"run": "evaluate", **what}, lambda s=source, n=seed: plan.evaluate_command(s, n)


def run_missing(plan: Plan, ledger: Path, execute: Callable[[Command], None], log: Callable[[str], None]) -> None:
    """Runs what the ledger lacks, and adds a line for each run that has ended.

    Args:
      plan: of the table.
      ledger: JSON lines.
      execute: runs a command of rlgen, and raises where it fails.
      log: called with a line for each run.
    """
    done = read_metrics(ledger) if ledger.exists() else []
    for what, command in steps_of(plan):
        if any(what.items() <= line.items() for line in done):
            continue
        words, start = command(), time.time()
        log(f"rlgen {' '.join(words)}")
        cores = _children()
        execute(words)
        line = what | {"core_seconds": round(_children() - cores, 1), "seconds": round(time.time() - start, 1)}
        if what["run"] == "evaluate":
            line["outcomes"] = plan.outcomes(what["source"], what["seed"])
        ledger.parent.mkdir(parents=True, exist_ok=True)
        with open(ledger, "a") as file:
            file.write(json.dumps(line) + "\n")


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def outcomes_of(lines: Sequence[dict[str, Any]], source: str) -> Bool[np.ndarray, "S E"] | None:
    """Returns the outcomes of a source's evaluations: a row for each seed, a column for each task and initial state."""
    rows = {line["seed"]: line["outcomes"] for line in lines if line["run"] == "evaluate" and line["source"] == source}
    if not rows:
        return None
    texts = ["".join(rows[seed][task] for task in sorted(rows[seed])) for seed in sorted(rows)]
    if len({len(text) for text in texts}) > 1:
        raise UserError(f"evaluations of {source} have different numbers of trials; give them a ledger each")
    return np.array([[mark == "1" for mark in text] for text in texts])


def interval(differences: Float[np.ndarray, "S E"], *, seed: int = 0) -> tuple[float, float, float]:
    """Returns the mean over seeds and trials with its 95 % interval, from resampled seeds and resampled trials.

    Args:
      differences: of outcomes, or outcomes themselves: a row for each seed.
      seed: of the resampling.
    """
    values, random = np.asarray(differences, float), np.random.default_rng(seed)
    seeds, trials = values.shape
    means = [
        values[random.integers(seeds, size=seeds)][:, random.integers(trials, size=trials)].mean()
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def table(lines: Sequence[dict[str, Any]], against: str = "scripted") -> str:
    """Returns the table of a ledger: success of each source, and its difference to another source, paired.

    Args:
      lines: of the ledger.
      against: the source that others are compared with.
    """
    head = f"| data | seeds | trials | success, % | difference to {against}, points | core-hours |\n"
    rows, reference = [head + "|" + " --- |" * 6], outcomes_of(lines, against)
    for source in dict.fromkeys(line["source"] for line in lines):
        outcomes = outcomes_of(lines, source)
        if outcomes is None:
            continue
        comparable = reference is not None and source != against and reference.shape == outcomes.shape
        difference = _percent(interval(outcomes.astype(float) - reference)) if comparable else ""
        hours = sum(line["core_seconds"] for line in lines if line["source"] == source) / 3600
        cells = [
            source,
            str(len(outcomes)),
            str(outcomes.size),
            _percent(interval(outcomes)),
            difference,
            f"{hours:.1f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _percent(value: tuple[float, float, float]) -> str:
    mean, low, high = (100 * one for one in value)
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    """Runs what is missing of a table, and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--suite", default="libero_spatial", help="a suite, or a task")
    parser.add_argument("--sources", nargs="+", default=SOURCES)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--data", nargs="+", default=(), metavar="NAME=DATASET", help="sources that no fleet makes")
    parser.add_argument("--assets", type=Path, help="the benchmark's own assets; placeholder assets by default")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    parser.add_argument("--ledger", type=Path, help="results/paper/SCALE-SUITE.jsonl by default")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--weights", help="of PaliGemma or pi0, at scale full")
    parser.add_argument("--tokenizer", help="paligemma_tokenizer.model, at scale full")
    parser.add_argument("--fleet", nargs=argparse.REMAINDER, default=(), help="further options of the fleets, last")
    parser.add_argument("--dry-run", action="store_true", help="print the commands")
    arguments = parser.parse_args()
    data = dict(word.split("=", 1) for word in arguments.data)
    assets = ("--placeholders",) if arguments.assets is None else ("--assets", str(arguments.assets))
    sources = (*arguments.sources, *(name for name in data if name not in arguments.sources))
    places = (data, assets, arguments.runs / arguments.scale, arguments.workers, tuple(arguments.fleet))
    given = {"--weights": arguments.weights, "--tokenizer": arguments.tokenizer}
    scale = SCALES[arguments.scale]
    scale = replace(scale, train=(*scale.train, *(word for pair in given.items() if pair[1] for word in pair)))
    plan = Plan(scale, arguments.suite, sources, tuple(arguments.seeds), *places)
    name = f"{arguments.scale}-{arguments.suite.replace('/', '-')}.jsonl"
    ledger = arguments.ledger or RESULTS / name
    if arguments.dry_run:
        for _, command in steps_of(plan):
            print("rlgen", *command())
        return

    def execute(words: Command) -> None:
        subprocess.run([sys.executable, "-m", "rlgen", *words], check=True)

    run_missing(plan, ledger, execute, lambda line: print(line, flush=True))
    print(table(read_metrics(ledger)))


if __name__ == "__main__":
    main()
