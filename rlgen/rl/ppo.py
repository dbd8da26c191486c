"""PPO over the denoising chain: an iteration is collect, advantages, epochs.

Every (chunk, denoising step) pair is a sample of the update; the advantage belongs to the chunk and is
discounted towards the noisy end of its chain (paper, equations 3 to 5). Every iteration begins with new
episodes, so that a run resumes from its parameters alone.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rlgen.config import PPOConfig
from rlgen.libero.pool import Pool
from rlgen.policies.critic import Critic
from rlgen.policies.diffusion_policy import DiffusionPolicy, Params
from rlgen.policies.normalizer import Normalizer
from rlgen.rl import losses
from rlgen.rl.returns import gae
from rlgen.rl.scaling import RewardScaler, init_scaler, scale_rewards
from rlgen.rl.schedules import constant, cosine


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


@dataclass(frozen=True)
class Rollout:
    """T chunks of N environments, as they were played; arrays are `[T, N, ...]`."""

    observation: Float[np.ndarray, "T N O"]
    final_observation: Float[np.ndarray, "T N O"]
    chain: Float[np.ndarray, "T N K+1 H A"]
    log_prob: Float[np.ndarray, "T N K H A"]
    reward: Float[np.ndarray, "T N"]
    terminated: Bool[np.ndarray, "T N"]
    truncated: Bool[np.ndarray, "T N"]
    control_steps: int
    seconds: dict[str, float]


@struct.dataclass
class Samples:
    """M chunks for the update.

    Attributes:
      advantage: not yet normalised.
      returns: what the critic is to predict, in scaled reward.
      value: what it predicted.
    """

    observation: Float[Array, "M O"]
    chain: Float[Array, "M K+1 H A"]
    log_prob: Float[Array, "M K H A"]
    advantage: Float[Array, " M"]
    returns: Float[Array, " M"]
    value: Float[Array, " M"]


def init_state(
    key: PRNGKeyArray, policy: DiffusionPolicy, critic: Critic, params: Params, config: PPOConfig
) -> PPOState:
    """Starts from a cloned policy with a fresh critic on the same normaliser."""
    key_critic, key_run = jax.random.split(key)
    net = jax.tree.map(jnp.asarray, params["net"])
    values = critic.init(key_critic, params["normalizer"])["net"]
    return PPOState(
        net=net,
        critic=values,
        actor_optimizer=_actor_optimizer(config, policy).init(net),
        critic_optimizer=_critic_optimizer(config, policy).init(values),
        normalizer=jax.tree.map(jnp.asarray, params["normalizer"]),
        scaler=init_scaler(config.environments),
        key=key_run,
        iteration=jnp.zeros((), jnp.int32),
        control_steps=jnp.zeros((), jnp.int32),
    )


def policy_params(state: PPOState) -> Params:
    """The policy's parameters, as the policy takes them."""
    return {"net": state.net, "normalizer": state.normalizer}


def iterate(
    policy: DiffusionPolicy,
    critic: Critic,
    config: PPOConfig,
    state: PPOState,
    pool: Pool,
    seed: int,
    on_chunk: Callable[[int], None] | None = None,
) -> tuple[PPOState, dict[str, float]]:
    """One iteration: play, estimate advantages, update.

    Args:
      seed: of the initial states; together with the iteration's number it says which are played.
      on_chunk: hears after every chunk how many have been played.

    Returns:
      The state, and the iteration's metrics.
    """
    rollout = collect(policy, config, state, pool, seed, on_chunk)
    start = time.perf_counter()
    state, samples = prepare(critic, config, state, rollout)
    state, metrics = update(policy, critic, config, state, samples)
    metrics = {name: float(value) for name, value in metrics.items()}
    steps = int(state.control_steps) + rollout.control_steps
    state = state.replace(iteration=state.iteration + 1, control_steps=jnp.asarray(steps, jnp.int32))
    metrics |= {
        "success": first_episode_success(rollout.terminated, rollout.truncated),
        "control_steps": steps,
        **{f"seconds_{name}": value for name, value in rollout.seconds.items()},
        "seconds_update": time.perf_counter() - start,
    }
    return state, metrics


def first_episode_success(terminated: Bool[np.ndarray, "T N"], truncated: Bool[np.ndarray, "T N"]) -> float:
    """Share of environments whose first episode of the rollout reached the goal; unfinished ones did not.

    Later episodes are left out: a success is short, so that counting all would favour successes.
    """
    ended = terminated | truncated
    first = np.argmax(ended, axis=0)
    columns = np.arange(ended.shape[1])
    return float((ended.any(axis=0) & terminated[first, columns]).mean())


def collect(
    policy: DiffusionPolicy,
    config: PPOConfig,
    state: PPOState,
    pool: Pool,
    seed: int,
    on_chunk: Callable[[int], None] | None = None,
) -> Rollout:
    """Plays `config.chunks` chunks in every environment, with exploration."""
    iteration = int(state.iteration)
    random = np.random.default_rng((seed, iteration))
    key = jax.random.fold_in(state.key, iteration)
    params, placements = policy_params(state), pool.scenes[0].placements

    def draw() -> np.ndarray:
        return placements[random.integers(0, len(placements), pool.count)]

    clock = {"environment": 0.0, "sampler": 0.0}
    start = time.perf_counter()
    observation = pool.reset(draw())
    clock["environment"] += time.perf_counter() - start
    rows: list[tuple] = []
    control_steps = 0
    for number in range(config.chunks):
        start = time.perf_counter()
        sample = _sample(policy, params, jax.random.fold_in(key, number), observation.vector)
        chunk = np.asarray(sample.chunk)
        clock["sampler"] += time.perf_counter() - start
        start = time.perf_counter()
        result = pool.step(chunk, replacements=draw())
        clock["environment"] += time.perf_counter() - start
        seen, final = observation.vector, result.final_observation.vector
        outcome = (result.reward, result.terminated, result.truncated)
        rows.append((seen, final, sample.chain, sample.log_prob, *outcome))
        control_steps += int(result.steps.sum())
        observation = result.observation
        if on_chunk is not None:
            on_chunk(number + 1)
    return Rollout(*(np.stack(column) for column in zip(*rows, strict=True)), control_steps, clock)


@partial(jax.jit, static_argnames="policy")
def _sample(policy: DiffusionPolicy, params: Params, key: PRNGKeyArray, observation: Float[Array, "N O"]):
    return policy.sample(params, key, observation)


def prepare(critic: Critic, config: PPOConfig, state: PPOState, rollout: Rollout) -> tuple[PPOState, Samples]:
    """Scales rewards and estimates advantages; what was cut off is worth its final observation's value."""
    params = {"net": state.critic, "normalizer": state.normalizer}
    value = _values(critic, params, rollout.observation)
    final_value = _values(critic, params, rollout.final_observation)
    first = np.ones(rollout.reward.shape, bool)
    first[1:] = (rollout.terminated | rollout.truncated)[:-1]
    scaler, reward = scale_rewards(state.scaler, jnp.asarray(rollout.reward, jnp.float32), first, config.gamma)
    advantage, returns = gae(
        reward, value, final_value, rollout.terminated, rollout.truncated, config.gamma, config.gae_lambda
    )
    flat = jax.tree.map(
        lambda x: jnp.asarray(x, jnp.float32).reshape(-1, *x.shape[2:]),
        Samples(rollout.observation, rollout.chain, rollout.log_prob, advantage, returns, value),
    )
    return state.replace(scaler=scaler), flat


@partial(jax.jit, static_argnames="critic")
def _values(critic: Critic, params: Params, observation: Float[Array, "T N O"]) -> Float[Array, "T N"]:
    return critic.value(params, observation)


def update(
    policy: DiffusionPolicy, critic: Critic, config: PPOConfig, state: PPOState, samples: Samples
) -> tuple[PPOState, dict[str, Array]]:
    """All epochs of an iteration; stops early where the policy has moved further than `target_kl`."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, 1), state.iteration)
    train_actor = state.iteration >= config.critic_warmup
    metrics: dict[str, Array] = {}
    for epoch in range(config.epochs):
        state, metrics = _epoch(policy, critic, config, state, samples, jax.random.fold_in(key, epoch), train_actor)
        if config.target_kl is not None and float(metrics["approx_kl"]) > config.target_kl:
            break
    return state, {**metrics, "epochs": jnp.asarray(epoch + 1)}


@partial(jax.jit, static_argnames=("policy", "critic", "config"))
def _epoch(
    policy: DiffusionPolicy,
    critic: Critic,
    config: PPOConfig,
    state: PPOState,
    samples: Samples,
    key: PRNGKeyArray,
    train_actor: Bool[Array, ""],
) -> tuple[PPOState, dict[str, Array]]:
    chunks, steps = samples.advantage.shape[0], policy.chain_steps
    batch = min(config.batch, chunks * steps)
    count = chunks * steps // batch
    order = jax.random.permutation(key, chunks * steps)[: count * batch].reshape(count, batch)

    def minibatch(state: PPOState, pairs: Int[Array, " B"]) -> tuple[PPOState, dict[str, Array]]:
        return _step(policy, critic, config, state, samples, pairs // steps, pairs % steps, train_actor)

    state, metrics = jax.lax.scan(minibatch, state, order)
    return state, jax.tree.map(jnp.mean, metrics)


def _step(
    policy: DiffusionPolicy,
    critic: Critic,
    config: PPOConfig,
    state: PPOState,
    samples: Samples,
    rows: Int[Array, " B"],
    index: Int[Array, " B"],
    train_actor: Bool[Array, ""],
) -> tuple[PPOState, dict[str, Array]]:
    """One minibatch: pairs of chunk `rows` and chain position `index`."""
    numbers = _loss_config(config)
    observation = samples.observation[rows]
    previous, following = samples.chain[rows, index], samples.chain[rows, index + 1]

    def actor_loss(net: Any) -> tuple[Array, losses.PPOTerms]:
        params = {"net": net, "normalizer": state.normalizer}
        log_prob = policy.log_prob(params, observation, previous, following, index)
        old, advantage = samples.log_prob[rows, index], samples.advantage[rows]
        terms = losses.ppo_loss(log_prob, old, advantage, index, policy.chain_steps, numbers)
        return terms.loss, terms

    def critic_loss(values: Any) -> Array:
        value = critic.value({"net": values, "normalizer": state.normalizer}, observation)
        return losses.value_loss(value, samples.value[rows], samples.returns[rows], numbers)

    (_, terms), actor_grads = jax.value_and_grad(actor_loss, has_aux=True)(state.net)
    error, critic_grads = jax.value_and_grad(critic_loss)(state.critic)
    updates, memory = _actor_optimizer(config, policy).update(actor_grads, state.actor_optimizer, state.net)
    moved = (optax.apply_updates(state.net, updates), memory)
    # A choice and not a branch: one program serves the critic's warm-up and what follows.
    net, memory = jax.tree.map(
        lambda new, old: jnp.where(train_actor, new, old), moved, (state.net, state.actor_optimizer)
    )
    state = state.replace(net=net, actor_optimizer=memory)
    updates, memory = _critic_optimizer(config, policy).update(critic_grads, state.critic_optimizer, state.critic)
    state = state.replace(critic=optax.apply_updates(state.critic, updates), critic_optimizer=memory)
    return state, {
        "policy_loss": terms.loss,
        "clip_fraction": terms.clip_fraction,
        "approx_kl": terms.approx_kl,
        "ratio": terms.ratio,
        "value_loss": error,
        "actor_grad_norm": optax.tree.norm(actor_grads),
    }


def _loss_config(config: PPOConfig) -> losses.PPOLossConfig:
    return losses.PPOLossConfig(
        clip=config.clip,
        clip_base=config.clip_base,
        clip_rate=config.clip_rate,
        gamma_denoise=config.gamma_denoise,
    )


def _actor_optimizer(config: PPOConfig, policy: DiffusionPolicy) -> optax.GradientTransformation:
    return _optimizer(config, policy, config.actor_rate, config.iterations - config.critic_warmup)


def _critic_optimizer(config: PPOConfig, policy: DiffusionPolicy) -> optax.GradientTransformation:
    return _optimizer(config, policy, config.critic_rate, config.iterations)


def _optimizer(
    config: PPOConfig, policy: DiffusionPolicy, peak: float, iterations: int
) -> optax.GradientTransformation:
    """AdamW behind a clip of the global norm; the schedule counts the minibatches of `iterations`."""
    pairs = config.environments * config.chunks * policy.chain_steps
    minibatches = max(1, iterations) * config.epochs * (pairs // min(config.batch, pairs))
    rate = constant(peak) if config.schedule == "constant" else cosine(peak, 0.1 * peak, minibatches)
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm), optax.adamw(rate, weight_decay=config.weight_decay)
    )
