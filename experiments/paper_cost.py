"""The costs of the paper's tables at each scale: memory of a training, and its hours; `tables.py` shows it.

Command:  uv run python experiments/paper_cost.py
Cost:     seconds; nothing is trained.
Expected: π0 fits one GPU of 80 GiB, and a table takes days of one.

Memory is the plan of the trainer: exact for parameters and optimizer, an estimate for activations. Hours on a GPU are
operations, counted from the model, at the fraction of the published peak that `rlgen bench device` measured for π0. The
model `small`, whose steps are seconds of a GPU's operations in all, waits there for its data and for the host, which
has not been measured. Hours on a CPU, and core-hours of an evaluation, whose physics and images are the same at each
scale, are those of the ledger.
"""

import json
from dataclasses import replace

import numpy as np
from paper import RESULTS, SCALES, Scale
from paper_sources import STUDIES

from rlgen.cli.common import given, parse
from rlgen.core.text import number
from rlgen.training.metrics import read_metrics
from rlgen.vla.training.config import FineTune, recipe
from rlgen.vla.training.fine_tune import model_config
from rlgen.vla.training.memory_plan import GIB, memory_plan, step_flops
from rlgen.vla.training.record import resolve_cameras

DEVICE = RESULTS.parent / "device" / "device.json"
SHOWN = ("small", "gpu", "full")
SEEDS = 3
NOT_MEASURED = "not measured"
SHARED = 8  # devices among which parameters are cut, in the second plan
HEAD = (
    "scale | model, images | steps of frames | GiB a device | GiB, parameters cut among 8 | a training, hours"
    " | trainings | all of them, hours"
)


def fine_tuning(scale: Scale) -> FineTune:
    """Returns the settings of a scale's trainings."""
    words = [*scale.train, "--train.steps", str(scale.steps)]
    model = given(words, "--model") or FineTune.model
    default = replace(FineTune(model=model), train=recipe(model))
    return resolve_cameras(parse(FineTune, words, "rlgen vla train", "", default))


def cost_table(study: str = "table1") -> str:
    """Returns a row for each scale, and a line about the evaluations.

    Args:
      study: whose trainings are counted.
    """
    step = json.loads(DEVICE.read_text())["parts"]["train-pi0"]
    device, rate = step["device"], step["figures"]["step"]["mfu"] * step["figures"]["step"]["peak_flops"]
    count = len(STUDIES[study]) * SEEDS
    rows = [f"| {HEAD} |", f"| {' | '.join(['---'] * (HEAD.count('|') + 1))} |"]
    for name in SHOWN:
        scale = SCALES[name]
        config = fine_tuning(scale)
        model, train = model_config(config), config.train
        plans = [memory_plan(model, train), memory_plan(model, train, devices=SHARED, fsdp=SHARED)]
        hours = _hours(name, scale.steps * step_flops(model, train) / rate)
        where = "of a core" if name == "small" else f"of one {device}"
        cells = [
            f"`{name}`",
            f"{config.model}, {len(model.cameras)} of {scale.image_size}²",
            f"{scale.steps} of {train.batch}",
            *(number(plan.total / GIB) for plan in plans),
            NOT_MEASURED if hours is None else f"{number(hours)} {where}",
            str(count),
            NOT_MEASURED if hours is None else number(hours * count),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    evaluation = _measured("evaluate")
    rows += [
        "",
        f"Core-hours of an evaluation of ten tasks: {NOT_MEASURED if evaluation is None else number(evaluation)}.",
    ]
    return "\n".join(rows)


def _hours(name: str, seconds: float) -> float | None:
    """Returns the hours of a training at a scale, of which the operations take some seconds of a GPU."""
    return {"small": _measured("train"), "full": seconds / 3600}.get(name)


def _measured(run: str) -> float | None:
    """Returns the mean core-hours of the small scale's trainings or evaluations; None where the ledger has none."""
    ledger = RESULTS / "small-libero_spatial.jsonl"
    lines = read_metrics(ledger) if ledger.exists() else []
    seconds = [line["core_seconds"] for line in lines if line["run"] == run]
    return float(np.mean(seconds)) / 3600 if seconds else None


if __name__ == "__main__":
    print(cost_table())
