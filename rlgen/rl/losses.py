"""Advantages and losses of PPO over (chunk, denoising step) pairs: functions of arrays, no networks.

A chunk is one step of the environment here: its reward is the sum over its actions. Its advantage belongs to every
denoising step of its chain, discounted towards the noisy end (paper, equations 3 to 5; Ren et al., 2024). Formulas are
held to the numbers of an independent implementation in `tests/rl/test_losses.py`.
"""

import math
from typing import Literal

import chex
import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Shaped

from rlgen.configs.schema import PPOConfig
from rlgen.diffusion.samplers import clamp_log_prob

Clamp = Literal["each", "mean"]


# Of an action, without the gripper's.
ARM = 6


def unsteadiness(
    before: Float[ArrayLike, "B 2 A"], actions: Float[ArrayLike, "B H A"], counts: Float[ArrayLike, " B"]
) -> Float[Array, ""]:
    r"""Computes the mean of $\sum_t \|a_t - 2 a_{t-1} + a_{t-2}\|^2$ of the arm over chunks.

    Actions are velocities that the arm is to have, so that their second differences are the jerk of its path. As a loss
    it has no noise, which a reward for steadiness has: there the noise of exploration is most of it.

    Args:
      before: the last two actions before each chunk; zeros where an episode begins, as the arm stands still there.
      actions: of the chunk, those that are executed.
      counts: weight of each chunk.
    """
    path = jnp.concatenate([jnp.asarray(before), jnp.asarray(actions)], axis=1)[..., :ARM]
    bends = path[:, 2:] - 2 * path[:, 1:-1] + path[:, :-2]
    counts = jnp.asarray(counts)
    return (jnp.square(bends).sum(axis=(1, 2)) * counts).sum() / jnp.maximum(counts.sum(), 1)


def gae(
    reward: Float[ArrayLike, "T N"],
    value: Float[ArrayLike, "T N"],
    next_value: Float[ArrayLike, "T N"],
    terminated: Shaped[ArrayLike, "T N"],
    truncated: Shaped[ArrayLike, "T N"],
    gamma: float,
    lam: float,
) -> tuple[Float[Array, "T N"], Float[Array, "T N"]]:
    r"""Computes generalized advantage estimates (Schulman et al., 2016).

    With $\delta_t = r_t + \gamma V(s_{t+1}) - V(s_t)$, $A_t = \delta_t + \gamma \lambda A_{t+1}$ within an episode.
    After a termination the next value is 0. A truncated episode is worth the critic's value of its final observation,
    not of the one that the next episode begins with. The trace stops at both.

    Args:
      reward: reward of each chunk.
      value: critic at the observation before each chunk.
      next_value: critic at the observation that the chunk led to; where an episode ended, its final observation.
      terminated: the episode ended in the chunk, by success or failure; `next_value` is not read there.
      truncated: the episode was cut off after the chunk. `terminated` wins where both are set.
      gamma: discount of a chunk.
      lam: decay of the trace.

    Returns:
      Advantages, and returns (advantages plus values).
    """
    reward, value, next_value = jnp.asarray(reward), jnp.asarray(value), jnp.asarray(next_value)
    terminated, truncated = jnp.asarray(terminated, bool), jnp.asarray(truncated, bool)
    chex.assert_rank(reward, 2)
    chex.assert_equal_shape([reward, value, next_value, terminated, truncated])
    delta = reward + gamma * jnp.where(terminated, 0, next_value) - value
    keep = gamma * lam * ~(terminated | truncated)

    def step(trace: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, keep = inputs
        trace = delta + keep * trace
        return trace, trace

    _, advantage = jax.lax.scan(step, jnp.zeros_like(delta[0]), (delta, keep), reverse=True)
    return advantage, advantage + value


def ppo_loss(
    log_prob: Float[Array, "B H A"],
    log_prob_old: Float[Array, "B H A"],
    advantage: Float[Array, " B"],
    index: Int[Array, " B"],
    steps: int,
    config: PPOConfig,
    clamp: Clamp = "each",
) -> "SurrogateTerms":
    """Computes the clipped surrogate over a minibatch of pairs.

    Args:
      log_prob: log density of each entry of a transition under the present parameters, not clamped.
      log_prob_old: the same under the parameters that acted.
      advantage: advantage of the chunk that the transition belongs to, raw.
      index: the transition's step of the chain, 0 the noisiest.
      steps: trained steps of the chain, K.
      config: numbers of the loss.
      clamp: as of `chunk_log_prob`.
    """
    weight = advantage_weights(advantage, index, steps, config)
    return surrogate(log_prob, log_prob_old, weight, index, steps, config, clamp)


def left_out(failed: Bool[ArrayLike, "T N"], ended: Bool[ArrayLike, "T N"]) -> Bool[Array, "T N"]:
    """Returns which chunks belong to an episode that failed later in the rollout, or in the chunk itself.

    Args:
      failed: the episode failed in the chunk.
      ended: the episode ended in the chunk, for whatever reason.
    """

    def step(later: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        failed, ended = inputs
        void = failed | (later & ~ended)
        return void, void

    failed, ended = jnp.asarray(failed), jnp.asarray(ended)
    return jax.lax.scan(step, jnp.zeros_like(failed[0]), (failed, ended), reverse=True)[1]


def advantage_weights(
    advantage: Float[Array, " B"],
    index: Int[Array, " B"],
    steps: int,
    config: PPOConfig,
    kept: Bool[Array, " B"] | None = None,
) -> Float[Array, " B"]:
    r"""Returns advantages, normalized within the minibatch, clamped to quantiles, and discounted by denoising step.

    The weight of step k of K is $\gamma_{denoise}^{K - 1 - k} \hat A$.

    Args:
      advantage: of the chunk of each pair, raw.
      index: step k of each pair, 0 the noisiest.
      steps: K.
      config: numbers of the loss.
      kept: pairs that count; the others have weight 0. None for all.
    """
    chex.assert_rank([advantage, index], 1)
    chex.assert_equal_shape([advantage, index])
    if kept is not None:
        # What is not a number does not count below.
        advantage = jnp.where(kept, advantage, jnp.nan)
    if config.normalize_advantage:
        mean, deviation = _moments(advantage, kept)
        advantage = (advantage - mean) / (deviation + 1e-8)
    if config.advantage_quantiles is not None:
        quantile = jnp.quantile if kept is None else jnp.nanquantile
        low, high = quantile(advantage, jnp.asarray(config.advantage_quantiles))
        advantage = jnp.clip(advantage, low, high)
    weight = advantage * jnp.power(config.gamma_denoise, (steps - 1 - index).astype(advantage.dtype))
    return weight if kept is None else jnp.where(kept, weight, 0.0)


def _moments(values: Float[Array, " B"], kept: Bool[Array, " B"] | None) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns mean and standard deviation, over count - 1, of the values that are kept."""
    if kept is None:
        return values.mean(), values.std(ddof=1)
    count = kept.sum()
    mean = jnp.where(kept, values, 0.0).sum() / jnp.maximum(count, 1)
    squares = jnp.where(kept, jnp.square(values - mean), 0.0).sum()
    return mean, jnp.sqrt(squares / jnp.maximum(count - 1, 1))


@struct.dataclass
class SurrogateTerms:
    """The clipped surrogate, and measurements of the ratio.

    Attributes:
      loss: to be minimized.
      clip_fraction: fraction of pairs whose ratio left its clip width.
      approx_kl: mean of ratio - 1 - log(ratio), an estimate of the divergence from the old policy.
      ratio: mean ratio.
    """

    loss: Float[Array, ""]
    clip_fraction: Float[Array, ""]
    approx_kl: Float[Array, ""]
    ratio: Float[Array, ""]


def surrogate(
    log_prob: Float[Array, "B H A"],
    log_prob_old: Float[Array, "B H A"],
    weight: Float[Array, " B"],
    index: Int[Array, " B"],
    steps: int,
    config: PPOConfig,
    clamp: Clamp = "each",
) -> SurrogateTerms:
    r"""Computes $-\min(w \rho, w\, \mathrm{clip}(\rho, 1 - \epsilon_k, 1 + \epsilon_k))$, averaged over pairs.

    Args:
      log_prob: log density of each entry of a transition under the present parameters, not clamped.
      log_prob_old: the same under the parameters that acted.
      weight: of each pair, by `advantage_weights` over the whole minibatch, of which this may be a part.
      index: the transition's step of the chain, 0 the noisiest.
      steps: K.
      config: numbers of the loss.
      clamp: as of `chunk_log_prob`.
    """
    chex.assert_rank([log_prob, log_prob_old], 3)
    chex.assert_equal_shape([log_prob, log_prob_old])
    chex.assert_shape([weight, index], (log_prob.shape[0],))
    now, before = (chunk_log_prob(array, config.action_steps, clamp) for array in (log_prob, log_prob_old))
    change = now - before
    ratio = jnp.exp(change)
    width = clip_width(index, steps, config)
    clipped = jnp.clip(ratio, 1 - width, 1 + width)
    return SurrogateTerms(
        loss=jnp.maximum(-weight * ratio, -weight * clipped).mean(),
        clip_fraction=(jnp.abs(ratio - 1) > width).mean(),
        approx_kl=(ratio - 1 - change).mean(),
        ratio=ratio.mean(),
    )


def clip_width(index: Int[Array, " B"], steps: int, config: PPOConfig) -> Float[Array, " B"]:
    """Returns the clip width of each step: `clip_base` at the noisiest, growing to `clip`; `clip` for a single step.

    Args:
      index: step of each pair, 0 the noisiest.
      steps: K.
      config: `clip`, `clip_base` and `clip_rate` of it.
    """
    if steps == 1:
        return jnp.full(index.shape, config.clip)
    if config.clip_rate == 0:
        fraction = index / (steps - 1)
    else:
        fraction = jnp.expm1(config.clip_rate * index / (steps - 1)) / math.expm1(config.clip_rate)
    return config.clip_base + (config.clip - config.clip_base) * fraction


def chunk_log_prob(
    log_prob: Float[Array, "B H A"], action_steps: int | None = None, clamp: Clamp = "each"
) -> Float[Array, " B"]:
    """Returns the mean log density of the executed entries of a chunk, clamped entry by entry or in the end.

    The mean, not the sum: a clip width then means the same for every length of chunk.

    Args:
      log_prob: log density of each entry.
      action_steps: leading actions that were executed; None for all.
      clamp: whether each entry is clamped, or the mean, as for a Gaussian policy.
    """
    chex.assert_rank(log_prob, 3)
    if clamp == "mean":
        return clamp_log_prob(log_prob[:, :action_steps].mean(axis=(1, 2)))
    return clamp_log_prob(log_prob)[:, :action_steps].mean(axis=(1, 2))


def value_loss(
    value: Float[Array, " B"],
    value_old: Float[Array, " B"],
    returns: Float[Array, " B"],
    config: PPOConfig,
    kept: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """Returns `value_weight` times half the mean squared error of the values.

    With `value_clip` the worse of the error and that of the value clipped around the old one counts.

    Args:
      value: present values.
      value_old: values when the chunk was executed.
      returns: targets.
      config: `value_clip` and `value_weight` of it.
      kept: values that count; the others have an error of 0. None for all.
    """
    chex.assert_equal_shape([value, value_old, returns])
    error = jnp.square(value - returns)
    if config.value_clip is not None:
        near = value_old + jnp.clip(value - value_old, -config.value_clip, config.value_clip)
        error = jnp.maximum(error, jnp.square(near - returns))
    if kept is not None:
        error = jnp.where(kept, error, 0.0)
    return config.value_weight * (0.5 * error.mean())


def bc_regularizer(log_prob: Float[Array, "B H A"], clamp: Clamp = "each") -> Float[Array, ""]:
    """Returns minus the mean clamped log density of transitions that were drawn from the cloned policy.

    The whole chunk counts, executed or not.
    """
    return -chunk_log_prob(log_prob, None, clamp).mean()
