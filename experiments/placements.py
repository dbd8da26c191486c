"""Clones and experts of runs from all training placements: what a score of 50 trials cannot tell apart.

Command:  uv run python experiments/placements.py RUN... [--label TEXT] [--out FILE]
Cost:     half a minute of one core for a clone, and as much for an expert.
Expected: fewer misses with more demonstrations and more rounds of corrections.

Each of the 256 training reset states once, in `fast` physics, without noise, with fixtures drawn anew. Corrections of
cloning began from the first 150 of them; the others tell what a clone makes of placements that are new to it.
"""

import argparse
from pathlib import Path

import numpy as np

from rlgen.core.files import read_json, write_json
from rlgen.core.process import cache_folder
from rlgen.core.text import MISSING
from rlgen.evaluation.score import score_trials
from rlgen.pipeline import bc, ppo
from rlgen.pipeline.context import Context
from rlgen.pipeline.policy import make_actor
from rlgen.training.run import open_run

RESULTS = Path(__file__).resolve().parent / "results" / "fleet" / "placements.json"
STAGES = {"clone": bc, "expert": ppo}
SEED = 1


def main() -> None:
    """Adds a row for each run, and writes all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    parser.add_argument("--label", default="", help="what the runs differ in that their configuration does not say")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    for run in arguments.runs:
        rows = read_json(arguments.out) if arguments.out.is_file() else []
        row = {"label": arguments.label, **measure(run, arguments.threads)}
        same = ("label", "task", "seed", "demonstrations", "correction_target")
        rows = [other for other in rows if any(other[name] != row[name] for name in same)]
        write_json(arguments.out, [*rows, row])
        print(row, flush=True)


def measure(run: Path, threads: int) -> dict:
    """Returns a run's settings of cloning, and how many placements its policies miss.

    Args:
      run: its folder.
      threads: that step the environments.
    """
    context = Context(open_run(run), cache_folder())
    config, scene, split = context.run.config, context.scene, bc.CORRECTED
    row = {
        "task": f"{scene.task.suite}/{scene.task.index}",
        "seed": config.seed,
        "demonstrations": config.bc.episodes,
        "correction_target": config.bc.correction_target,
        "rounds": sum(path.is_dir() for path in (run / "bc" / "corrections").glob("*")),
        "placements": [split, len(scene.training_states) - split],
    }
    for name, stage in STAGES.items():
        if not context.run.done(stage.__name__.rpartition(".")[2]):
            continue
        policy, params = stage.load_policy(context)
        options = {"split": scene.training_split, "physics": "fast", "fixtures": "redraw", "threads": threads}
        actor, count = make_actor(context, policy, params), len(scene.training_states)
        missed = score_trials(scene, actor, count, seed=SEED, source=name, **options)[:, 0] == 0
        row[name] = [int(part.sum()) for part in np.split(missed, [split])]
    return row


def placements_table() -> str:
    """Returns the misses of all runs, of placements that corrections began from and of new ones."""
    head = "task | demonstrations | corrections until | takeover | rounds | clone misses | new | expert misses | new"
    lines = [f"| {head} |", f"| {' | '.join(['---'] * (head.count('|') + 1))} |"]
    for row in sorted(
        read_json(RESULTS),
        key=lambda row: (row["task"], row["demonstrations"], row["label"] != "starts over", row["correction_target"]),
    ):
        known, new = row["placements"]
        misses = [
            cell
            for name in STAGES
            for cell in (
                [f"{row[name][0]} of {known}", f"{row[name][1]} of {new}"] if name in row else [MISSING, MISSING]
            )
        ]
        target = f"{100 * row['correction_target']:.0f} %"
        cells = [row["task"], str(row["demonstrations"]), target, row["label"], str(row["rounds"]), *misses]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
