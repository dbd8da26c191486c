"""Fine-tuning a flow VLA on a dataset in memory.

The state is a plain pytree. What a step draws at random follows from the configuration's seed and the state's
step, so a state that is saved and restored goes on to the same bits.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, Int, PyTree

from rlgen.vla import model
from rlgen.vla.batches import Batch, make_batch
from rlgen.vla.config import VlaConfig
from rlgen.vla.dataset import VlaData
from rlgen.vla.transforms import NormStats, model_actions, model_inputs


@dataclass(frozen=True)
class TrainConfig:
    """How to train; the defaults are pi0's recipe.

    Attributes:
      steps: optimiser steps of the whole run, warm-up included.
      batch: frames a step.
      draws: noise and flow times a frame; the pictures are encoded once for all of them.
      peak_rate: learning rate after warm-up.
      end_rate: learning rate at the end of the cosine.
      warmup: steps of linear warm-up.
      beta1: AdamW.
      beta2: AdamW.
      eps: AdamW.
      weight_decay: AdamW.
      clip: largest global norm of a gradient.
      ema: decay of the averaged parameters.
      shift: random movement of pictures in pixels, another one for each camera.
      state_noise: normal noise on the normalised state, so that pictures are trusted more than the hand's
        own position.
      mask_padding: leave actions behind an episode's end out of the loss; pi0 keeps them.
      seed: of the parameters, the order of the data and all noise.
    """

    steps: int = 30_000
    batch: int = 32
    draws: int = 1
    peak_rate: float = 2.5e-5
    end_rate: float = 2.5e-6
    warmup: int = 1_000
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 1e-10
    clip: float = 1.0
    ema: float = 0.99
    shift: int = 0
    state_noise: float = 0.0
    mask_padding: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.warmup >= self.steps:
            raise ValueError(f"warmup {self.warmup} must end before the last of {self.steps} steps")
        if min(self.batch, self.draws) < 1:
            raise ValueError(f"batch {self.batch} and draws {self.draws} must be 1 or more")


def quickstart() -> TrainConfig:
    """For `config.small()` on two CPU cores and a few thousand frames."""
    return TrainConfig(
        steps=600, draws=2, peak_rate=1e-3, end_rate=1e-5, warmup=50, weight_decay=1e-2,
        ema=0.995, shift=2, state_noise=0.3, mask_padding=True,
    )  # fmt: skip


def smoke() -> TrainConfig:
    """For `config.tiny()`: whether it runs, not whether it learns."""
    return replace(quickstart(), steps=20, batch=8, draws=2, warmup=5, ema=0.9)


@struct.dataclass
class TrainState:
    """Where training stands.

    Attributes:
      step: optimiser steps done.
      params: parameters.
      ema: averaged parameters, the ones to use.
      opt_state: optimiser.
    """

    step: Int[Array, ""]
    params: PyTree
    ema: PyTree
    opt_state: PyTree


def schedule(train: TrainConfig) -> optax.Schedule:
    """Linear warm-up from peak / (warmup + 1), then a cosine that ends at the last step."""
    first = train.peak_rate / (train.warmup + 1)
    return optax.warmup_cosine_decay_schedule(first, train.peak_rate, train.warmup, train.steps, train.end_rate)


def optimiser(train: TrainConfig) -> optax.GradientTransformation:
    """AdamW behind a clip of the global norm."""
    adamw = optax.adamw(schedule(train), train.beta1, train.beta2, train.eps, weight_decay=train.weight_decay)
    return optax.chain(optax.clip_by_global_norm(train.clip), adamw)


def init_state(config: VlaConfig, train: TrainConfig, params: PyTree | None = None) -> TrainState:
    """A state before the first step, with fresh parameters unless some are given."""
    params = model.init(config, jax.random.key(train.seed)) if params is None else jax.tree.map(jnp.array, params)
    average = jax.tree.map(jnp.array, params)
    return TrainState(jnp.int32(0), params, average, optimiser(train).init(params))


def batch_loss(
    config: VlaConfig, train: TrainConfig, params: PyTree, stats: NormStats, batch: Batch
) -> Float[Array, ""]:
    """The mean flow loss of a batch."""
    inputs = model_inputs(config, stats, batch.pictures, batch.state, batch.prompt, batch.prompt_mask)
    inputs = inputs.replace(state=inputs.state + train.state_noise * batch.state_noise)
    actions = model_actions(config, stats, batch.action_chunks)
    loss = model.flow_loss(config, params, inputs, actions, batch.noise, batch.time)
    if not train.mask_padding:
        return jnp.mean(loss)
    weight = jnp.broadcast_to(batch.chunk_mask, loss.shape)
    return jnp.sum(loss * weight) / jnp.sum(weight)


@partial(jax.jit, static_argnames=("config", "train"), donate_argnames="state")
def train_step(
    config: VlaConfig, train: TrainConfig, stats: NormStats, state: TrainState, batch: Batch
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """One optimiser step; `state` is consumed. Also returns `loss` and `grad_norm`."""
    loss, grads = jax.value_and_grad(lambda p: batch_loss(config, train, p, stats, batch))(state.params)
    updates, opt_state = optimiser(train).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = jax.tree.map(lambda old, new: train.ema * old + (1 - train.ema) * new, state.ema, params)
    metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
    return TrainState(state.step + 1, params, average, opt_state), metrics


def train_steps(
    config: VlaConfig,
    train: TrainConfig,
    state: TrainState,
    data: VlaData,
    count: int,
    on_step: Callable[[int, float], None] | None = None,
) -> tuple[TrainState, dict[str, float]]:
    """Runs `count` steps from where `state` stands; `state` is consumed.

    Args:
      config: sizes of the model.
      train: how to train.
      state: where training stands.
      data: all frames.
      count: steps to run.
      on_step: called with the number of steps done and the loss after each step.

    Returns:
      The new state, and `loss` and `grad_norm` averaged over these steps.
    """
    start, history = int(state.step), []
    for step in range(start, start + count):
        batch = make_batch(config, data, step, batch=train.batch, draws=train.draws, seed=train.seed, most=train.shift)
        state, metrics = train_step(config, train, data.stats, state, batch)
        history.append(metrics)
        if on_step is not None:
            on_step(step + 1, float(metrics["loss"]))
    return state, {k: float(np.mean([m[k] for m in history])) for k in ("loss", "grad_norm")}
