"""A small flow VLA trained on exported datasets of several tasks: its held-out loss and its success.

Command:  uv run python experiments/vla_closed_loop.py --tasks libero_object/6 libero_90/47 --steps 6000 --assets DIR
          --data rl=DIR/libero_object_no_noops/1.0.0,DIR/libero_90_no_noops/1.0.0 --data demos=DIR,DIR
          --json experiments/results/vla/closed_loop.json
Cost:     a quarter of an hour for each source on two cores.
Expected: the held-out loss falls; success is reported with its interval.

A model is trained on each source by `rlgen vla train` and evaluated on the stored initial states, which no export
starts from. An interrupted run resumes with the same command.
"""

import argparse
import json
import os
import time
from collections import Counter
from pathlib import Path

from rlgen.cli.main import main as rlgen
from rlgen.core.files import read_json, write_json
from rlgen.data.card import CARD_JSON, read_card
from rlgen.data.dataset import open_dataset
from rlgen.training.metrics import read_metrics


def run(name: str, folders: list[str], arguments: argparse.Namespace) -> dict:
    """Trains and evaluates a model on one source.

    Args:
      name: of the source.
      folders: of its datasets.
      arguments: of the command line.
    """
    out, begun = arguments.out / name, time.monotonic()
    steps = arguments.steps
    train = ["vla", "train", "--data", *folders, "--out", str(out / "train"), "--model", arguments.model]
    train += ["--train.steps", str(steps), "--train.batch", str(arguments.batch), "--hold-out", "0.1"]
    train += ["--image-size", str(arguments.image_size), "--log-every", "20", "--checkpoint-every", str(steps // 10)]
    train += ["--actions", arguments.actions] if arguments.actions else []
    rlgen([*train, "--validate-every", str(steps // 10), "--workers", str(arguments.threads)])
    model = out / "train" / "model" / str(steps)
    assets = ["--assets", str(arguments.assets)] if arguments.assets else ["--placeholders"]
    evaluate = ["eval", *arguments.tasks, "--policy", str(model), "--out", str(out / "evaluation")]
    evaluate += ["--episodes", str(arguments.trials), "--image-size", str(arguments.image_size), "--replan", "8"]
    # As in the committed results.
    rlgen([*evaluate, *assets, "--workers", str(arguments.threads), "--fixtures", "fixed"])
    report = read_json(out / "evaluation" / "report.json")
    lines = read_metrics(out / "train" / "metrics.jsonl")
    return {
        "data": {"/".join(Path(folder).parts[-3:]): _tasks(Path(folder)) for folder in folders},
        "validation_loss": {line["step"]: line["validation_loss"] for line in lines if "validation_loss" in line},
        "success": {"all": report["all"], **report["tasks"]},
        "protocol": report["protocol"],
        "minutes_of_this_call": (time.monotonic() - begun) / 60,
    }


def _tasks(folder: Path) -> dict[str, object]:
    """Returns the tasks of a dataset by its card, or, of one that others wrote, its episodes by their prompts."""
    if (folder / CARD_JSON).is_file():
        return read_card(folder)["tasks"]
    return dict(Counter(episode.language_instruction for episode in open_dataset(folder)))


def main() -> None:
    """Trains on every source and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", required=True)
    parser.add_argument("--data", action="append", required=True, metavar="NAME=FOLDER[,FOLDER]")
    parser.add_argument("--model", choices=["tiny", "small"], default="tiny")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--actions", help="what the actions are of datasets that do not say it: relative or absolute")
    parser.add_argument("--assets", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/vla_closed_loop"))
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    sources = dict(source.split("=", 1) for source in arguments.data)
    results = {name: run(name, folders.split(","), arguments) for name, folders in sources.items()}
    settings = {key: getattr(arguments, key) for key in ("model", "steps", "batch", "image_size", "tasks")}
    write_json(arguments.json, {"settings": settings, "sources": results})
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
