"""Clones and experts of runs from all training placements: what a score of 50 trials cannot tell apart.

Command:  uv run python experiments/placements.py RUN... [--label TEXT] [--out FILE]
Cost:     half a minute of one core for a clone, and as much for an expert.
Expected: fewer misses with more demonstrations; what is left are placements in which settling throws objects apart.

Each of the 256 training reset states once, in `fast` physics, without noise, with fixtures drawn anew. The benchmark's
samplers put some objects into one another; what settling moves by more than 5 cm is counted by itself.
"""

import argparse
from pathlib import Path

import numpy as np

from rlgen.core.files import read_json, write_json
from rlgen.core.process import cache_folder
from rlgen.core.text import MISSING
from rlgen.evaluation.score import score_trials
from rlgen.libero.envs.reset_check import MAX_DRIFT, at_rest
from rlgen.libero.scenes.scene import Scene
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
        same = ("label", "task", "seed", "demonstrations", "correction_target", "objects")
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
    config, scene = context.run.config, context.scene
    apart = thrown_apart(scene, threads)
    row = {
        "task": f"{scene.task.suite}/{scene.task.index}",
        "seed": config.seed,
        "demonstrations": config.bc.episodes,
        "correction_target": config.bc.correction_target,
        "rounds": sum(path.is_dir() for path in (run / "bc" / "corrections").glob("*")),
        "objects": config.policy.objects,
        "thrown": int(apart.sum()),
        "others": int((~apart).sum()),
    }
    for name, stage in STAGES.items():
        if not context.run.done(stage.__name__.rpartition(".")[2]):
            continue
        policy, params = stage.load_policy(context)
        options = {"split": scene.training_split, "physics": "fast", "fixtures": "redraw", "threads": threads}
        actor, count = make_actor(context, policy, params), len(scene.training_states)
        missed = score_trials(scene, actor, count, seed=SEED, source=name, **options)[:, 0] == 0
        row[name] = {"thrown": int((missed & apart).sum()), "others": int((missed & ~apart).sum())}
    return row


def thrown_apart(scene: Scene, threads: int) -> np.ndarray:
    """Returns in which training reset states an object moves by more than 5 cm before it rests, seen from above.

    Args:
      scene: of the task.
      threads: that step the environments.
    """
    states, model = scene.training_states, scene.model
    rest = at_rest(scene, states, physics="fast", threads=threads)
    x = 1 + model.jnt_qposadr[model.body_jntadr[scene.object_bodies]]
    moved = (rest - states)[:, np.stack([x, x + 1], axis=-1)]
    return (np.linalg.norm(moved, axis=-1) > MAX_DRIFT).any(axis=1)


def placements_table() -> str:
    """Returns the misses of all runs, where settling throws objects apart and elsewhere."""
    head = "task | demonstrations | sees objects of | corrections until | takeover | rounds"
    head += "".join(f" | {name} misses, thrown apart | others" for name in STAGES)
    lines = [f"| {head} |", f"| {' | '.join(['---'] * (head.count('|') + 1))} |"]
    for row in sorted(read_json(RESULTS), key=_order):
        cells = [row["task"], str(row["demonstrations"]), {"all": "the scene", "goal": "the goal"}[row["objects"]]]
        cells += [f"{100 * row['correction_target']:.0f} %", row["label"], str(row["rounds"])]
        for name in STAGES:
            cells += [f"{row[name][part]} of {row[part]}" if name in row else MISSING for part in ("thrown", "others")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _order(row: dict) -> tuple:
    late = row["label"] != "starts over", row["correction_target"], row["objects"] == "all"
    return (row["task"], row["demonstrations"], *late)


if __name__ == "__main__":
    main()
