"""Fine-tuning as a command: from a `FineTune` to the arguments of `rlgen.vla.training.train.train_model`.

Everything that contradicts itself or the data is refused before the folder of the run is touched.
"""

import dataclasses
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rlgen.core.errors import UserError
from rlgen.core.ownership import only_writer
from rlgen.data.frames import open_frames
from rlgen.data.loader import Mixture, hold_out
from rlgen.training.processes import connect, is_first
from rlgen.training.sharding import make_mesh
from rlgen.vla.checkpoints.model_folder import STATS, read_stats
from rlgen.vla.checkpoints.weights import check_weights
from rlgen.vla.data.normalize import NormStats
from rlgen.vla.data.spec import (
    HASHED_WORDS,
    InputSpec,
    check_dataset,
    check_robot,
    common_robot,
    default_normalization,
    make_pipeline,
    read_action_semantics,
)
from rlgen.vla.data.training_statistics import training_statistics
from rlgen.vla.model import presets
from rlgen.vla.model.config import VlaConfig
from rlgen.vla.training.checks import check_inputs, check_statistics
from rlgen.vla.training.config import FineTune
from rlgen.vla.training.loop import Trainer
from rlgen.vla.training.memory_plan import GIB, advice, device_bytes, memory_plan
from rlgen.vla.training.preview import (
    check_sheet,
    describe_dataset,
    describe_normalization,
    describe_prompts,
    describe_shapes,
    write_sheet,
)
from rlgen.vla.training.record import data_hash, open_out, plan_out, resolve_cameras
from rlgen.vla.training.train import Log, LoopOptions, describe_inputs, train_model

# The share of a device's memory that an estimate may fill.
ROOM = 0.85


@dataclass(frozen=True)
class Prepared:
    """A fine-tuning whose settings, data and weights fit together.

    Attributes:
      trainer: model, settings, data and devices.
      spec: the model's transforms.
      stats: to normalize with.
      held_out: the data to validate on; None where there is none.
      hashes: of the datasets.
    """

    trainer: Trainer
    spec: InputSpec
    stats: NormStats
    held_out: Mixture | None
    hashes: list[str]


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
    prepared = prepare(config, log)
    trainer, held_out = prepared.trainer, prepared.held_out
    if config.dry_run:
        show(config, prepared, log)
        return None
    out, mesh = Path(config.out), trainer.mesh
    assert mesh is not None
    with only_writer(out) if is_first() else nullcontext():
        train = open_out(config, prepared.hashes, log)
        counts = f"{len(trainer.mixture)} steps to train on, {len(held_out) if held_out else 0} held out"
        log(f"{counts}; {mesh.size} devices, fsdp {config.fsdp}")
        return train_model(
            out,
            trainer.config,
            prepared.spec,
            train,
            trainer.mixture,
            prepared.stats,
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
                keep_best=config.keep_best,
            ),
            log=log,
        )


def prepare(config: FineTune, log: Log) -> Prepared:
    """Checks all that a fine-tuning needs before its folder is touched; a dry run and a training begin with it.

    Args:
      config: of the run, with its cameras resolved.
      log: called with lines on memory and data.

    Raises:
      UserError: as of `fine_tune`.
    """
    model, spec = model_config(config), input_spec(config)
    mesh = make_mesh(config.fsdp)
    kept, held_out, hashes = read_data(config, model, spec)
    robots = [subset.frames.robot for subset in kept.subsets]
    spec = dataclasses.replace(spec, robot=common_robot(dict(zip(config.data, robots, strict=True))))
    check_robot(model, spec, f"{config.data[0]}: ")
    for note in check_inputs(spec, config.data, kept, mask_cameras=config.mask_cameras):
        log(note)
    stats, notes = statistics_of(config, model, spec, kept, held_out)
    for note in notes:
        log(note)
    plan_out(config, hashes)
    if config.weights is not None:
        check_weights(model, Path(config.weights))
    log_memory_plan(config, model, mesh.size, log)
    trainer = Trainer(model, config.train, make_pipeline(model, spec, stats), kept, mesh, config.workers)
    return Prepared(trainer, spec, stats, held_out, hashes)


def statistics_of(
    config: FineTune, model: VlaConfig, spec: InputSpec, kept: Mixture, held_out: Mixture | None
) -> tuple[NormStats, list[str]]:
    """Returns the statistics of a run, and notes on the data.

    Those of a run that goes on are what it began with, so that more data must be like the data before.

    Args:
      config: of the run.
      model: its model.
      spec: its transforms.
      kept: the data to train on.
      held_out: the data to validate on.

    Raises:
      UserError: they are of other data.
    """
    options = {"horizon": model.horizon, "delta": spec.delta}
    given = None if config.norm_stats is None else read_stats(Path(config.norm_stats), spec.robot)
    if given is not None:
        advice = "leave out --norm-stats to compute them, or pass the data's own"
        check_statistics(given, kept, **options, where=str(config.norm_stats), advice=advice)
    stats, notes = training_statistics(model, spec, kept, held_out, given)
    first = Path(config.out) / STATS
    if config.overwrite or not first.is_file():
        return stats, notes
    before, advice = read_stats(first, spec.robot), "begin anew in another --out with all of the data"
    check_statistics(before, kept, **options, where=f"{first}, which the run began with", advice=advice)
    return before, notes


def show(config: FineTune, prepared: Prepared, log: Log) -> None:
    """Logs what the model will see, and writes a sheet of examples.

    Args:
      config: of the run.
      prepared: its inputs.
      log: called with each line.

    Raises:
      UserError: something else is where the sheet shall be, or the disk refuses.
    """
    trainer, held_out = prepared.trainer, prepared.held_out
    out = Path(config.out)
    sheet = out.with_name(f"{out.name}.examples.png") if config.sheet is None else Path(config.sheet)
    check_sheet(sheet)
    batch = trainer.loader().read(0)
    for name, subset in zip(config.data, trainer.mixture.subsets, strict=True):
        log(describe_dataset(name, config.split, subset))
    lines = describe_inputs(trainer, batch) + describe_shapes(trainer, batch)
    lines += describe_normalization(trainer, prepared.spec, prepared.stats, held_out)
    for line in lines + describe_prompts(trainer):
        log(line)
    if is_first():
        log(f"{write_sheet(sheet, trainer, batch)}: examples as the model gets them")


def model_config(config: FineTune) -> VlaConfig:
    """Returns the model of a run: its preset, with the changes of the command line."""
    base = presets.with_cameras(presets.preset(config.model), config.cameras)
    names = ("image_size", "horizon", "dtype", "action_size")
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
        frames = open_frames(Path(name), size=model.image_size, split=config.split, any_robot=True)
        hashes.append(data_hash(Path(name), frames.table))
        subset, apart = hold_out(frames, config.hold_out, config.train.seed + index)
        kept.append(dataclasses.replace(subset, weight=float(config.mix[index])) if config.mix else subset)
        held_out += [] if apart is None else [apart]
    return Mixture(tuple(kept)), Mixture(tuple(held_out)) if held_out else None, hashes
