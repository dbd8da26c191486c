"""Fine-tuning as a command: from a `FineTune` to the arguments of `rlgen.vla.training.train.train_model`.

Everything that contradicts itself or the data is refused before the folder of the run is touched.
"""

import dataclasses
from contextlib import nullcontext
from pathlib import Path

from rlgen.core.errors import UserError
from rlgen.core.ownership import only_writer
from rlgen.data.frames import CAMERAS, open_frames
from rlgen.data.loader import Mixture, hold_out
from rlgen.training.processes import connect, is_first
from rlgen.training.sharding import make_mesh
from rlgen.vla.checkpoints.model_folder import read_stats
from rlgen.vla.data.spec import (
    HASHED_WORDS,
    InputSpec,
    check_dataset,
    default_normalization,
    read_action_semantics,
)
from rlgen.vla.data.training_statistics import training_statistics
from rlgen.vla.model import presets
from rlgen.vla.model.config import VlaConfig
from rlgen.vla.training.config import FineTune
from rlgen.vla.training.memory_plan import GIB, advice, device_bytes, memory_plan
from rlgen.vla.training.record import data_hash, open_out, resolve_cameras
from rlgen.vla.training.train import Log, LoopOptions, train_model

# The share of a device's memory that an estimate may fill.
ROOM = 0.85


def fine_tune(config: FineTune, log: Log = print) -> Path | None:
    """Runs or resumes a fine-tuning.

    Args:
      config: of the run.
      log: called with each line of output.

    Returns:
      The folder of the finished model; None of a dry run.

    Raises:
      UserError: settings that contradict each other, the data or what is in `out`.
    """
    connect(config)
    config = resolve_cameras(config)
    model, spec = model_config(config), input_spec(config)
    mesh = make_mesh(config.fsdp)
    log_memory_plan(config, model, mesh.size, log)
    kept, held_out, hashes = read_data(config, model, spec)
    given = None if config.norm_stats is None else read_stats(Path(config.norm_stats))
    stats, notes = training_statistics(model, spec, kept, held_out, given)
    for note in [*missing_cameras(config, kept), *notes]:
        log(note)
    if config.dry_run:
        return None
    out = Path(config.out)
    with only_writer(out) if is_first() else nullcontext():
        train = open_out(config, hashes, log)
        counts = f"{len(kept)} steps to train on, {len(held_out) if held_out else 0} held out"
        log(f"{counts}; {mesh.size} devices, fsdp {config.fsdp}")
        return train_model(
            out,
            model,
            spec,
            train,
            kept,
            stats,
            held_out=held_out,
            weights=None if config.weights is None else Path(config.weights),
            mesh=mesh,
            workers=config.workers,
            options=LoopOptions(
                log_every=config.log_every,
                checkpoint_every=config.checkpoint_every,
                keep=config.keep,
                validate_every=config.validate_every,
                validate_frames=config.validate_frames,
            ),
            log=log,
        )


def model_config(config: FineTune) -> VlaConfig:
    """Returns the model of a run: its preset, with the changes of the command line."""
    base = presets.with_cameras(presets.preset(config.model), config.cameras)
    names = ("image_size", "horizon", "dtype")
    changes = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    large = config.model not in presets.SMALL
    try:
        return dataclasses.replace(base, remat=large if config.remat is None else config.remat, **changes)
    except ValueError as error:
        raise UserError(f"{config.model}: {error}") from error


def input_spec(config: FineTune) -> InputSpec:
    """Returns the transforms of a run."""
    kind = config.normalization or default_normalization(config.model)
    if config.weights is not None and config.tokenizer == HASHED_WORDS and config.model not in presets.SMALL:
        raise UserError("--weights of a published model need its --tokenizer (paligemma_tokenizer.model)")
    actions = config.actions or (read_action_semantics(Path(config.data[0])) if config.data else None) or "relative"
    return InputSpec(kind, actions, config.delta or config.double_delta, config.tokenizer)


def log_memory_plan(config: FineTune, model: VlaConfig, devices: int, log: Log) -> None:
    """Logs the memory that a run needs, and before anything is compiled what helps if it does not fit.

    Args:
      config: of the run.
      model: its model.
      devices: their number.
      log: called with each line.
    """
    plan = memory_plan(model, config.train, devices=devices, fsdp=config.fsdp)
    log(str(plan))
    limit = device_bytes()
    if limit is not None and plan.total > limit:
        log(f"a device has {limit / GIB:.1f} GiB: this will probably not fit. Single changes that help:")
        for line in advice(model, config.train, limit, devices=devices, fsdp=config.fsdp):
            log(f"  {line}")
    if limit is not None and model.remat is True:
        larger = dataclasses.replace(model, remat="products")
        total = memory_plan(larger, config.train, devices=devices, fsdp=config.fsdp).total
        if total < ROOM * limit:
            log(f"--remat products would take {total / GIB:.1f} of {limit / GIB:.1f} GiB and compute a fifth less")


def missing_cameras(config: FineTune, data: Mixture) -> list[str]:
    """Returns a line for each dataset that lacks a camera of the robot."""
    absent = [
        (set(CAMERAS) - set(subset.frames.cameras), name)
        for subset, name in zip(data.subsets, config.data, strict=True)
    ]
    return [
        f"{name}: no {', '.join(sorted(cameras))}; the model is trained without, and will have it when it acts"
        for cameras, name in absent
        if cameras
    ]


def read_data(config: FineTune, model: VlaConfig, spec: InputSpec) -> tuple[Mixture, Mixture | None, list[str]]:
    """Opens the datasets of a run.

    Args:
      config: of the run.
      model: its model.
      spec: its transforms.

    Returns:
      The data to train on; the data to validate on, None where there is none; and the hash of each dataset.
    """
    if not config.data:
        raise UserError("--data is missing; name the folders of one or more exported datasets")
    kept, held_out, hashes = [], [], []
    for index, name in enumerate(config.data):
        semantics = config.actions or read_action_semantics(Path(name))
        check_dataset(spec, semantics, name, double_delta=config.double_delta)
        frames = open_frames(Path(name), size=model.image_size, split=config.split)
        hashes.append(data_hash(Path(name), frames.table))
        subset, apart = hold_out(frames, config.hold_out, config.train.seed + index)
        kept.append(dataclasses.replace(subset, weight=float(config.mix[index])) if config.mix else subset)
        held_out += [] if apart is None else [apart]
    return Mixture(tuple(kept)), Mixture(tuple(held_out)) if held_out else None, hashes
