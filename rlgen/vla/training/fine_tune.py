"""What a model is really given, in lines to read before a training starts."""

import dataclasses
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from rlgen.core.errors import UserError
from rlgen.core.files import read_json, write_json
from rlgen.training.checkpoints import ShardedCheckpoints, abstract_state
from rlgen.training.metrics import Metrics
from rlgen.training.sharding import make_mesh, state_shardings
from rlgen.vla.checkpoints.model_folder import read_stats, write_model
from rlgen.vla.checkpoints.weights import start_params
from rlgen.vla.data.batches import make_batch
from rlgen.vla.data.frames import action_semantics, open_frames
from rlgen.vla.data.mixture import Mixture, Part, hold_out, mixture_statistics
from rlgen.vla.data.normalize import NormStats
from rlgen.vla.data.spec import WORDS, InputSpec, check_dataset, make_pipeline
from rlgen.vla.model import presets
from rlgen.vla.model.config import VlaConfig
from rlgen.vla.training.config import FineTune, difference, resolved
from rlgen.vla.training.loop import Job, Validation, init_state, run_blocks
from rlgen.vla.training.memory_plan import GIB, advice, device_bytes, memory_plan
from rlgen.vla.training.optimizer import TrainState


def describe_inputs(job: Job) -> list[str]:
    """Transforms, cameras, state, prompt and masks of the first batch."""
    batch = make_batch(job.config, job.mixture, job.pipeline, job.options, 0)
    lines = [f"transforms: {', '.join(job.pipeline.names)}"]
    for name, images in batch.images.items():
        mask = np.asarray(batch.image_mask[name])
        seen = f"mean {images[mask].mean():.0f} of 255" if mask.any() else "masked: the data has no such camera"
        lines.append(f"camera {name}: {list(images.shape[1:])}, {seen}")
    size = job.pipeline.transforms[-1].state_size
    state, actions = batch.state[:, :size], batch.actions[..., :7]
    where = "in the prompt" if job.config.state_in_prompt else "not read by the network"
    where = "a token of its own" if job.config.family == "pi0" else where
    lines.append(f"state: {size} numbers, normalised {state.min():.1f} to {state.max():.1f}, {where}")
    lines.append(f"actions: {list(actions.shape[1:])}, normalised {actions.min():.1f} to {actions.max():.1f}")
    mine = job.mixture.draw(job.options.batch, job.options.seed, 0)[job.options.rows]
    prompt = job.mixture.sample(mine[:1], job.config.horizon)["prompt"][0]
    lines.append(f"prompt: {prompt!r}, {int(batch.prompt_mask[0].sum())} of {job.config.prompt_length} tokens")
    behind = 1 - np.asarray(batch.chunk_mask).mean()
    counted = "left out of" if job.train.mask_padding else "counted in"
    lines.append(f"actions behind an episode's end: {100 * behind:.0f} % of this batch, {counted} the loss")
    return lines


Tell = Callable[[str], None]
RECORD, STATS = "fine_tune.json", "norm_stats.json"


def fine_tune(config: FineTune, tell: Tell = print) -> Path | None:
    """Runs or goes on with a fine-tuning.

    Returns:
      The folder of the finished model; None of a dry run.

    Raises:
      UserError: settings that contradict each other, the data or what is in `out`.
    """
    if config.processes > 1:
        jax.distributed.initialize(config.coordinator, config.processes, config.process)
    model, spec = model_config(config), input_spec(config)
    mesh = make_mesh(config.fsdp)
    plan_memory(config, model, mesh.size, tell)
    kept, held = read_data(config, model, spec)
    if config.dry_run:
        return None
    out = open_out(config, tell)
    stats = fixed_stats(config, out, kept, model, spec)
    job = Job(model, config.train, make_pipeline(model, spec, stats), kept, mesh)
    tell(f"{len(kept)} steps to train on, {len(held) if held else 0} held out; {mesh.size} devices, fsdp {config.fsdp}")
    for line in describe_inputs(job):
        tell(line)
    state = train(config, job, held, out, tell)
    folder = out / "model" / str(config.train.steps)
    if not (folder / "rlgen.json").is_file():
        if jax.process_index() == 0:
            shutil.rmtree(folder, ignore_errors=True)
        together("model")
        write_model(folder, model, spec, stats, whole_params(state.best))
    tell(f"{folder}: the model, as openpi reads it")
    return folder


def model_config(config: FineTune) -> VlaConfig:
    """The model of a run, with what the command line changes."""
    base = presets.preset(config.model)
    names = ("image_size", "horizon", "dtype")
    changes = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    large = config.model not in ("small", "tiny")
    try:
        return dataclasses.replace(base, remat=large if config.remat is None else config.remat, **changes)
    except ValueError as error:
        raise UserError(f"{config.model}: {error}") from error


def input_spec(config: FineTune) -> InputSpec:
    """The transforms of a run."""
    kind = config.normalisation or ("quantile" if config.model.startswith("pi05") else "zscore")
    if config.weights is not None and config.tokenizer == WORDS and config.model not in ("small", "tiny"):
        raise UserError("--weights of a published model need its --tokenizer (paligemma_tokenizer.model)")
    actions = config.actions or (action_semantics(Path(config.data[0])) if config.data else None) or "relative"
    return InputSpec(kind, actions, config.delta or config.double_delta, config.tokenizer)


def plan_memory(config: FineTune, model: VlaConfig, devices: int, tell: Tell) -> None:
    """Says what will be needed, and before anything is compiled what would help if it does not fit."""
    plan = memory_plan(model, config.train, devices=devices, fsdp=config.fsdp)
    tell(str(plan))
    limit = device_bytes()
    if limit is not None and plan.total > limit:
        tell(f"a device has {limit / GIB:.1f} GiB: this will probably not fit. What would help, one at a time:")
        for line in advice(model, config.train, limit, devices=devices, fsdp=config.fsdp):
            tell(f"  {line}")


def read_data(config: FineTune, model: VlaConfig, spec: InputSpec) -> tuple[Mixture, Mixture | None]:
    """What to train on and what to validate on."""
    if not config.data:
        raise UserError("--data is missing; name the folders of one or more exported datasets")
    kept, held = [], []
    for number, name in enumerate(config.data):
        check_dataset(spec, config.actions or action_semantics(Path(name)), name, double_delta=config.double_delta)
        frames = open_frames(Path(name), model.image_size, config.threads)
        part, apart = hold_out(frames, config.hold_out, config.train.seed + number)
        kept.append(dataclasses.replace(part, weight=float(config.mix[number] if config.mix else len(part))))
        held += [] if apart is None else [Part(frames, apart.index, float(len(apart)))]
    return Mixture(tuple(kept)), Mixture(tuple(held)) if held else None


def open_out(config: FineTune, tell: Tell) -> Path:
    """The run's folder, begun or gone on with.

    Raises:
      UserError: it holds a run with other settings, or something else.
    """
    out, now = Path(config.out), resolved(config)
    if config.overwrite and jax.process_index() == 0:
        shutil.rmtree(out, ignore_errors=True)
    together("cleared")
    there = (out / RECORD).is_file(), out.exists() and any(out.iterdir())
    together("looked")
    if there[0]:
        try:
            changed = difference(read_json(out / RECORD), now)
        except ValueError as error:
            raise UserError(f"{out / RECORD} is damaged; pass --overwrite or choose another --out") from error
        if changed:
            raise UserError(
                f"{out} holds a run with other settings: {', '.join(changed)}; "
                "use those, pass --overwrite to begin anew, or choose another --out"
            )
        tell(f"going on with {out}")
    elif there[1]:
        raise UserError(f"{out} is there and is not a fine-tuning; choose another --out")
    elif jax.process_index() == 0:
        write_json(out / RECORD, now)
    return out


def fixed_stats(config: FineTune, out: Path, kept: Mixture, model: VlaConfig, spec: InputSpec) -> NormStats:
    """What the run normalises with: given, or of its data; written beside it."""
    if config.norm_stats is not None:
        stats = read_stats(Path(config.norm_stats))
    else:
        stats = mixture_statistics(kept, model.horizon, delta=spec.delta)
    if jax.process_index() == 0:
        write_json(out / STATS, stats.to_json())
    # As the file gives it back, so that a model that is served is the one that was trained.
    return NormStats.from_json(stats.to_json())


def first_state(config: FineTune, job: Job, shardings: PyTree) -> TrainState:
    """The state before the first step, each piece made or put where it belongs."""
    train, seed = config.train, jax.random.key(config.train.seed)
    if config.weights is None:
        return jax.jit(partial(init_state, job.config, train), out_shardings=shardings)()
    params = start_params(job.config, Path(config.weights), seed)
    placed = state_shardings(job.mesh, params)
    params = jax.tree.map(lambda x, s: jax.make_array_from_callback(x.shape, s, lambda i: x[i]), params, placed)
    return jax.jit(partial(init_state, job.config, train), out_shardings=shardings, donate_argnums=0)(params)


def train(config: FineTune, job: Job, held: Mixture | None, out: Path, tell: Tell) -> TrainState:
    """Trains from the newest checkpoint, or from the beginning, to the last step."""
    abstract = jax.eval_shape(partial(init_state, job.config, config.train))
    shardings = state_shardings(job.mesh, abstract)
    validate = None if held is None else Validation(job, held, config.validate_frames)
    main = jax.process_index() == 0
    with ShardedCheckpoints(out / "checkpoints", keep=config.keep) as checkpoints:
        if checkpoints.latest() is None:
            state = first_state(config, job, shardings)
        else:
            state = checkpoints.restore(abstract_state(abstract, shardings))
        done = int(state.step)
        metrics = Metrics(out / "metrics.jsonl", keep=done) if main else None
        every = config.checkpoint_every
        for block in run_blocks(job, state, block=config.log_every, checkpoint_every=every, shardings=shardings):
            state, values = block.state, dict(block.values)
            # A block ends where a checkpoint or the next validation is due.
            due = block.step // config.validate_every > done // config.validate_every
            done = block.step
            if validate is not None and (due or done == config.train.steps):
                values["validation_loss"] = validate(state.best)
            if metrics is not None:
                metrics.write(done, **values)
            if block.at_checkpoint:
                checkpoints.save(done, state, {"kind": "fine-tune", "step": done})
            tell(_line(done, config.train.steps, values))
    return state


def together(what: str) -> None:
    """Waits until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def whole_params(params: PyTree) -> PyTree:
    """float32 parameters to write; every process keeps its pieces."""
    return jax.jit(lambda tree: jax.tree.map(lambda x: x.astype(jnp.float32), tree))(params)


def _line(step: int, steps: int, values: dict[str, float]) -> str:
    held = f", held out {values['validation_loss']:.4f}" if "validation_loss" in values else ""
    waiting = f"{values['step_s']:.2f} s a step, {100 * values['data_wait_share']:.0f} % waiting for data"
    return f"step {step} of {steps}: loss {values['loss']:.4f}{held}, {waiting}"
