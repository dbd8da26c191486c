"""Advantages over action chunks. A chunk is one step here: its reward is the sum over its actions."""

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from rlgen.diffusion.samplers import clamp_log_prob


def gae(
    reward: Float[Array, "T N"],
    value: Float[Array, "T N"],
    next_value: Float[Array, "T N"],
    terminated: Bool[Array, "T N"],
    truncated: Bool[Array, "T N"],
    gamma: float,
    lam: float,
) -> tuple[Float[Array, "T N"], Float[Array, "T N"]]:
    """Generalised advantage estimation (Schulman et al., 2016).

    An episode that terminated is worth nothing more. One that was cut off is worth what the critic says of the
    observation it was cut off at, not of the one that the next episode begins with. The trace stops at both.

    Args:
      reward: reward of each chunk.
      value: critic at the observation before each chunk.
      next_value: critic at the observation that the chunk led to; where an episode ended, its final observation.
      terminated: the episode ended in the chunk, by success or failure; `next_value` is not read there.
      truncated: the episode was cut off after the chunk. `terminated` wins where both are set.
      gamma: discount a chunk.
      lam: decay of the trace.

    Returns:
      Advantages, and returns (advantages plus values).
    """
    reward, value, next_value = jnp.asarray(reward), jnp.asarray(value), jnp.asarray(next_value)
    terminated, truncated = jnp.asarray(terminated, bool), jnp.asarray(truncated, bool)
    delta = reward + gamma * jnp.where(terminated, 0, next_value) - value
    keep = gamma * lam * ~(terminated | truncated)

    def step(trace, inputs):
        delta, keep = inputs
        trace = delta + keep * trace
        return trace, trace

    _, advantage = jax.lax.scan(step, jnp.zeros_like(delta[0]), (delta, keep), reverse=True)
    return advantage, advantage + value


@dataclass(frozen=True)
class PPOLossConfig:
    """The loss's numbers.

    Attributes:
      clip: clip width of the ratio at the cleanest position.
      clip_base: the same at the noisiest.
      clip_rate: how steeply it grows in between.
      gamma_denoise: factor on the advantage for every position before the cleanest.
      executed: leading actions of the chunk that were executed; None for all.
      clamp: whether the log density of each number is clamped, or their mean, as for a Gaussian policy.
      normalize_advantage: mean 0 and deviation 1 within the minibatch.
      advantage_quantiles: advantages are clamped to these quantiles of the minibatch; None leaves them.
      value_clip: how far the value may move from the old one before it stops counting; None for any.
      value_weight: weight of the value loss.
      bc_weight: weight of the regularisation towards the cloned policy.
      entropy_weight: weight of the policy's entropy.
    """

    clip: float = 0.01
    clip_base: float = 0.001
    clip_rate: float = 3.0
    gamma_denoise: float = 0.99
    executed: int | None = None
    clamp: Literal["each", "mean"] = "each"
    normalize_advantage: bool = True
    advantage_quantiles: tuple[float, float] | None = None
    value_clip: float | None = None
    value_weight: float = 0.5
    bc_weight: float = 0.0
    entropy_weight: float = 0.0


@struct.dataclass
class PPOTerms:
    """What the ratio did.

    Attributes:
      loss: clipped surrogate, to be made small.
      clip_fraction: share of pairs whose ratio left its clip width.
      approx_kl: mean of ratio - 1 - log(ratio), an estimate of the divergence from the old policy.
      ratio: mean ratio.
    """

    loss: Float[Array, ""]
    clip_fraction: Float[Array, ""]
    approx_kl: Float[Array, ""]
    ratio: Float[Array, ""]


def clip_width(index: Int[Array, " B"], steps: int, config: PPOLossConfig) -> Float[Array, " B"]:
    """Clip width at each position: `clip_base` at the noisiest, growing to `clip`; `clip` if there is one only."""
    if steps == 1:
        return jnp.full(index.shape, config.clip)
    if config.clip_rate == 0:
        share = index / (steps - 1)
    else:
        share = jnp.expm1(config.clip_rate * index / (steps - 1)) / math.expm1(config.clip_rate)
    return config.clip_base + (config.clip - config.clip_base) * share


def chunk_log_prob(
    log_prob: Float[Array, "B H A"], executed: int | None = None, clamp: Literal["each", "mean"] = "each"
) -> Float[Array, " B"]:
    """Mean over the executed numbers of the log density of each, clamped one by one or in the end.

    The mean, not the sum: what a clip width means does not depend on the length of the chunk.
    """
    if clamp == "mean":
        return clamp_log_prob(log_prob[:, :executed].mean(axis=(1, 2)))
    return clamp_log_prob(log_prob)[:, :executed].mean(axis=(1, 2))


def weigh_advantage(
    advantage: Float[Array, " B"], index: Int[Array, " B"], steps: int, config: PPOLossConfig
) -> Float[Array, " B"]:
    """Normalised within the minibatch, clamped to its quantiles, and discounted towards the noisy end."""
    if config.normalize_advantage:
        advantage = (advantage - advantage.mean()) / (advantage.std(ddof=1) + 1e-8)
    if config.advantage_quantiles is not None:
        low, high = jnp.quantile(advantage, jnp.asarray(config.advantage_quantiles))
        advantage = jnp.clip(advantage, low, high)
    return advantage * jnp.power(config.gamma_denoise, (steps - 1 - index).astype(advantage.dtype))


def ppo_loss(
    log_prob: Float[Array, "B H A"],
    log_prob_old: Float[Array, "B H A"],
    advantage: Float[Array, " B"],
    index: Int[Array, " B"],
    steps: int,
    config: PPOLossConfig,
) -> PPOTerms:
    """Clipped surrogate over a minibatch of pairs.

    Args:
      log_prob: log density of each number of a transition under the present parameters, not clamped.
      log_prob_old: the same under the parameters that acted.
      advantage: advantage of the chunk that the transition belongs to, raw.
      index: the transition's position in the chain, 0 the noisiest.
      steps: positions of the chain.
      config: the loss's numbers.
    """
    weight = weigh_advantage(advantage, index, steps, config)
    return surrogate(log_prob, log_prob_old, weight, index, steps, config)


def surrogate(
    log_prob: Float[Array, "B H A"],
    log_prob_old: Float[Array, "B H A"],
    weight: Float[Array, " B"],
    index: Int[Array, " B"],
    steps: int,
    config: PPOLossConfig,
) -> PPOTerms:
    """`ppo_loss` of a part of a minibatch: `weight` is what `weigh_advantage` made of the whole of it."""
    now, before = (chunk_log_prob(array, config.executed, config.clamp) for array in (log_prob, log_prob_old))
    change = now - before
    ratio = jnp.exp(change)
    width = clip_width(index, steps, config)
    clipped = jnp.clip(ratio, 1 - width, 1 + width)
    return PPOTerms(
        loss=jnp.maximum(-weight * ratio, -weight * clipped).mean(),
        clip_fraction=(jnp.abs(ratio - 1) > width).mean(),
        approx_kl=(ratio - 1 - change).mean(),
        ratio=ratio.mean(),
    )


def value_loss(
    value: Float[Array, " B"], value_old: Float[Array, " B"], returns: Float[Array, " B"], config: PPOLossConfig
) -> Float[Array, ""]:
    """Half the mean squared error, of the worse of the value and its clipped form where `value_clip` is set."""
    error = jnp.square(value - returns)
    if config.value_clip is not None:
        near = value_old + jnp.clip(value - value_old, -config.value_clip, config.value_clip)
        error = jnp.maximum(error, jnp.square(near - returns))
    return 0.5 * error.mean()


def bc_regularizer(log_prob: Float[Array, "B H A"], clamp: Literal["each", "mean"] = "each") -> Float[Array, ""]:
    """How unlikely transitions drawn from the cloned policy are now: minus their mean clamped log density.

    The whole chunk counts, executed or not.
    """
    return -chunk_log_prob(log_prob, None, clamp).mean()
