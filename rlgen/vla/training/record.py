"""The folder of a fine-tuning: its record, what may differ when it is resumed, and when its folder may be cleared.

fine_tune.json    settings, `data_hashes` of the datasets, and `cosine_steps` where it went on for more steps
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from rlgen.configs.differences import differences
from rlgen.core.errors import UserError
from rlgen.core.files import write_json
from rlgen.core.ownership import OutputKind, check_replaceable, clear_output, has_keys, is_vacant, read_record
from rlgen.data.frames import FrameTable
from rlgen.training.processes import is_first, wait_for_all
from rlgen.vla.checkpoints.model_folder import DESCRIPTION, STATS
from rlgen.vla.data.spec import HASHED_WORDS
from rlgen.vla.model.config import Cameras
from rlgen.vla.model.presets import preset
from rlgen.vla.training.config import FineTune, TrainConfig, resolved

RECORD = "fine_tune.json"
HASHES, COSINE_STEPS, CAMERAS = "data_hashes", "cosine_steps", "cameras"
ROBOT_CAMERAS: Cameras = 2
_IMAGE_FILES = ("*.tfrecord*", "*.array_record*", "*.parquet", "*.hdf5", "*.h5")


def is_record(value: Any) -> bool:
    """Returns whether the value of a `fine_tune.json` is a record of this program."""
    return has_keys(value, "data", "model", "train") and has_keys(value["train"], "steps", "batch", "seed")


FINE_TUNING = OutputKind(
    "a fine-tuning", "--out", RECORD, is_record, ("checkpoints/*", "metrics.jsonl", STATS, "model/*")
)


def data_hash(folder: Path, table: FrameTable) -> str:
    """Returns a hash of a dataset wherever it lies: of its numbers and prompts, and of the sizes of its image files.

    Args:
      folder: of the dataset, or its only file.
      table: the numbers of all its frames.
    """
    total = hashlib.sha256()
    for array in (table.state, table.action, table.episode, table.prompt):
        total.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    inside = {path for pattern in _IMAGE_FILES for path in folder.rglob(pattern) if path.is_file()}
    files = {folder} if folder.is_file() else inside
    sizes = sorted((path.relative_to(folder).as_posix(), path.stat().st_size) for path in files)
    total.update(repr((table.prompts, sizes)).encode())
    return total.hexdigest()


def resolve_cameras(config: FineTune) -> FineTune:
    """Returns the settings with a number of cameras where none is given: that of the run in `out`, or the robot's.

    Runs that were begun before this was a setting have all cameras of their model.
    """
    before = None if config.overwrite else read_record(Path(config.out) / RECORD)
    if config.cameras is not None or not is_record(before):
        return replace(config, cameras=config.cameras or ROBOT_CAMERAS)
    stored = before.get(CAMERAS)
    return replace(config, cameras=stored if stored in get_args(Cameras) else len(preset(config.model).cameras))


@dataclass(frozen=True)
class OutPlan:
    """The record and the settings with which the folder of a fine-tuning is opened.

    Attributes:
      record: to store there.
      train: how to train: as the configuration says, but a cosine that ended with an earlier number of steps is not
        stretched.
      lines: for the user: what is resumed, and with which changes.
    """

    record: dict[str, Any]
    train: TrainConfig
    lines: tuple[str, ...]


def open_out(config: FineTune, hashes: Sequence[str], log: Callable[[str], None]) -> TrainConfig:
    """Opens the folder of a fine-tuning, new or to be resumed, and stores its record.

    Args:
      config: of the fine-tuning.
      hashes: `data_hash` of each dataset.
      log: called with a line about what is resumed and with which changes.

    Returns:
      How to train, as of `OutPlan`.

    Raises:
      UserError: the folder holds a fine-tuning with other settings or data, or something else.
    """
    out = Path(config.out)
    if config.overwrite:
        check_replaceable(out, FINE_TUNING, inputs=_inputs(config))
        wait_for_all("checked")
        if is_first():
            clear_output(out, FINE_TUNING, inputs=_inputs(config))
    wait_for_all("cleared")
    plan = plan_out(config, hashes)
    wait_for_all("looked")
    for line in plan.lines:
        log(line)
    if is_first():
        write_json(out / RECORD, plan.record)
    return plan.train


def plan_out(config: FineTune, hashes: Sequence[str]) -> OutPlan:
    """Plans what `open_out` does, which raises the same, and writes nothing."""
    out = Path(config.out)
    if config.overwrite:
        check_replaceable(out, FINE_TUNING, inputs=_inputs(config))
    record = {**resolved(config), HASHES: list(hashes)}
    if config.overwrite or is_vacant(out):
        return OutPlan(record, config.train, ())
    before = read_record(out / RECORD)
    if before is None and (out / RECORD).is_file():
        raise UserError(f"{out / RECORD} is damaged; move {out} away or choose another --out")
    if not is_record(before):
        raise UserError(f"{out} is there and is not a fine-tuning; choose another --out")
    kept, lines = _resumed(config, before, hashes)
    record |= {} if kept is None else {COSINE_STEPS: kept}
    train = replace(config.train, decay_steps=config.train.decay_steps or kept)
    return OutPlan(record, train, (f"resuming {out}", *lines))


def _inputs(config: FineTune) -> tuple[str | None, ...]:
    """Returns the paths that a fine-tuning reads."""
    tokenizer = None if config.tokenizer == HASHED_WORDS else config.tokenizer
    return (*config.data, config.weights, config.norm_stats, tokenizer)


def _resumed(config: FineTune, before: dict[str, Any], hashes: Sequence[str]) -> tuple[int | None, list[str]]:
    """Compares a fine-tuning with its record.

    Returns:
      The `cosine_steps` that it keeps, None where it has none, and lines about what has changed.
    """
    now, out, lines = resolved(config), config.out, list[str]()
    stored = {key: value for key, value in before.items() if key not in (HASHES, COSINE_STEPS)}
    stored["out"] = now["out"]  # wherever the folder is by now
    stored.setdefault(CAMERAS, now[CAMERAS])  # of before it was a setting, see `resolve_cameras`
    stored.setdefault("action_size", None)  # likewise
    known = before.get(HASHES)
    known = known if isinstance(known, list) else None
    same_data = known is not None and known == list(hashes[: len(known)])
    added = list(config.data[len(known) :]) if known is not None and same_data else []
    if known is not None and not same_data and set(known) <= set(hashes):
        raise _other_order(config, known, hashes)
    if same_data:
        stored["data"] = now["data"]
        if added and list(before.get("mix", ())) == list(config.mix[: len(known or ())]):
            stored["mix"] = now["mix"]
    steps = before["train"]["steps"]
    goes_on = isinstance(steps, int) and steps < config.train.steps
    if goes_on:
        stored["train"] = {**before["train"], "steps": config.train.steps}
    changed = differences(stored, now)
    if changed:
        raise UserError(
            f"{out} holds a run with other settings: {', '.join(changed)}; "
            "use those, pass --overwrite to start anew, or choose another --out"
        )
    if known is not None and not same_data:
        different = [name for name, a, b in zip(config.data, known, hashes, strict=False) if a != b]
        raise UserError(
            f"{', '.join(different)}: not the data that {out} was trained on so far; put that back, pass --overwrite "
            "to start anew, or choose another --out"
        )
    if added and not goes_on and (Path(out) / "model" / str(steps) / DESCRIPTION).is_file():
        raise UserError(
            f"{out} is finished at {steps} steps; to go on with {', '.join(added)} as well, pass more --train.steps"
        )
    if same_data and not added and before["data"] != list(now["data"]):
        lines.append(f"its data has moved: {', '.join(before['data'])} -> {', '.join(config.data)}")
    if added:
        lines.append(
            f"going on with more data: {', '.join(added)}; statistics stay those that it began with, and losses of "
            "validation cannot be compared with those before"
        )
    kept = before.get(COSINE_STEPS)
    kept = kept if isinstance(kept, int) else None
    if goes_on:
        if config.train.schedule == "cosine" and config.train.decay_steps is None:
            kept = kept or steps
        lines.append(f"going on from {steps} to {config.train.steps} steps; {_rate_from_there(config.train, kept)}")
    return kept, lines


def _other_order(config: FineTune, known: Sequence[str], hashes: Sequence[str]) -> UserError:
    """Returns the error for the datasets of before in another order, on which the order of frames depends."""
    names = dict(zip(hashes, config.data, strict=True))
    order = [names[each] for each in known] + [name for each, name in names.items() if each not in known]
    return UserError(f"the data of {config.out} in another order; pass --data {' '.join(order)}")


def _rate_from_there(train: TrainConfig, cosine_steps: int | None) -> str:
    """Returns what the learning rate is in the steps that are added."""
    if cosine_steps is None:
        return f"the schedule, {train.schedule}, does not depend on their number"
    return (
        f"the cosine was laid out for {cosine_steps}, and from there on the learning rate stays at --train.end-rate "
        f"{train.end_rate:g}; --overwrite trains anew with a longer one"
    )
