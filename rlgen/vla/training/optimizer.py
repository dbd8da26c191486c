"""AdamW behind a clip of the global norm, with openpi's schedules and its averaged parameters."""

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Float, Int, PyTree

from rlgen.vla.model.parameters import flat_names, join
from rlgen.vla.training.config import TrainConfig

NO_KERNELS = ("bias", "scale", "pos_embedding", "input_embedding")


@struct.dataclass
class TrainState:
    """The state of a training.

    Attributes:
      step: optimizer steps done.
      trained: the parameters that change, float32.
      frozen: the others, bfloat16.
      ema: the exponential moving average of `trained`; None where none is kept.
      opt_state: optimizer state of `trained`.
    """

    step: Int[Array, ""]
    trained: PyTree
    frozen: PyTree
    ema: PyTree | None
    opt_state: PyTree

    @property
    def params(self) -> PyTree:
        """Returns all parameters, not averaged."""
        return join(self.trained, self.frozen)

    @property
    def inference_params(self) -> PyTree:
        """Returns the parameters to act with: all of them, averaged where an average is kept."""
        return join(self.trained if self.ema is None else self.ema, self.frozen)


def create_state(train: TrainConfig, trained: PyTree, frozen: PyTree) -> TrainState:
    """Creates the state before the first step.

    Args:
      train: how to train.
      trained: float32 parameters.
      frozen: parameters that stay as they are; stored in bfloat16.
    """
    average = None if train.ema is None else jax.tree.map(jnp.array, trained)
    frozen = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), frozen)
    return TrainState(jnp.int32(0), trained, frozen, average, optimizer(train).init(trained))


def apply_gradients(
    train: TrainConfig, state: TrainState, grads: PyTree
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Applies one optimizer step.

    Args:
      train: how to train.
      state: before the step.
      grads: like `state.trained`.

    Returns:
      The state after the step; `grad_norm`, and `param_norm` of the kernels after the step.
    """
    updates, opt_state = optimizer(train).update(grads, state.opt_state, state.trained)
    trained, average = optax.apply_updates(state.trained, updates), None
    if train.ema is not None:
        average = jax.tree.map(lambda old, new: train.ema * old + (1 - train.ema) * new, state.ema, trained)
    new = state.replace(step=state.step + 1, trained=trained, ema=average, opt_state=opt_state)
    return new, {"grad_norm": optax.tree.norm(grads), "param_norm": kernel_norm(new.params)}


def optimizer(train: TrainConfig) -> optax.GradientTransformation:
    """Returns AdamW behind a clip of the global norm."""
    adamw = optax.adamw(
        schedule(train), train.beta1, train.beta2, train.eps, weight_decay=train.weight_decay, mu_dtype=train.moments
    )
    return optax.chain(optax.clip_by_global_norm(train.clip), adamw)


def schedule(train: TrainConfig) -> optax.Schedule:
    """Returns the learning rate by step: linear warm-up from peak / (warmup + 1), then as `train.schedule` says."""
    first, peak, warmup = train.peak_rate / (train.warmup + 1), train.peak_rate, train.warmup
    if train.schedule == "cosine":
        end = train.decay_steps or train.steps
        return optax.warmup_cosine_decay_schedule(first, peak, warmup, end, train.end_rate)

    def after(step):
        if train.schedule == "constant":
            return jnp.full_like(jnp.asarray(step, jnp.float32), peak)
        return peak / jnp.sqrt((train.timescale + step) / train.timescale)

    return optax.join_schedules([optax.linear_schedule(first, peak, warmup), after], [warmup])


def kernel_norm(params: PyTree) -> Float[Array, ""]:
    """Computes the global norm of kernels, as openpi logs it, each in its own type.

    Kernels are tensors of rank 2 or more that are neither norms, biases nor embeddings.
    """
    kernels = {
        name: leaf
        for name, leaf in flat_names(params).items()
        if leaf.ndim > 1 and name.rsplit("/", 1)[-1] not in NO_KERNELS
    }
    return optax.tree.norm(kernels)
