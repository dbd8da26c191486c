"""The training loop of a flow VLA: blocks of steps, the step, its loss, and validation.

The state is a plain pytree. The random values of a step follow from the configuration's seed and the state's step, so
that training from a restored state gives the same bits, position in the data included.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from rlgen.core.errors import UserError
from rlgen.data.loader import Loader, Mixture
from rlgen.training.gradients import value_and_grad_in_parts
from rlgen.training.sharding import check_divides, shard_batch
from rlgen.vla.data.batches import Batch, BatchOptions, batch_loader
from rlgen.vla.data.images import Augmentation, augment, to_floats
from rlgen.vla.data.transforms import Pipeline
from rlgen.vla.model import pi0
from rlgen.vla.model.config import VlaConfig
from rlgen.vla.model.parameters import flat_names, is_trained, join, split
from rlgen.vla.model.pi0 import Inputs
from rlgen.vla.training.config import TrainConfig
from rlgen.vla.training.optimizer import TrainState, apply_gradients, create_state

Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]


@dataclass(frozen=True)
class Trainer:
    """Model, settings, data and devices of a training: all that it needs besides its state.

    Attributes:
      config: the model.
      train: how to train.
      pipeline: transforms of the model's inputs.
      mixture: the data.
      mesh: devices; None is one device without sharding.
      workers: threads that read and decode batches.
    """

    config: VlaConfig
    train: TrainConfig
    pipeline: Pipeline
    mixture: Mixture
    mesh: Mesh | None = None
    workers: int = 2

    def __post_init__(self) -> None:
        batch, parts = self.train.batch, self.train.accumulate
        check_divides(self.mesh, "train.batch", batch, batch // parts, parts)
        if self.train.state_noise and self.config.family != "pi0":
            raise UserError("state_noise has no effect on pi05, whose network reads no state; set it to 0")

    @property
    def options(self) -> BatchOptions:
        """Returns the batches of this process."""
        train, is_sharded = self.train, self.mesh is not None
        return BatchOptions(
            batch=train.batch,
            horizon=self.config.horizon,
            seed=train.seed,
            steps=train.steps,
            process=jax.process_index() if is_sharded else 0,
            processes=jax.process_count() if is_sharded else 1,
            workers=self.workers,
            draws=train.draws,
            shift=train.shift,
            augment=train.augment,
        )

    def loader(self) -> Loader[Batch]:
        """Returns the batches to train on, from the first step on."""
        return batch_loader(self.config, self.mixture, self.pipeline, self.options)


@dataclass(frozen=True)
class StepBlock:
    """Some steps that have been run.

    Attributes:
      state: after them; the next block consumes it.
      step: steps done since the beginning of the training.
      values: averages over the block.
      at_checkpoint: whether a checkpoint is due.
    """

    state: TrainState
    step: int
    values: dict[str, float]
    at_checkpoint: bool


def run_blocks(
    trainer: Trainer, state: TrainState, *, block: int, checkpoint_every: int, shardings: PyTree | None = None
) -> Iterator[StepBlock]:
    """Trains from the step of `state` to the last one.

    Args:
      trainer: what to train on, and how.
      state: consumed.
      block: largest number of steps in a block; a block also ends where a checkpoint is due.
      checkpoint_every: steps between two checkpoints.
      shardings: of the state; None is for one device.

    Raises:
      UserError: loss, gradient or parameters are not finite.
    """
    steps, done = trainer.train.steps, int(state.step)
    step = compile_step(trainer.config, trainer.train, shardings)
    batches = trainer.loader()
    batches.seek(done)
    while done < steps:
        until = min(steps, (done // checkpoint_every + 1) * checkpoint_every)
        count = min(block, until - done)
        state, values = run_steps(step, state, islice(batches, count), mesh=trainer.mesh)
        done += count
        yield StepBlock(state, done, values, done == until)


def run_steps(
    step: Step, state: TrainState, batches: Iterator[Batch], *, mesh: Mesh | None = None
) -> tuple[TrainState, dict[str, float]]:
    """Runs a step for each batch.

    Args:
      step: from `compile_step`.
      state: consumed.
      batches: from the state's step on.
      mesh: devices that batches are cut over; None is one device.

    Returns:
      The new state, and averages over these steps: `loss`, `grad_norm`, `param_norm`, `step_s`, and
      `data_wait_share`, the fraction of the time in which the next batch was not ready.

    Raises:
      UserError: a value of a step is not finite.
    """
    first, history, waited = int(state.step), [], 0.0
    start = time.perf_counter()
    iterator = iter(batches)
    while True:
        asked = time.perf_counter()
        batch = next(iterator, None)
        waited += time.perf_counter() - asked
        if batch is None:
            break
        state, metrics = step(state, batch if mesh is None else shard_batch(mesh, batch))
        history.append(metrics)
    for index, metrics in enumerate(history):
        check_finite(first + index + 1, **{key: float(value) for key, value in metrics.items()})
    means = {key: float(np.mean([float(metrics[key]) for metrics in history])) for key in history[0]}
    seconds = time.perf_counter() - start
    return state, {**means, "step_s": seconds / len(history), "data_wait_share": waited / seconds}


def check_finite(step: int, **values: float) -> None:
    """Raises `UserError` for the first value of an optimizer step that is not finite."""
    for name, value in values.items():
        if not np.isfinite(value):
            raise UserError(
                f"the VLA's {name} is {value} at step {step}; lower the learning rate, --train.peak-rate of "
                "`rlgen vla train`, which trains on the dataset of a run as well"
            )


def compile_step(config: VlaConfig, train: TrainConfig, shardings: PyTree | None = None) -> Step:
    """Compiles the training step, which consumes its state.

    Args:
      config: the model.
      train: how to train.
      shardings: of the state; None is for one device.
    """
    step = partial(train_step, config, train)
    if shardings is None:
        return jax.jit(step, donate_argnums=0)
    return jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))


def init_state(config: VlaConfig, train: TrainConfig, params: PyTree | None = None) -> TrainState:
    """Makes the state before the first step.

    Args:
      config: the model.
      train: how to train.
      params: to start from; fresh ones by default.
    """
    params = pi0.init(config, jax.random.key(train.seed)) if params is None else jax.tree.map(jnp.array, params)
    freeze_vision = train.freeze_vision
    trained = {n for n in flat_names(params) if is_trained(config, n, train.trainable, freeze_vision=freeze_vision)}
    return create_state(train, *split(params, trained))


def train_step(
    config: VlaConfig, train: TrainConfig, state: TrainState, batch: Batch
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Runs one optimizer step.

    Args:
      config: the model.
      train: how to train.
      state: before the step.
      batch: of the step.

    Returns:
      The state after it, and `loss`, `grad_norm` and `param_norm`.
    """
    loss, grads = loss_and_gradients(config, train, state.trained, state.frozen, batch)
    state, norms = apply_gradients(train, state, grads)
    return state, {"loss": loss, **norms}


def loss_and_gradients(
    config: VlaConfig, train: TrainConfig, trained: PyTree, frozen: PyTree, batch: Batch
) -> tuple[Float[Array, ""], PyTree]:
    """Computes the mean loss of a batch and its gradient, part by part where `train.accumulate` says so.

    Args:
      config: the model.
      train: how to train.
      trained: the parameters to differentiate by.
      frozen: the others.
      batch: of the step.
    """

    def loss(trained, part):
        return loss_sum(config, train, join(trained, frozen), part), None

    weight = loss_weight(train, batch)
    # Interleaved, so that each device keeps its share of every part.
    (mean, _), grads = value_and_grad_in_parts(loss, trained, batch, train.accumulate, divisor=weight, interleaved=True)
    return mean, grads


def loss_sum(
    config: VlaConfig, train: TrainConfig, params: PyTree, batch: Batch, *, changed: bool = True
) -> Float[Array, ""]:
    """Computes the flow loss of a batch, summed over its action vectors; see `loss_weight` for their number.

    Args:
      config: the model.
      train: how to train.
      params: all parameters.
      batch: of the step.
      changed: whether to augment images and add noise to the state.
    """
    inputs = batch_inputs(config, train, batch, changed=changed)
    noise, t = batch.noise.swapaxes(0, 1), batch.time.swapaxes(0, 1)
    loss = pi0.flow_loss(config, params, inputs, batch.actions, noise, t)
    return jnp.sum(loss * batch.chunk_mask) if train.mask_padding else jnp.sum(loss)


def loss_weight(train: TrainConfig, batch: Batch) -> Float[Array, ""]:
    """Returns how many action vectors the loss of a batch counts."""
    draws = batch.time.shape[1]
    return draws * (jnp.sum(batch.chunk_mask) if train.mask_padding else batch.chunk_mask.size)


def batch_inputs(config: VlaConfig, train: TrainConfig, batch: Batch, *, changed: bool = True) -> Inputs:
    """Returns a batch as the network reads it.

    Args:
      config: the model.
      train: how to train.
      batch: of the step.
      changed: whether to augment images and add noise to the state.
    """
    images = {name: to_floats(batch.images[name]) for name in config.cameras}
    state = batch.state
    if changed:
        for name, uniform in batch.augment.items():
            images[name] = augment(images[name], uniform, Augmentation(), fixed_camera="wrist" not in name)
        state = state + train.state_noise * batch.state_noise
    return Inputs(images, batch.image_mask, batch.prompt, batch.prompt_mask, state)


class HeldOutLoss:
    """The mean loss on episodes held out, with the same frames, noise and flow times every time.

    Args:
      trainer: of the training; its batch size and its random values are used.
      held_out: the data.
      frames: about how many to validate on; whole batches are.
    """

    def __init__(self, trainer: Trainer, held_out: Mixture, frames: int):
        count = max(1, min(frames, len(held_out)) // trainer.train.batch)
        options = replace(trainer.options, steps=count)
        self._mesh = trainer.mesh
        self._batches = batch_loader(trainer.config, held_out, trainer.pipeline, options)
        self._loss = jax.jit(partial(_validation_loss, trainer.config, trainer.train))

    def __call__(self, params: PyTree) -> float:
        """Returns the mean loss of parameters, without augmentation."""
        total = np.zeros(2)
        self._batches.seek(0)
        for batch in self._batches:
            total += np.asarray(self._loss(params, batch if self._mesh is None else shard_batch(self._mesh, batch)))
        return float(total[0] / total[1])


def _validation_loss(config: VlaConfig, train: TrainConfig, params: PyTree, batch: Batch) -> Float[Array, " 2"]:
    """Returns the summed loss of a batch as it is, and its weight."""
    total = loss_sum(config, train, params, batch, changed=False)
    return jnp.stack([total, jnp.asarray(loss_weight(train, batch), jnp.float32)])
