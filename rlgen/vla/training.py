"""Fine-tuning a flow VLA on a dataset in memory.

The state is a plain pytree and holds everything that training depends on besides the data and the
configuration: saved and restored, it goes on to the same bits.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, Int, PyTree, UInt32

from rlgen.vla import flow, model
from rlgen.vla.config import VlaConfig
from rlgen.vla.dataset import VlaData
from rlgen.vla.transforms import NormStats, model_actions, model_inputs, random_shift


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
        steps=1500, draws=4, peak_rate=1e-3, end_rate=1e-5, warmup=50, weight_decay=1e-2,
        ema=0.995, shift=2, mask_padding=True,
    )  # fmt: skip


def smoke() -> TrainConfig:
    """For `config.tiny()`: whether it runs, not whether it learns."""
    return replace(quickstart(), steps=20, batch=8, draws=2, warmup=5, ema=0.9)


@struct.dataclass
class TrainState:
    """Where training stands.

    Attributes:
      step: optimiser steps done.
      key: `uint32 [2]`; each step folds its number into it.
      params: parameters.
      ema: averaged parameters, the ones to use.
      opt_state: optimiser.
    """

    step: Int[Array, ""]
    key: UInt32[Array, "2"]
    params: PyTree
    ema: PyTree
    opt_state: PyTree


@struct.dataclass
class Batch:
    """Raw frames of a step; fields as in `VlaData`."""

    pictures: dict[str, Array]
    state: Array
    action_chunks: Array
    chunk_mask: Array
    prompt: Array
    prompt_mask: Array


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
    first, key = jax.random.split(jax.random.PRNGKey(train.seed))
    params = model.init(config, first) if params is None else jax.tree.map(jnp.array, params)
    average = jax.tree.map(jnp.array, params)
    return TrainState(jnp.int32(0), key, params, average, optimiser(train).init(params))


def batch_indices(frames: int, batch: int, seed: int, step: int) -> Int[np.ndarray, " B"]:
    """Frames of a step: each epoch a new permutation, one after the other without gaps.

    It depends on its arguments alone, which makes the place in the data part of `step`.
    """
    at = np.arange(step * batch, (step + 1) * batch)
    out = np.empty(batch, np.int64)
    for epoch in np.unique(at // frames):
        order = np.random.default_rng([seed, int(epoch)]).permutation(frames)
        here = at // frames == epoch
        out[here] = order[at[here] % frames]
    return out


def take(data: VlaData, index: Int[np.ndarray, " B"], cameras: tuple[str, ...]) -> Batch:
    """Frames of the dataset, with the pictures of `cameras` only."""
    return Batch(
        pictures={name: data.pictures[name][index] for name in cameras},
        state=data.state[index],
        action_chunks=data.action_chunks[index],
        chunk_mask=data.chunk_mask[index],
        prompt=data.prompt[index],
        prompt_mask=data.prompt_mask[index],
    )


def batch_loss(
    config: VlaConfig, train: TrainConfig, params: PyTree, stats: NormStats, batch: Batch, key: Array
) -> Float[Array, ""]:
    """The mean flow loss of a batch, augmented and noised by `key`."""
    key_shift, key_noise, key_time = jax.random.split(key, 3)
    shift_keys = jax.random.split(key_shift, len(config.cameras))
    pictures = {
        name: random_shift(k, batch.pictures[name], train.shift)
        for name, k in zip(config.cameras, shift_keys, strict=True)
    }
    inputs = model_inputs(config, stats, pictures, batch.state, batch.prompt, batch.prompt_mask)
    actions = model_actions(config, stats, batch.action_chunks)
    noise = jax.random.normal(key_noise, (train.draws, *actions.shape))
    t = flow.sample_time(key_time, train.draws * len(actions)).reshape(train.draws, -1)
    loss = model.flow_loss(config, params, inputs, actions, noise, t)
    if not train.mask_padding:
        return jnp.mean(loss)
    weight = jnp.broadcast_to(batch.chunk_mask, loss.shape)
    return jnp.sum(loss * weight) / jnp.sum(weight)


@partial(jax.jit, static_argnames=("config", "train"), donate_argnames="state")
def train_step(
    config: VlaConfig, train: TrainConfig, stats: NormStats, state: TrainState, batch: Batch
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """One optimiser step; `state` is consumed. Also returns `loss` and `grad_norm`."""
    key = jax.random.fold_in(state.key, state.step)
    loss, grads = jax.value_and_grad(lambda p: batch_loss(config, train, p, stats, batch, key))(state.params)
    updates, opt_state = optimiser(train).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = jax.tree.map(lambda old, new: train.ema * old + (1 - train.ema) * new, state.ema, params)
    metrics = {"loss": loss, "grad_norm": optax.global_norm(grads)}
    return TrainState(state.step + 1, state.key, params, average, opt_state), metrics


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
        batch = take(data, batch_indices(len(data), train.batch, train.seed, step), config.cameras)
        state, metrics = train_step(config, train, data.stats, state, batch)
        history.append(metrics)
        if on_step is not None:
            on_step(step + 1, float(metrics["loss"]))
    return state, {k: float(np.mean([m[k] for m in history])) for k in ("loss", "grad_norm")}
