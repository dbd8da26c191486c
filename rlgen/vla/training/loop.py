"""Fine-tuning a flow VLA.

The state is a plain pytree. What a step draws at random follows from the configuration's seed and the state's
step, so a state that is saved and restored goes on to the same bits, place in the data included.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from rlgen.core.errors import UserError
from rlgen.training.sharding import place_batch
from rlgen.vla.data.batches import Batch, BatchOptions, batches, make_batch
from rlgen.vla.data.images import Augmentation, augment, to_floats
from rlgen.vla.data.mixture import Mixture
from rlgen.vla.data.transforms import Pipeline
from rlgen.vla.model import pi0
from rlgen.vla.model.config import VlaConfig
from rlgen.vla.model.parameters import flat_names, is_trained, join, split
from rlgen.vla.model.pi0 import Inputs
from rlgen.vla.training.config import TrainConfig
from rlgen.vla.training.optimizer import TrainState, apply_gradients, begin

Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]


def init_state(config: VlaConfig, train: TrainConfig, params: PyTree | None = None) -> TrainState:
    """A state before the first step, with fresh parameters unless some are given."""
    params = pi0.init(config, jax.random.key(train.seed)) if params is None else jax.tree.map(jnp.array, params)
    freeze_vision = train.freeze_vision
    trained = {n for n in flat_names(params) if is_trained(config, n, train.trainable, freeze_vision=freeze_vision)}
    return begin(train, *split(params, trained))


def batch_inputs(config: VlaConfig, train: TrainConfig, batch: Batch, *, changed: bool = True) -> Inputs:
    """A batch as the network reads it, with augmentation and noise on the state unless `changed` is False."""
    images = {name: to_floats(batch.images[name]) for name in config.cameras}
    state = batch.state
    if changed:
        for name, numbers in batch.augment.items():
            images[name] = augment(images[name], numbers, Augmentation(), fixed_camera="wrist" not in name)
        state = state + train.state_noise * batch.state_noise
    return Inputs(images, batch.image_mask, batch.prompt, batch.prompt_mask, state)


def loss_sum(
    config: VlaConfig, train: TrainConfig, params: PyTree, batch: Batch, *, changed: bool = True
) -> Float[Array, ""]:
    """The flow loss of a batch, weighted as `loss_weight` counts it, not yet divided."""
    inputs = batch_inputs(config, train, batch, changed=changed)
    noise, t = batch.noise.swapaxes(0, 1), batch.time.swapaxes(0, 1)
    loss = pi0.flow_loss(config, params, inputs, batch.actions, noise, t)
    return jnp.sum(loss * batch.chunk_mask) if train.mask_padding else jnp.sum(loss)


def loss_weight(train: TrainConfig, batch: Batch) -> Float[Array, ""]:
    """How many action vectors count in a batch."""
    draws = batch.time.shape[1]
    return draws * (jnp.sum(batch.chunk_mask) if train.mask_padding else batch.chunk_mask.size)


def batch_loss(config: VlaConfig, train: TrainConfig, params: PyTree, batch: Batch) -> Float[Array, ""]:
    """The mean flow loss of a batch."""
    return loss_sum(config, train, params, batch) / loss_weight(train, batch)


def loss_and_gradients(
    config: VlaConfig, train: TrainConfig, trained: PyTree, frozen: PyTree, batch: Batch
) -> tuple[Float[Array, ""], PyTree]:
    """The mean loss of a batch and its gradient, part by part if the batch is accumulated."""

    def loss(trained, part):
        return loss_sum(config, train, join(trained, frozen), part)

    weight = loss_weight(train, batch)
    if train.accumulate == 1:
        total, grads = jax.value_and_grad(loss)(trained, batch)
    else:
        parts = jax.tree.map(partial(_parts, count=train.accumulate), batch)

        def add(carry, part):
            return jax.tree.map(jnp.add, carry, jax.value_and_grad(loss)(trained, part)), None

        zero = (jnp.float32(0), jax.tree.map(jnp.zeros_like, trained))
        (total, grads), _ = jax.lax.scan(add, zero, parts)
    return total / weight, jax.tree.map(lambda g: g / weight, grads)


def _parts(x: Array, count: int) -> Array:
    """Rows in `count` parts; part i takes every count-th row, so that each device keeps its share of every part."""
    return x.reshape(len(x) // count, count, *x.shape[1:]).swapaxes(0, 1)


def train_step(
    config: VlaConfig, train: TrainConfig, state: TrainState, batch: Batch
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """One optimiser step. Also returns `loss`, `grad_norm` and `param_norm`."""
    loss, grads = loss_and_gradients(config, train, state.trained, state.frozen, batch)
    state, norms = apply_gradients(train, state, grads)
    return state, {"loss": loss, **norms}


def compile_step(config: VlaConfig, train: TrainConfig, shardings: PyTree | None = None) -> Step:
    """The jitted step; its state is consumed. `shardings` is like the state; None is for one device."""
    step = partial(train_step, config, train)
    if shardings is None:
        return jax.jit(step, donate_argnums=0)
    return jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))


def run_steps(
    step: Step,
    state: TrainState,
    batches: Iterator[Batch],
    *,
    mesh: Mesh | None = None,
    on_step: Callable[[int], None] | None = None,
) -> tuple[TrainState, dict[str, float]]:
    """Runs a step for each batch; `state` is consumed.

    Args:
      step: from `compile_step`.
      state: where training stands.
      batches: from the state's step on.
      mesh: where batches are placed; None is one device.
      on_step: called with the number of steps done, when a step has been handed to the device.

    Returns:
      The new state, and averages over these steps: `loss`, `grad_norm`, `param_norm`, `step_s`, and
      `data_wait_share`, the share of the time in which the next batch was not ready.
    """
    done, history, waited = int(state.step), [], 0.0
    begun = time.perf_counter()
    iterator = iter(batches)
    while True:
        asked = time.perf_counter()
        batch = next(iterator, None)
        waited += time.perf_counter() - asked
        if batch is None:
            break
        state, metrics = step(state, batch if mesh is None else place_batch(mesh, batch))
        history.append(metrics)
        done += 1
        if on_step is not None:
            on_step(done)
    means = {key: float(np.mean([float(metrics[key]) for metrics in history])) for key in history[0]}
    seconds = time.perf_counter() - begun
    return state, {**means, "step_s": seconds / len(history), "data_wait_share": waited / seconds}


def compile_validation(config: VlaConfig, train: TrainConfig) -> Callable[[PyTree, Batch], Array]:
    """The jitted loss of parameters on a batch as it is: `[sum, weight]`."""

    def validate(params: PyTree, batch: Batch) -> Array:
        total = loss_sum(config, train, params, batch, changed=False)
        return jnp.stack([total, jnp.asarray(loss_weight(train, batch), jnp.float32)])

    return jax.jit(validate)


@dataclass(frozen=True)
class Job:
    """What a training needs besides its state.

    Attributes:
      config: sizes of the model.
      train: how to train.
      pipeline: transforms of its inputs.
      mixture: what to train on.
      mesh: devices; None is one device without sharding.
    """

    config: VlaConfig
    train: TrainConfig
    pipeline: Pipeline
    mixture: Mixture
    mesh: Mesh | None = None

    def __post_init__(self) -> None:
        devices = 1 if self.mesh is None else self.mesh.size
        part = self.train.batch // self.train.accumulate
        if part % devices:
            raise UserError(f"{devices} devices do not divide {part} frames, a batch cut by accumulate; change --batch")
        if self.train.state_noise and self.config.family != "pi0":
            raise UserError("state_noise has no effect on pi05, whose network reads no state; set it to 0")

    @property
    def options(self) -> BatchOptions:
        """What a step draws, in this process."""
        train, many = self.train, self.mesh is not None
        process, processes = (jax.process_index(), jax.process_count()) if many else (0, 1)
        return BatchOptions(
            train.batch, train.draws, train.seed, train.shift, train.augment, process=process, processes=processes
        )


@dataclass(frozen=True)
class Block:
    """Some steps that have been run.

    Attributes:
      state: where training stands; the next block consumes it.
      step: steps done.
      values: averages over the block.
      at_checkpoint: whether a checkpoint is due.
    """

    state: TrainState
    step: int
    values: dict[str, float]
    at_checkpoint: bool


def run_blocks(
    job: Job,
    state: TrainState,
    *,
    block: int,
    checkpoint_every: int,
    shardings: PyTree | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Iterator[Block]:
    """Trains from where `state` stands to the last step, at most `block` steps at a time.

    Raises:
      UserError: the loss is no longer a number.
    """
    steps, done = job.train.steps, int(state.step)
    step = compile_step(job.config, job.train, shardings)
    stream = batches(job.config, job.mixture, job.pipeline, job.options, done, steps - done)
    while done < steps:
        until = min(steps, (done // checkpoint_every + 1) * checkpoint_every)
        count = min(block, until - done)
        state, values = run_steps(step, state, islice(stream, count), mesh=job.mesh, on_step=on_step)
        done += count
        if not np.isfinite(values["loss"]):
            raise UserError(f"the VLA's loss is {values['loss']} at step {done}; lower the learning rate")
        yield Block(state, done, values, done == until)


class Validation:
    """The loss on held-out episodes, with the same frames, noise and flow times every time."""

    def __init__(self, job: Job, held: Mixture, frames: int):
        """Looks at about `frames` steps, whole batches of the job's size."""
        self._job, self._held = job, held
        self._count = max(1, min(frames, len(held)) // job.train.batch)
        self._loss = compile_validation(job.config, job.train)

    def __call__(self, params: PyTree) -> float:
        """The mean loss of parameters, without augmentation."""
        total = np.zeros(2)
        for number in range(self._count):
            options = self._job.options
            batch = make_batch(self._job.config, self._held, self._job.pipeline, options, number)
            if self._job.mesh is not None:
                batch = place_batch(self._job.mesh, batch)
            total += np.asarray(self._loss(params, batch))
        return float(total[0] / total[1])
