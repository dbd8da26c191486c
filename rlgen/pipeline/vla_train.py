"""`rlgen vla-train`: the flow VLA, trained from the exported dataset alone."""

import dataclasses
from typing import Any

import jax
import numpy as np

from rlgen.configs.schema import Config
from rlgen.core.files import read_json, write_json
from rlgen.data.formats.rlds.reader import read_rlds
from rlgen.libero.rendering.pool import RenderPool
from rlgen.pipeline.bc import count_parameters
from rlgen.pipeline.context import Context, Work
from rlgen.pipeline.export import dataset_folder
from rlgen.training.checkpoints import Checkpoints
from rlgen.training.metrics import Metrics
from rlgen.vla.data.frames import action_semantics, from_rlds
from rlgen.vla.data.mixture import Mixture, hold_out, mixture_statistics
from rlgen.vla.data.normalize import NormStats
from rlgen.vla.data.spec import InputSpec, check_dataset, make_pipeline
from rlgen.vla.model import presets
from rlgen.vla.model.config import VlaConfig
from rlgen.vla.serving.actor import PoolVlaActor, VlaActor
from rlgen.vla.serving.policy import Policy
from rlgen.vla.training.config import TrainConfig, quickstart, smoke
from rlgen.vla.training.loop import Job, init_state, run_blocks

STATS = "norm_stats.json"
CALL = 10
SPEC = InputSpec()


def model_config(config: Config) -> VlaConfig:
    """The model's sizes, for pictures of the exported size."""
    return dataclasses.replace(presets.preset(config.vla.model), image_size=config.export.image_size)


def train_config(config: Config, seed: int) -> TrainConfig:
    """How to train, for this many steps."""
    base, steps = {"tiny": smoke, "small": quickstart}[config.vla.model](), config.vla.optimizer_steps
    return dataclasses.replace(
        base, steps=steps, batch=config.vla.batch, warmup=min(base.warmup, steps // 4), seed=seed & 0x7FFFFFFF
    )


def run(context: Context, work: Work) -> dict[str, Any]:
    """Trains `vla.optimizer_steps` steps, with a checkpoint every `vla.checkpoint_every`."""
    config = context.run.config
    model, train = model_config(config), train_config(config, context.seed("vla"))
    work.progress.log("reading the dataset")
    folder = dataset_folder(context)
    # What a run exports is what its environments execute; cards of older runs do not say so.
    check_dataset(SPEC, action_semantics(folder) or SPEC.actions, str(folder))
    frames = from_rlds(read_rlds(folder), model.image_size, threads=config.workers)
    mixture = Mixture((hold_out(frames, 0.0, train.seed)[0],))
    stats = mixture_statistics(mixture, model.horizon, delta=SPEC.delta)
    write_json(work.folder / STATS, stats.to_json())
    job = Job(model, train, make_pipeline(model, SPEC, stats), mixture)
    state = jax.jit(lambda: init_state(model, train))()
    with Checkpoints(work.folder / "checkpoints", keep=1) as checkpoints:
        if checkpoints.latest() is not None:
            state = jax.tree.map(jax.numpy.asarray, checkpoints.restore(state)[0])
        step = int(state.step)
        metrics = Metrics(work.folder / "metrics.jsonl", keep=step)
        work.progress.total = train.steps
        work.progress.update(advance=step)
        work.progress.log("compiling the training step (about 40 s)")
        for block in run_blocks(job, state, block=CALL, checkpoint_every=config.vla.checkpoint_every):
            loss = block.values["loss"]
            metrics.write(block.step, loss=loss, grad_norm=block.values["grad_norm"])
            work.progress.update(advance=block.step - step, note=f"loss {loss:.4f}")
            step, state = block.step, block.state
            if block.at_checkpoint:
                checkpoints.save(step, state, {"stage": "vla-train", "task": config.task})
                work.clock.save()
    return {"steps": step, "parameters": count_parameters(state.params), "frames": len(mixture)}


def load_actor(context: Context) -> PoolVlaActor:
    """The trained model as an actor, with the view it was trained on."""
    context.run.result("vla-train")
    config, folder = context.run.config, context.run.folder / "vla-train"
    model, train = model_config(config), train_config(config, context.seed("vla"))
    blank = jax.eval_shape(lambda: init_state(model, train))
    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), blank)
    with Checkpoints(folder / "checkpoints", keep=1) as checkpoints:
        state, _ = checkpoints.restore(blank)
    stats = NormStats.from_json(read_json(folder / STATS))
    chunk = min(config.policy.horizon, model.horizon)
    policy = Policy(model, state.best, make_pipeline(model, SPEC, stats))
    renderers = RenderPool(context.scene, image_size=config.export.image_size, workers=config.workers)
    return PoolVlaActor(VlaActor(policy, chunk), context.scene.task.prompt, renderers)
