"""`rlgen vla-train`: the flow VLA, trained from the exported dataset alone."""

import dataclasses
from typing import Any

import jax
import numpy as np

from rlgen.config import Config
from rlgen.data.rlds import read_rlds
from rlgen.errors import UserError
from rlgen.files import read_json, write_json
from rlgen.libero.camera import FastView, read_triangles
from rlgen.stages.bc import count_parameters
from rlgen.stages.context import Context, Work
from rlgen.stages.export import dataset_folder
from rlgen.train.checkpoint import Checkpoints
from rlgen.train.metrics import Metrics
from rlgen.vla import presets, training
from rlgen.vla.actor import VlaActor
from rlgen.vla.config import VlaConfig
from rlgen.vla.dataset import from_rlds
from rlgen.vla.pool_actor import PoolVlaActor
from rlgen.vla.transforms import NormStats

STATS = "norm_stats.json"
CALL = 10


def model_config(config: Config) -> VlaConfig:
    """The model's sizes, for pictures of the exported size."""
    return dataclasses.replace(presets.preset(config.vla.size), image_size=config.export.size)


def train_config(config: Config, seed: int) -> training.TrainConfig:
    """How to train, for this many steps."""
    base = {"tiny": training.smoke, "small": training.quickstart}[config.vla.size]()
    steps = config.vla.steps
    return dataclasses.replace(
        base, steps=steps, batch=config.vla.batch, warmup=min(base.warmup, steps // 4), seed=seed & 0x7FFFFFFF
    )


def run(context: Context, work: Work) -> dict[str, Any]:
    """Trains `vla.steps` steps, with a checkpoint every `vla.checkpoint_every`."""
    config = context.run.config
    model, train = model_config(config), train_config(config, context.seed("vla"))
    work.progress.say("reading the dataset")
    data = from_rlds(read_rlds(dataset_folder(context)), model)
    write_json(work.folder / STATS, data.stats.to_json())
    state = jax.jit(lambda: training.init_state(model, train))()
    with Checkpoints(work.folder / "checkpoints", keep=1) as checkpoints:
        if checkpoints.latest() is not None:
            state = jax.tree.map(jax.numpy.asarray, checkpoints.restore(state)[0])
        step = int(state.step)
        metrics = Metrics(work.folder / "metrics.jsonl", keep=step)
        work.progress.total = train.steps
        work.progress.update(advance=step)
        work.progress.say("compiling the training step (about 40 s)")
        while step < train.steps:
            until = min(train.steps, (step // config.vla.checkpoint_every + 1) * config.vla.checkpoint_every)
            count = min(CALL, until - step)
            state, values = training.train_steps(model, train, state, data, count)
            step = int(state.step)
            metrics.write(step, **values)
            if not np.isfinite(values["loss"]):
                raise UserError(f"the VLA's loss is {values['loss']} at step {step}; lower the learning rate")
            work.progress.update(advance=count, note=f"loss {values['loss']:.4f}")
            if step == until:
                checkpoints.save(step, state, {"stage": "vla-train", "task": config.task})
                work.clock.save()
    return {"steps": step, "parameters": count_parameters(state.params), "frames": len(data)}


def load_actor(context: Context) -> PoolVlaActor:
    """The trained model as an actor, with the view it was trained on."""
    context.run.result("vla-train")
    config, folder = context.run.config, context.run.folder / "vla-train"
    model, train = model_config(config), train_config(config, context.seed("vla"))
    blank = jax.eval_shape(lambda: training.init_state(model, train))
    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), blank)
    with Checkpoints(folder / "checkpoints", keep=1) as checkpoints:
        state, _ = checkpoints.restore(blank)
    stats = NormStats.from_json(read_json(folder / STATS))
    chunk = min(config.policy.horizon, model.horizon)
    nq = context.scene.model.nq
    size, scene_model = config.export.size, context.scene.visual_model
    triangles = read_triangles(scene_model)
    views = [FastView(scene_model, size=size, triangles=triangles) for _ in range(config.threads)]
    draws = [lambda state, view=view: view.draw(state[1 : 1 + nq]) for view in views]
    actor = VlaActor(config=model, params=state.ema, stats=stats, chunk=chunk)
    return PoolVlaActor(actor, context.scene.task.prompt, draws)
