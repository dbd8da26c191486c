"""The `vla-train` stage: trains the flow VLA from the exported dataset alone, and loads it to act."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from rlgen.configs.schema import Config
from rlgen.core.files import read_json
from rlgen.data.frames import open_frames
from rlgen.data.loader import mix
from rlgen.libero.rendering.pool import RenderPool
from rlgen.pipeline.bc import count_parameters
from rlgen.pipeline.context import Context, Work
from rlgen.pipeline.export import dataset_folder
from rlgen.training.checkpoints import Checkpoints
from rlgen.vla.checkpoints.model_folder import DESCRIPTION, STATS
from rlgen.vla.checkpoints.weights import expected_params
from rlgen.vla.data.normalize import NormStats
from rlgen.vla.data.spec import InputSpec, check_dataset, make_pipeline, read_action_semantics
from rlgen.vla.data.training_statistics import training_statistics
from rlgen.vla.model import presets
from rlgen.vla.model.config import VlaConfig
from rlgen.vla.serving.actor import VlaActor
from rlgen.vla.serving.policy import VlaPolicy, open_policy
from rlgen.vla.training.checks import check_inputs
from rlgen.vla.training.config import TrainConfig, quickstart, smoke
from rlgen.vla.training.loop import StepBlock, init_state
from rlgen.vla.training.train import LoopOptions, train_model

SPEC = InputSpec()


def model_config(config: Config) -> VlaConfig:
    """Returns the model, for images of the exported size."""
    return dataclasses.replace(presets.preset(config.vla.model), image_size=config.export.image_size)


def train_config(config: Config, seed: int) -> TrainConfig:
    """Returns how to train it, for `vla.optimizer_steps` steps."""
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
    # A run exports what its environments execute; cards of older runs do not say so.
    check_dataset(SPEC, read_action_semantics(folder) or SPEC.actions, str(folder))
    mixture = mix([open_frames(folder, size=model.image_size)])
    notes = check_inputs(SPEC, [folder], mixture)
    stats, more = training_statistics(model, SPEC, mixture)
    for note in (*notes, *more):
        work.progress.log(note)
    work.progress.total = train.steps
    work.progress.log("compiling the training step (about 40 s)")

    def on_block(block: StepBlock) -> None:
        loss = block.values["loss"]
        work.progress.update(advance=block.step - work.progress.done, note=f"loss {loss:.4f}")
        if block.at_checkpoint:
            work.clock.save()

    # Values that depend on a clock are not stored: two runs leave the same bytes.
    options = LoopOptions(
        log_every=10, checkpoint_every=config.vla.checkpoint_every, keep=1, metrics=("loss", "grad_norm")
    )
    train_model(
        work.folder,
        model,
        SPEC,
        train,
        mixture,
        stats,
        workers=config.workers,
        options=options,
        on_block=on_block,
    )
    return {"steps": train.steps, "parameters": count_parameters(expected_params(model)), "frames": len(mixture)}


def load_actor(context: Context) -> VlaActor:
    """Loads the trained model as an actor, with images from the renderer that made its training data."""
    context.run.result("vla-train")
    config = context.run.config
    policy = load_policy(context)
    chunk = min(config.policy.horizon, policy.config.horizon)
    renderers = RenderPool(context.scene, image_size=config.export.image_size, workers=config.workers)
    return VlaActor(policy, context.scene.task.prompt, renderers, chunk=chunk)


def load_policy(context: Context) -> VlaPolicy:
    """Loads the finished model; runs of version 0.1.0 have its last checkpoint instead."""
    config, folder = context.run.config, context.run.folder / "vla-train"
    finished = folder / "model" / str(config.vla.optimizer_steps)
    if (finished / DESCRIPTION).is_file():
        return open_policy(finished)
    return _policy_of_checkpoint(folder, model_config(config), train_config(config, context.seed("vla")))


def _policy_of_checkpoint(folder: Path, model: VlaConfig, train: TrainConfig) -> VlaPolicy:
    abstract = jax.eval_shape(lambda: init_state(model, train))
    with Checkpoints(folder / "checkpoints", keep=1) as checkpoints:
        state, _ = checkpoints.restore(abstract)
    stats = NormStats.from_json(read_json(folder / STATS))
    return VlaPolicy(model, state.inference_params, make_pipeline(model, SPEC, stats))
