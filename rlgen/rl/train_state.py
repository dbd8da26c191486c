"""The state of a PPO training: parameters, optimizers, and the scale of rewards."""

import math
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rlgen.configs.schema import PPOConfig
from rlgen.policies.base import Params, Policy
from rlgen.policies.critic import Critic
from rlgen.policies.normalizer import Normalizer


@struct.dataclass
class RewardScaler:
    """Running statistics of the discounted return.

    Attributes:
      running: discounted sum of rewards of each environment's present episode.
      mean: of all discounted sums so far.
      variance: of these sums.
      count: of these sums.
    """

    running: Float[Array, " N"]
    mean: Float[Array, ""]
    variance: Float[Array, ""]
    count: Float[Array, ""]


@struct.dataclass
class PPOState:
    """Everything that training resumes from.

    Attributes:
      net: the policy's parameters.
      critic: the critic's parameters.
      actor_optimizer: state of the policy's AdamW.
      critic_optimizer: state of the critic's AdamW.
      normalizer: fitted by behavior cloning, never trained.
      scaler: running statistics of the rewards.
      key: the run's randomness; an iteration uses it folded with its own index.
      iteration: iterations done.
      control_steps: control steps simulated for training.
      base: the cloned policy's parameters, where the chain or the loss needs them; else an empty dictionary.
    """

    net: Any
    critic: Any
    actor_optimizer: optax.OptState
    critic_optimizer: optax.OptState
    normalizer: Normalizer
    scaler: RewardScaler
    key: PRNGKeyArray
    iteration: Int[Array, ""]
    control_steps: Int[Array, ""]
    base: Any = struct.field(default_factory=dict)


def init_state(key: PRNGKeyArray, policy: Policy, critic: Critic, params: Params, config: PPOConfig) -> PPOState:
    """Returns the state before the first iteration: a cloned policy with a fresh critic.

    Args:
      key: the run's randomness.
      policy: the policy.
      critic: the critic beside it.
      params: the cloned policy's parameters.
      config: of the training.
    """
    key_critic, key_run = jax.random.split(key)
    net = jax.tree.map(jnp.asarray, params["net"])
    values = critic.init(key_critic)
    return PPOState(
        net=net,
        critic=values,
        actor_optimizer=actor_optimizer(config, policy).init(net),
        critic_optimizer=critic_optimizer(config, policy).init(values),
        normalizer=jax.tree.map(jnp.asarray, params["normalizer"]),
        scaler=init_scaler(config.environments),
        key=key_run,
        iteration=jnp.zeros((), jnp.int32),
        control_steps=jnp.zeros((), jnp.int32),
        base=jax.tree.map(jnp.copy, net) if needs_base(policy, config) else {},
    )


def needs_base(policy: Policy, config: PPOConfig) -> bool:
    """Returns whether the cloned policy is kept beside the trained one."""
    return config.bc_weight > 0 or getattr(policy, "num_frozen_steps", 0) > 0


def policy_params(state: PPOState) -> Params:
    """Returns the policy's parameters, as the policy takes them."""
    return {"net": state.net, "normalizer": state.normalizer} | ({"base": state.base} if state.base else {})


def actor_optimizer(config: PPOConfig, policy: Policy) -> optax.GradientTransformation:
    """Returns AdamW for the policy; its schedule begins after the critic's warm-up, or with its moments."""
    rest = 0 if config.warm_moments else config.critic_warmup
    return _optimizer(config, policy, config.actor_learning_rate, config.iterations - rest)


def critic_optimizer(config: PPOConfig, policy: Policy) -> optax.GradientTransformation:
    """Returns AdamW for the critic."""
    return _optimizer(config, policy, config.critic_learning_rate, config.iterations)


def _optimizer(config: PPOConfig, policy: Policy, peak: float, iterations: int) -> optax.GradientTransformation:
    """Returns AdamW behind a clip of the global norm.

    Args:
      config: of the training.
      policy: the policy.
      peak: learning rate.
      iterations: of the first round in which minibatches are counted; of the others they are in all.
    """
    minibatches, _, _ = minibatch_shape(config, policy, config.environments * config.chunks)
    rounds = (max(1, iterations), *(config.iterations,) * (config.rounds - 1))
    rate = _rate(config, peak, [count * config.epochs * minibatches for count in rounds])
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm), optax.adamw(rate, weight_decay=config.weight_decay)
    )


def _rate(config: PPOConfig, peak: float, steps: Sequence[int]) -> optax.Schedule:
    """Returns the learning rate over some rounds of optimizer steps; each begins anew."""
    if config.schedule == "constant":
        return optax.constant_schedule(peak)
    falls = [cosine(peak, 0.1 * peak, count) for count in steps]
    return falls[0] if len(falls) == 1 else optax.join_schedules(falls, np.cumsum(steps[:-1]).tolist())


def minibatch_shape(config: PPOConfig, policy: Policy, chunks: int) -> tuple[int, int, int]:
    """Returns how an epoch over `chunks` chunks is divided.

    Pairs of a chunk and a denoising step are drawn one by one, or, for a policy with images, as all steps of a chunk at
    once, so that its images are encoded once.

    Args:
      config: of the training.
      policy: the policy.
      chunks: M, of all environments together.

    Returns:
      Minibatches, chunks in each, and denoising steps of each of these.
    """
    together = policy.num_trained_steps if policy.has_images else 1
    available = chunks * policy.num_trained_steps // together
    rows = min(max(1, config.batch // together), available)
    return available // rows, rows, together


def cosine(peak: float, end: float, steps: int, warmup: int = 0) -> optax.Schedule:
    """Returns a learning rate that rises linearly from `end` to `peak`, then falls as half a cosine to `end`.

    Not `optax.warmup_cosine_decay_schedule`, whose values differ from these in the last bit.

    Args:
      peak: highest rate.
      end: rate at the beginning and from `steps` on.
      steps: optimizer steps until `end` is reached.
      warmup: optimizer steps of the rise.
    """
    if not 0 <= warmup < steps:
        raise ValueError(f"{warmup} warm-up steps of {steps}: expected fewer than all, and not below 0")

    def rate(step: ArrayLike) -> Float[Array, ""]:
        rising = end + (peak - end) * step / max(warmup, 1)
        fraction = jnp.clip((step - warmup) / (steps - warmup), 0, 1)
        falling = end + (peak - end) * 0.5 * (1 + jnp.cos(math.pi * fraction))
        return jnp.where(jnp.less(step, warmup), rising, falling)

    return rate


def init_scaler(environments: int) -> RewardScaler:
    """Returns a scaler without data: variance 1 with next to no weight."""
    # Of a type as a checkpoint has it, for which nothing is traced again.
    count = jnp.full((), 1e-4, jnp.zeros(()).dtype)
    return RewardScaler(running=jnp.zeros(environments), mean=jnp.zeros(()), variance=jnp.ones(()), count=count)


def scale_rewards(
    scaler: RewardScaler,
    reward: Float[Array, "T N"],
    first: Bool[ArrayLike, "T N"],
    gamma: float = 0.99,
    clip: float = 10.0,
    epsilon: float = 1e-8,
) -> tuple[RewardScaler, Float[Array, "T N"]]:
    """Updates the statistics with a rollout, then divides its rewards by the standard deviation so far.

    Args:
      scaler: statistics before.
      reward: reward of each chunk.
      first: the chunk is the first of its episode.
      gamma: discount of the scaler's own return, which need not be the critic's.
      clip: scaled rewards are clamped to this magnitude.
      epsilon: added to the variance.
    """
    chex.assert_rank([reward, first], 2)
    chex.assert_equal_shape([reward, first])

    def step(running: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, first = inputs
        running = reward + gamma * (1 - first) * running
        return running, running

    running, sums = jax.lax.scan(step, scaler.running, (reward, jnp.asarray(first, reward.dtype)))
    mean, variance, count = _merge(scaler, sums)
    scaled = jnp.clip(reward / jnp.sqrt(variance + epsilon), -clip, clip)
    return RewardScaler(running=running, mean=mean, variance=variance, count=count), scaled


def _merge(scaler: RewardScaler, sums: Float[Array, "T N"]):
    """Returns the moments of earlier sums and `sums` together (Chan et al., 1979), the variance over count - 1."""
    count = scaler.count + sums.size
    delta = sums.mean() - scaler.mean
    mean = scaler.mean + delta * sums.size / count
    between = delta**2 * scaler.count * sums.size / count
    squares = scaler.variance * scaler.count + sums.var() * sums.size + between
    return mean, squares / (count - 1), count
