"""AdamW behind a clip of the global norm, with openpi's schedules and its averaged parameters."""

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Float, Int, PyTree

from rlgen.vla.model.parameters import flat_names, join
from rlgen.vla.training.config import TrainConfig

UNCOUNTED = ("bias", "scale", "pos_embedding", "input_embedding")


@struct.dataclass
class TrainState:
    """Where training stands.

    Attributes:
      step: optimiser steps done.
      trained: the parameters that change, float32.
      frozen: the others, bfloat16.
      ema: the average of `trained`; None where none is kept.
      opt_state: optimiser of `trained`.
    """

    step: Int[Array, ""]
    trained: PyTree
    frozen: PyTree
    ema: PyTree | None
    opt_state: PyTree

    @property
    def params(self) -> PyTree:
        """All parameters as they are."""
        return join(self.trained, self.frozen)

    @property
    def best(self) -> PyTree:
        """All parameters, averaged where an average is kept: the ones to use."""
        return join(self.trained if self.ema is None else self.ema, self.frozen)


def schedule(train: TrainConfig) -> optax.Schedule:
    """Linear warm-up from peak / (warmup + 1), then as `train.schedule` says."""
    first, peak, warmup = train.peak_rate / (train.warmup + 1), train.peak_rate, train.warmup
    if train.schedule == "cosine":
        end = train.decay_steps or train.steps
        return optax.warmup_cosine_decay_schedule(first, peak, warmup, end, train.end_rate)

    def after(step):
        if train.schedule == "constant":
            return jnp.full_like(jnp.asarray(step, jnp.float32), peak)
        return peak / jnp.sqrt((train.timescale + step) / train.timescale)

    return optax.join_schedules([optax.linear_schedule(first, peak, warmup), after], [warmup])


def optimizer(train: TrainConfig) -> optax.GradientTransformation:
    """AdamW behind a clip of the global norm."""
    adamw = optax.adamw(
        schedule(train), train.beta1, train.beta2, train.eps, weight_decay=train.weight_decay, mu_dtype=train.moments
    )
    return optax.chain(optax.clip_by_global_norm(train.clip), adamw)


def begin(train: TrainConfig, trained: PyTree, frozen: PyTree) -> TrainState:
    """A state before the first step."""
    average = None if train.ema is None else jax.tree.map(jnp.array, trained)
    frozen = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), frozen)
    return TrainState(jnp.int32(0), trained, frozen, average, optimizer(train).init(trained))


def apply_gradients(
    train: TrainConfig, state: TrainState, grads: PyTree
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """One optimiser step; also returns the norms of the gradient and, after the step, of the kernels."""
    updates, opt_state = optimizer(train).update(grads, state.opt_state, state.trained)
    trained, average = optax.apply_updates(state.trained, updates), None
    if train.ema is not None:
        average = jax.tree.map(lambda old, new: train.ema * old + (1 - train.ema) * new, state.ema, trained)
    new = state.replace(step=state.step + 1, trained=trained, ema=average, opt_state=opt_state)
    return new, {"grad_norm": optax.tree.norm(grads), "param_norm": kernel_norm(new.params)}


def kernel_norm(params: PyTree) -> Float[Array, ""]:
    """Global norm of tensors of rank above 1 that are neither norms, biases nor embeddings, each in its own type."""
    kernels = {
        name: leaf
        for name, leaf in flat_names(params).items()
        if leaf.ndim > 1 and name.rsplit("/", 1)[-1] not in UNCOUNTED
    }
    return optax.tree.norm(kernels)
