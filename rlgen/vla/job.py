"""One training: model, data and where it runs, in blocks of steps that can be interrupted between any two."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from rlgen.errors import UserError
from rlgen.train.sharding import place_batch
from rlgen.vla.batches import BatchOptions, batches, make_batch
from rlgen.vla.config import VlaConfig
from rlgen.vla.mixture import Mixture
from rlgen.vla.optimiser import TrainState
from rlgen.vla.train_config import TrainConfig
from rlgen.vla.training import compile_step, compile_validation, run_steps
from rlgen.vla.transforms import Pipeline


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
