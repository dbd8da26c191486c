"""The training of a flow VLA in a folder: from its newest checkpoint to the finished model.

    checkpoints/      the newest states
    metrics.jsonl     one line a block of steps
    norm_stats.json   what states and actions are normalized with
    model/STEPS/      the finished model, see `rlgen.vla.checkpoints.model_folder`
    model/best/       the model of the smallest validation loss, see `rlgen.vla.training.best`

Both `rlgen.vla.training.fine_tune` (a command) and the `vla-train` stage of a run train by `train_model`.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from rlgen.core.files import write_json
from rlgen.core.types import LIBERO, Robot
from rlgen.data.loader import Mixture
from rlgen.training.checkpoints import Checkpoints
from rlgen.training.metrics import Metrics
from rlgen.training.processes import is_first, wait_for_all
from rlgen.training.sharding import make_mesh, place_state, restore_target, state_shardings
from rlgen.vla.checkpoints.model_folder import DESCRIPTION, STATS, read_stats, write_model
from rlgen.vla.checkpoints.weights import start_params
from rlgen.vla.data.batches import Batch
from rlgen.vla.data.normalize import NormStats
from rlgen.vla.data.spec import InputSpec, make_pipeline
from rlgen.vla.model.config import VlaConfig
from rlgen.vla.training.best import BestModel
from rlgen.vla.training.config import TrainConfig
from rlgen.vla.training.loop import HeldOutLoss, StepBlock, Trainer, check_finite, init_state, run_blocks
from rlgen.vla.training.optimizer import TrainState

Log = Callable[[str], None]


@dataclass(frozen=True)
class LoopOptions:
    """The intervals of a training's logging, checkpoints and validation.

    Attributes:
      log_every: steps between two lines of metrics.
      checkpoint_every: steps between two checkpoints.
      keep: newest checkpoints to keep.
      validate_every: steps between two validations.
      validate_frames: frames of a validation.
      metrics: names of the values to store; all by default.
      keep_best: keep the model of the smallest validation loss.
    """

    log_every: int = 10
    checkpoint_every: int = 1000
    keep: int = 2
    validate_every: int = 1000
    validate_frames: int = 512
    metrics: tuple[str, ...] | None = None
    keep_best: bool = True


def train_model(
    folder: Path,
    config: VlaConfig,
    spec: InputSpec,
    train: TrainConfig,
    mixture: Mixture,
    stats: NormStats,
    *,
    held_out: Mixture | None = None,
    weights: Path | None = None,
    mesh: Mesh | None = None,
    workers: int = 2,
    options: LoopOptions = LoopOptions(),
    log: Log = lambda line: None,
    on_block: Callable[[StepBlock], None] = lambda block: None,
) -> Path:
    """Trains a model, or resumes its training, and writes it. Every process of a run calls it.

    Args:
      folder: of the training; one that was interrupted there with the same arguments is resumed.
      config: the model.
      spec: its transforms.
      train: how to train.
      mixture: the data.
      stats: to normalize with, from `rlgen.vla.data.training_statistics`; a training that is resumed keeps its own.
      held_out: data to validate on.
      weights: openpi checkpoint folder, or PaliGemma's npz, to start from; fresh parameters by default.
      mesh: devices; one by default.
      workers: threads that read and decode batches.
      options: intervals of logging, checkpoints and validation.
      log: called with a line about the inputs, each block and the result.
      on_block: called after each block, when its metrics and its checkpoint are on the disk.

    Returns:
      The folder of the finished model.

    Raises:
      UserError: data, weights or checkpoints that do not fit; a loss that is not finite; a disk that refuses.
    """
    mesh = make_mesh(devices=jax.local_devices()[:1]) if mesh is None else mesh
    stats = stored_statistics(folder, stats, spec.robot)
    trainer = Trainer(config, train, make_pipeline(config, spec, stats), mixture, mesh, workers)

    def write(place: Path, params: PyTree) -> None:
        write_model(place, config, spec, stats, as_float32(params))

    for line in describe_inputs(trainer, trainer.loader().read(0)):
        log(line)
    best = BestModel(folder / "model", write, held_out) if held_out is not None and options.keep_best else None
    state = _train(folder, trainer, held_out, weights, options, best, log, on_block)
    finished = folder / "model" / str(train.steps)
    if not (finished / DESCRIPTION).is_file():
        if is_first():
            shutil.rmtree(finished, ignore_errors=True)
        wait_for_all("model")
        write(finished, state.inference_params)
    log(f"{finished}: the model, as openpi reads it")
    return finished


def stored_statistics(folder: Path, stats: NormStats, robot: Robot = LIBERO) -> NormStats:
    """Returns the statistics that a training began with, which are these where it begins now.

    Args:
      folder: of the training.
      stats: of its data.
      robot: that they are of.
    """
    is_stored = (folder / STATS).is_file()
    wait_for_all("statistics")
    if is_stored:
        return read_stats(folder / STATS, robot)
    if is_first():
        write_json(folder / STATS, stats.to_json())
    # As the file gives it back, so that the model is served with exactly what it was trained with.
    return NormStats.from_json(stats.to_json())


def describe_inputs(trainer: Trainer, batch: Batch) -> list[str]:
    """Describes what is to be read before training: transforms, cameras, state, actions, prompt and masks.

    Args:
      trainer: of the training.
      batch: its first.
    """
    config, options = trainer.config, trainer.options
    lines = [f"transforms: {', '.join(trainer.pipeline.names)}"]
    for name, images in batch.images.items():
        mask = np.asarray(batch.image_mask[name])
        content = f"mean {images[mask].mean():.0f} of 255" if mask.any() else "masked: the data has no such camera"
        lines.append(f"camera {name}: {list(images.shape[1:])}, {content}")
    robot = trainer.pipeline.robot
    state, actions = batch.state[:, : robot.state], batch.actions[..., : robot.action]
    where = "in the prompt" if config.state_in_prompt else "not read by the network"
    where = "a token of its own" if config.family == "pi0" else where
    lines.append(f"state: {robot.state} dimensions, normalized {state.min():.1f} to {state.max():.1f}, {where}")
    lines.append(f"actions: {list(actions.shape[1:])}, normalized {actions.min():.1f} to {actions.max():.1f}")
    rows = trainer.mixture.select(options.batch, options.seed, 0)[options.rows]
    prompt = trainer.mixture.read(rows[:1], config.horizon)["prompt"][0]
    lines.append(f"prompt: {prompt!r}, {int(batch.prompt_mask[0].sum())} of {config.prompt_length} tokens")
    behind = 1 - np.asarray(batch.chunk_mask).mean()
    counted = "left out of" if trainer.train.mask_padding else "counted in"
    lines.append(f"actions behind an episode's end: {100 * behind:.0f} % of this batch, {counted} the loss")
    return lines


def _train(
    folder: Path,
    trainer: Trainer,
    held_out: Mixture | None,
    weights: Path | None,
    options: LoopOptions,
    best: BestModel | None,
    log: Log,
    on_block: Callable[[StepBlock], None],
) -> TrainState:
    """Trains from the newest checkpoint, or from the beginning, to the last step."""
    abstract = jax.eval_shape(partial(init_state, trainer.config, trainer.train))
    shardings = state_shardings(trainer.mesh, abstract)
    validate = None if held_out is None else HeldOutLoss(trainer, held_out, options.validate_frames)
    with Checkpoints(folder / "checkpoints", keep=options.keep) as checkpoints:
        if checkpoints.latest() is None:
            state = _first_state(trainer, weights, shardings)
        else:
            state, _ = checkpoints.restore(restore_target(trainer.mesh, abstract))
        done, steps = int(state.step), trainer.train.steps
        metrics = Metrics(folder / "metrics.jsonl", keep=done) if is_first() else None
        intervals = {"block": options.log_every, "checkpoint_every": options.checkpoint_every}
        for block in run_blocks(trainer, state, **intervals, shardings=shardings):
            state = block.state
            # A validation is made at the end of the block in which it is due.
            is_due = block.step // options.validate_every > done // options.validate_every
            done = block.step
            if validate is not None and (is_due or done == steps):
                loss = validate(state.inference_params)
                check_finite(done, validation_loss=loss)
                block = replace(block, values={**block.values, "validation_loss": loss})
                if best is not None and best.offer(done, loss, state.inference_params):
                    log(f"{best.place}: the smallest validation loss so far, {loss:.4f} at step {done}")
            if metrics is not None:
                names = block.values if options.metrics is None else options.metrics
                metrics.write(done, **{name: block.values[name] for name in names})
            if block.at_checkpoint:
                checkpoints.save(done, state, {"kind": "fine-tune", "step": done})
            on_block(block)
            log(_line(block, steps))
    return state


def _first_state(trainer: Trainer, weights: Path | None, shardings: PyTree) -> TrainState:
    """Makes the state before the first step, each array in its shards."""
    config, train = trainer.config, trainer.train
    if weights is None:
        return jax.jit(partial(init_state, config, train), out_shardings=shardings)()
    params = start_params(config, weights, jax.random.key(train.seed))
    params = place_state(trainer.mesh, params)
    return jax.jit(partial(init_state, config, train), out_shardings=shardings, donate_argnums=0)(params)


def as_float32(params: PyTree) -> PyTree:
    """Returns float32 parameters; every process keeps its shards, and what is float32 is not copied."""
    convert = jax.jit(lambda x: x.astype(jnp.float32))
    return jax.tree.map(lambda x: x if x.dtype == jnp.float32 else convert(x), params)


def _line(block: StepBlock, steps: int) -> str:
    values = block.values
    held_out = f", held out {values['validation_loss']:.4f}" if "validation_loss" in values else ""
    waiting = f"{values['step_s']:.2f} s a step, {100 * values['data_wait_share']:.0f} % waiting for data"
    return f"step {block.step} of {steps}: loss {values['loss']:.4f}{held_out}, {waiting}"
