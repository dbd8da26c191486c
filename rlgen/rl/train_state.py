"""Learning rates as functions of the step, to be given to optax."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rlgen.configs.schema import PPOConfig
from rlgen.policies.base import Params, Policy
from rlgen.policies.critic import Critic
from rlgen.policies.normalizer import Normalizer

LearningRate = Callable[[Int[Array, ""]], Float[Array, ""]]


def constant(rate: float) -> LearningRate:
    """The same at every step."""
    return lambda step: jnp.full((), rate)


def cosine(peak: float, end: float, steps: int, warmup: int = 0) -> LearningRate:
    """A straight line from `end` to `peak` over `warmup` steps, then half a cosine to `end` at `steps`, then `end`."""
    if not 0 <= warmup < steps:
        raise ValueError(f"{warmup} warm-up steps of {steps}: expected fewer than all, and not below 0")

    def rate(step):
        rising = end + (peak - end) * step / max(warmup, 1)
        part = jnp.clip((step - warmup) / (steps - warmup), 0, 1)
        falling = end + (peak - end) * 0.5 * (1 + jnp.cos(math.pi * part))
        return jnp.where(step < warmup, rising, falling)

    return rate


def cosine_restarts(
    peak: float, end: float, first_cycle: int, warmup: int, growth: float, decay: float, steps: int
) -> LearningRate:
    """Cosine cycles with warm-up; each cycle's falling part is `growth` times longer and its peak `decay` times lower.

    Args:
      peak: highest rate of the first cycle.
      end: lowest rate of every cycle.
      first_cycle: steps of the first cycle, its warm-up included.
      warmup: steps of warm-up of every cycle.
      growth: factor on the falling part's length.
      decay: factor on the peak.
      steps: number of steps to prepare for; later steps stay in the last cycle.
    """
    if not 0 <= warmup < first_cycle:
        raise ValueError(f"{warmup} warm-up steps of {first_cycle}: expected fewer than all, and not below 0")
    starts, lengths = [0], [first_cycle]
    while starts[-1] + lengths[-1] <= steps:
        starts.append(starts[-1] + lengths[-1])
        lengths.append(max(int((lengths[-1] - warmup) * growth), 1) + warmup)
    starts, lengths = np.array(starts), np.array(lengths)
    peaks = peak * decay ** np.arange(len(starts))

    def rate(step):
        cycle = jnp.searchsorted(jnp.asarray(starts), step, side="right") - 1
        inside, top = step - jnp.asarray(starts)[cycle], jnp.asarray(peaks)[cycle]
        part = (inside - warmup) / (jnp.asarray(lengths)[cycle] - warmup)
        rising = end + (top - end) * inside / max(warmup, 1)
        falling = end + (top - end) * 0.5 * (1 + jnp.cos(math.pi * jnp.clip(part, 0, 1)))
        return jnp.where(inside < warmup, rising, falling)

    return rate


@struct.dataclass
class RewardScaler:
    """What the scaler has seen.

    Attributes:
      running: discounted sum of rewards of each environment's present episode.
      mean, variance, count: of all discounted sums so far.
    """

    running: Float[Array, " N"]
    mean: Float[Array, ""]
    variance: Float[Array, ""]
    count: Float[Array, ""]


def init_scaler(environments: int) -> RewardScaler:
    """A scaler that has seen nothing: variance 1 with next to no weight."""
    return RewardScaler(
        running=jnp.zeros(environments), mean=jnp.zeros(()), variance=jnp.ones(()), count=jnp.full((), 1e-4)
    )


def scale_rewards(
    scaler: RewardScaler,
    reward: Float[Array, "T N"],
    first: Bool[Array, "T N"],
    gamma: float = 0.99,
    clip: float = 10.0,
    epsilon: float = 1e-8,
) -> tuple[RewardScaler, Float[Array, "T N"]]:
    """Takes in a rollout, then divides its rewards by the deviation seen so far.

    Args:
      scaler: what was seen before.
      reward: reward of each chunk.
      first: the chunk is the first of its episode.
      gamma: discount of the scaler's own return, which need not be the critic's.
      clip: scaled rewards are clamped to this magnitude.
      epsilon: added to the variance.
    """

    def step(running, inputs):
        reward, first = inputs
        running = reward + gamma * (1 - first) * running
        return running, running

    running, sums = jax.lax.scan(step, scaler.running, (reward, first.astype(reward.dtype)))
    mean, variance, count = _merge(scaler, sums)
    scaled = jnp.clip(reward / jnp.sqrt(variance + epsilon), -clip, clip)
    return RewardScaler(running=running, mean=mean, variance=variance, count=count), scaled


def _merge(scaler: RewardScaler, sums: Float[Array, "T N"]):
    """Moments of what was seen before and of `sums` together (Chan et al.), the variance over count - 1."""
    count = scaler.count + sums.size
    delta = sums.mean() - scaler.mean
    mean = scaler.mean + delta * sums.size / count
    between = delta**2 * scaler.count * sums.size / count
    squares = scaler.variance * scaler.count + sums.var() * sums.size + between
    return mean, squares / (count - 1), count


@struct.dataclass
class PPOState:
    """Everything that training goes on from.

    Attributes:
      net: the policy's parameters.
      critic: the critic's parameters.
      actor_optimizer, critic_optimizer: states of AdamW.
      normalizer: fitted by behaviour cloning, never trained.
      scaler: running statistics of the rewards.
      key: the run's randomness; an iteration uses it folded with its own number.
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
    """Starts from a cloned policy with a fresh critic."""
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
    """Whether the cloned policy is kept beside the trained one."""
    return config.bc_weight > 0 or getattr(policy, "frozen_steps", 0) > 0


def policy_params(state: PPOState) -> Params:
    """The policy's parameters, as the policy takes them."""
    return {"net": state.net, "normalizer": state.normalizer} | ({"base": state.base} if state.base else {})


def actor_optimizer(config: PPOConfig, policy: Policy) -> optax.GradientTransformation:
    """AdamW of the policy, whose schedule begins after the critic's warm-up."""
    return _optimizer(config, policy, config.actor_rate, config.iterations - config.critic_warmup)


def critic_optimizer(config: PPOConfig, policy: Policy) -> optax.GradientTransformation:
    """AdamW of the critic."""
    return _optimizer(config, policy, config.critic_rate, config.iterations)


def minibatch_shape(config: PPOConfig, policy: Policy, chunks: int) -> tuple[int, int, int]:
    """How an epoch over `chunks` chunks is cut.

    Pairs of a chunk and a position of its chain are drawn one by one, or, where encoding is dear, as all positions
    of a chunk at once, so that its pictures are encoded once.

    Returns:
      Minibatches, chunks in each, and positions of each of these.
    """
    together = policy.chain_steps if policy.encodes else 1
    available = chunks * policy.chain_steps // together
    rows = min(max(1, config.batch // together), available)
    return available // rows, rows, together


def _optimizer(config: PPOConfig, policy: Policy, peak: float, iterations: int) -> optax.GradientTransformation:
    """AdamW behind a clip of the global norm; the schedule counts the minibatches of `iterations`."""
    minibatches, _, _ = minibatch_shape(config, policy, config.environments * config.chunks)
    steps = max(1, iterations) * config.epochs * minibatches
    rate = constant(peak) if config.schedule == "constant" else cosine(peak, 0.1 * peak, steps)
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm), optax.adamw(rate, weight_decay=config.weight_decay)
    )
