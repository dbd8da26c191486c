"""From a rollout to what the update learns from: scaled rewards and advantages."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rlgen.configs.schema import PPOConfig
from rlgen.libero.envs.image_observer import Observe, observe_vector
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.policies.base import Observed, Policy
from rlgen.policies.critic import Critic
from rlgen.rl import losses
from rlgen.rl.losses import gae
from rlgen.rl.numerics import check_finite, check_update, first_nonfinite
from rlgen.rl.rollout import Rollout, collect
from rlgen.rl.train_state import (
    PPOState,
    actor_optimizer,
    critic_optimizer,
    minibatch_shape,
    policy_params,
    scale_rewards,
)
from rlgen.training.gradients import parts_of, value_and_grad_in_parts


@struct.dataclass
class Samples:
    """M chunks for the update.

    Attributes:
      advantage: not yet normalised.
      returns: what the critic is to predict, in scaled reward.
      value: what it predicted.
      teacher: chains of the cloned policy, where there is a loss towards it.
    """

    observation: Observed
    chain: Float[Array, "M K+1 H A"]
    log_prob: Float[Array, "M K H A"]
    advantage: Float[Array, " M"]
    returns: Float[Array, " M"]
    value: Float[Array, " M"]
    teacher: Float[Array, "M K+1 H A"] | None = None


@struct.dataclass
class Minibatch:
    """Chunks and some positions of each of their chains: `b` chunks, `k` positions."""

    observation: Observed
    index: Int[Array, "b k"]
    before: Float[Array, "b k H A"]
    after: Float[Array, "b k H A"]
    log_prob: Float[Array, "b k H A"]
    weight: Float[Array, "b k"]
    returns: Float[Array, " b"]
    value: Float[Array, " b"]
    teacher: tuple[Float[Array, "b k H A"], Float[Array, "b k H A"]] | None


def iterate(
    policy: Policy,
    critic: Critic,
    config: PPOConfig,
    state: PPOState,
    pool: VectorEnv,
    seed: int,
    on_chunk: Callable[[int], None] | None = None,
    look: Observe = observe_vector,
) -> tuple[PPOState, dict[str, float]]:
    """One iteration: play, estimate advantages, update. The state that goes in is used up.

    Args:
      seed: of the initial states; together with the iteration's number it says which are played.
      on_chunk: hears after every chunk how many have been played.
      look: what the policy is shown.

    Returns:
      The state, and the iteration's metrics.

    Raises:
      Broken: something is not finite or far too large; the message says what was the first.
    """
    begin = time.perf_counter()
    rollout = collect(policy, critic, config, state, pool, look, seed, on_chunk)
    start = time.perf_counter()
    state, samples = prepare(policy, config, state, rollout)
    state, metrics = update(policy, critic, config, state, samples)
    metrics = {name: float(value) for name, value in metrics.items()}
    check_update(int(metrics.pop("fault")), int(metrics.pop("fault_minibatch")))
    seconds = rollout.seconds | {"update": time.perf_counter() - start}
    return finish(state, metrics, rollout, seconds, time.perf_counter() - begin)


def finish(
    state: PPOState, metrics: dict[str, float], rollout: Rollout, seconds: dict[str, float], total: float
) -> tuple[PPOState, dict[str, float]]:
    """Counts the iteration, and says where its time went; waiting is what is none of the others."""
    steps = int(state.control_steps) + rollout.control_steps
    state = state.replace(iteration=state.iteration + 1, control_steps=jnp.asarray(steps, jnp.int32))
    seconds = seconds | {"waiting": max(0.0, total - sum(seconds.values()))}
    metrics |= {
        "success": first_episode_success(rollout.terminated, rollout.truncated),
        "control_steps": steps,
        **{f"seconds_{name}": value for name, value in seconds.items()},
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


def prepare(policy: Policy, config: PPOConfig, state: PPOState, rollout: Rollout) -> tuple[PPOState, Samples]:
    """Scales rewards and estimates advantages; what was cut off is worth its final observation's value.

    Raises:
      Broken: one of them is not finite.
    """
    first = np.ones(rollout.reward.shape, bool)
    first[1:] = (rollout.terminated | rollout.truncated)[:-1]
    scaler, reward = scale_rewards(state.scaler, jnp.asarray(rollout.reward, jnp.float32), first, config.gamma)
    advantage, returns = gae(
        reward,
        rollout.value,
        rollout.next_value,
        rollout.terminated,
        rollout.truncated,
        config.gamma,
        config.gae_lambda,
    )
    check_finite(scaled_reward=reward, advantage=advantage, returns=returns)

    def flat(array: Array) -> Array:
        array = np.asarray(array)
        # Pictures stay bytes; anything else is single precision.
        array = array if array.dtype == np.uint8 else array.astype(np.float32)
        return jnp.asarray(array.reshape(-1, *array.shape[2:]))

    arrays = (rollout.observation, rollout.chain, rollout.log_prob, advantage, returns, rollout.value)
    samples = Samples(*jax.tree.map(flat, arrays))
    if config.bc_weight > 0:
        key = jax.random.fold_in(jax.random.fold_in(state.key, 2), state.iteration)
        samples = samples.replace(teacher=_teach(policy, state, key, samples.observation))
    return state.replace(scaler=scaler), samples


@partial(jax.jit, static_argnames="policy")
def _teach(policy: Policy, state: PPOState, key: PRNGKeyArray, observation: Observed) -> Float[Array, "M K+1 H A"]:
    """A chain of the cloned policy for each observation."""
    params = {**policy_params(state), "net": state.base}

    def one(inputs: tuple[Observed, PRNGKeyArray]) -> Array:
        row, key = inputs
        return policy.sample(params, key, jax.tree.map(lambda array: array[None], row)).chain[0]

    count = jax.tree.leaves(observation)[0].shape[0]
    return jax.lax.map(one, (observation, jax.random.split(key, count)), batch_size=min(count, 256))


def run_update(
    policy: Policy, critic: Critic, config: PPOConfig, state: PPOState, samples: Samples
) -> tuple[PPOState, dict[str, Array]]:
    """All epochs of an iteration; stops early where the policy has moved further than `target_kl`.

    A function of arrays alone, so that it can be compiled, or mapped over experts first.

    Returns:
      The state, and means over the last epoch's minibatches; `epochs` done, and where something broke, `fault` (see
      `health.first_fault`) and the `fault_minibatch` of the iteration in which it did.
    """
    key = jax.random.fold_in(jax.random.fold_in(state.key, 1), state.iteration)
    train_actor = state.iteration >= config.critic_warmup

    def epoch(carry):
        number, state, broken, _ = carry
        return _epoch(policy, critic, config, state, samples, jax.random.fold_in(key, number), train_actor, broken)

    def step(carry):
        state, broken, metrics = epoch(carry)
        return carry[0] + 1, state, broken, metrics

    def goes_on(carry):
        number, _, broken, metrics = carry
        near = True if config.target_kl is None else (number == 0) | (metrics["approx_kl"] <= config.target_kl)
        return (number < config.epochs) & near & (broken[0] == 0)

    start = (jnp.zeros((), jnp.int32), state, (jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)))
    shapes = jax.eval_shape(lambda state: epoch((*start[:1], state, start[2], None))[2], state)
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    epochs, state, (fault, minibatch), metrics = jax.lax.while_loop(goes_on, step, (*start, blank))
    return state, {**metrics, "epochs": epochs, "fault": fault, "fault_minibatch": minibatch}


update = partial(jax.jit, static_argnums=(0, 1, 2), donate_argnames=("state",))(run_update)
"""`run_update`, compiled; the state that goes in is used up."""


def _epoch(
    policy: Policy,
    critic: Critic,
    config: PPOConfig,
    state: PPOState,
    samples: Samples,
    key: PRNGKeyArray,
    train_actor: Bool[Array, ""],
    broken: tuple[Array, Array],
) -> tuple[PPOState, tuple[Array, Array], dict[str, Array]]:
    """One pass over all pairs in a new order; `broken` is the first fault and how many minibatches went before."""
    chunks, steps = samples.advantage.shape[0], policy.chain_steps
    count, rows, together = minibatch_shape(config, policy, chunks)
    order = jax.random.permutation(key, chunks * steps // together)[: count * rows].reshape(count, rows)

    def minibatch(carry, drawn: Int[Array, " b"]):
        state, (fault, done) = carry
        if together == steps:
            row, index = drawn, jnp.broadcast_to(jnp.arange(steps), (rows, steps))
        else:
            row, index = drawn // steps, (drawn % steps)[:, None]
        picked = pick(policy, config, samples, row, index)
        state, metrics, found = _step(policy, critic, config, state, picked, train_actor)
        done = done + (fault == 0)
        return (state, (jnp.where(fault == 0, found, fault), done)), metrics

    (state, broken), metrics = jax.lax.scan(minibatch, (state, broken), order)
    return state, broken, jax.tree.map(jnp.mean, metrics)


def pick(
    policy: Policy, config: PPOConfig, samples: Samples, rows: Int[Array, " b"], index: Int[Array, "b k"]
) -> Minibatch:
    """Chunks `rows` and positions `index` of their chains, with advantages weighed within the minibatch."""
    at, steps = rows[:, None], policy.chain_steps
    advantage = jnp.broadcast_to(samples.advantage[rows][:, None], index.shape)
    weight = losses.weigh_advantage(advantage.ravel(), index.ravel(), steps, loss_config(policy, config))
    teacher = samples.teacher
    return Minibatch(
        observation=jax.tree.map(lambda array: array[rows], samples.observation),
        index=index,
        before=samples.chain[at, index],
        after=samples.chain[at, index + 1],
        log_prob=samples.log_prob[at, index],
        weight=weight.reshape(index.shape),
        returns=samples.returns[rows],
        value=samples.value[rows],
        teacher=None if teacher is None else (teacher[at, index], teacher[at, index + 1]),
    )


def minibatch_loss(
    policy: Policy, critic: Critic, config: PPOConfig, state: PPOState, trained: dict[str, Any], batch: Minibatch
) -> tuple[Array, dict[str, Array]]:
    """Loss of `trained`, the policy's `net` and the `critic`; observations are encoded once for all positions."""
    numbers, together = loss_config(policy, config), batch.index.shape[1]
    params = {**policy_params(state), "net": trained["net"]}
    code = policy.encode(params, batch.observation)
    many = code if together == 1 else jnp.repeat(code, together, axis=0)
    index = batch.index.ravel()

    def density(before: Array, after: Array) -> Float[Array, "P H A"]:
        shape = (-1, *before.shape[2:])
        return policy.log_prob_from(params, many, before.reshape(shape), after.reshape(shape), index)

    log_prob = density(batch.before, batch.after)
    old, weight = batch.log_prob.reshape(log_prob.shape), batch.weight.ravel()
    terms = losses.surrogate(log_prob, old, weight, index, policy.chain_steps, numbers)
    value = critic.value(trained["critic"], critic.inputs(params, batch.observation, code))
    error = losses.value_loss(value, batch.value, batch.returns, numbers)
    entropy = policy.entropy(params, code)
    total = terms.loss + error - numbers.entropy_weight * entropy
    metrics = {
        "policy_loss": terms.loss,
        "clip_fraction": terms.clip_fraction,
        "approx_kl": terms.approx_kl,
        "ratio": terms.ratio,
        "entropy": entropy,
        "value_loss": error,
        "log_prob": log_prob.mean(),
        "value": value.mean(),
    }
    if batch.teacher is not None:
        metrics["bc_loss"] = losses.bc_regularizer(density(*batch.teacher), numbers.clamp)
        total += numbers.bc_weight * metrics["bc_loss"]
    return total, metrics


def _step(
    policy: Policy, critic: Critic, config: PPOConfig, state: PPOState, batch: Minibatch, train_actor: Bool[Array, ""]
) -> tuple[PPOState, dict[str, Array], Int[Array, ""]]:
    """One minibatch: the state after it, its metrics, and the first fault."""
    rows = batch.index.shape[0]
    largest = rows if config.largest_part is None else max(1, config.largest_part // batch.index.shape[1])
    loss = partial(minibatch_loss, policy, critic, config, state)
    trained = {"net": state.net, "critic": state.critic}
    (_, metrics), grads = value_and_grad_in_parts(loss, trained, batch, parts_of(rows, largest))
    updates, memory = actor_optimizer(config, policy).update(grads["net"], state.actor_optimizer, state.net)
    moved = (optax.apply_updates(state.net, updates), memory)
    # A choice and not a branch: one program serves the critic's warm-up and what follows.
    net, memory = jax.tree.map(
        lambda new, old: jnp.where(train_actor, new, old), moved, (state.net, state.actor_optimizer)
    )
    state = state.replace(net=net, actor_optimizer=memory)
    updates, memory = critic_optimizer(config, policy).update(grads["critic"], state.critic_optimizer, state.critic)
    state = state.replace(critic=optax.apply_updates(state.critic, updates), critic_optimizer=memory)
    metrics |= {
        "actor_grad_norm": optax.tree.norm(grads["net"]),
        "critic_grad_norm": optax.tree.norm(grads["critic"]),
    }
    sizes = {"policy_parameters": optax.tree.norm(state.net), "critic_parameters": optax.tree.norm(state.critic)}
    return state, metrics, first_nonfinite(metrics | sizes)


def loss_config(policy: Policy, config: PPOConfig) -> losses.PPOLossConfig:
    """The loss's numbers."""
    return losses.PPOLossConfig(
        clip=config.clip,
        clip_base=config.clip_base,
        clip_rate=config.clip_rate,
        gamma_denoise=config.gamma_denoise,
        executed=config.executed,
        clamp=policy.clamp,
        value_clip=config.value_clip,
        bc_weight=config.bc_weight,
        entropy_weight=config.entropy_weight,
    )
