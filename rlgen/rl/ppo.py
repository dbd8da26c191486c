"""PPO over action chunks: `iterate` collects a rollout, estimates advantages and updates policy and critic.

The same algorithm trains diffusion and Gaussian policies, on vectors and on images. Every sample is a pair of a chunk
and a step of the chain that denoised it (paper, equations 3 to 5). Every iteration begins with new episodes, so that a
run resumes from its state alone.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rlgen.configs.schema import PPOConfig
from rlgen.core.arrays import AnyArray
from rlgen.libero.envs.device_world import DeviceWorld
from rlgen.libero.envs.image_observer import Observe, observe_vector
from rlgen.policies.base import Policy, PolicyObservation
from rlgen.policies.critic import Critic
from rlgen.rl import losses
from rlgen.rl.device import CHECKED, collect_on_device, draw_rows
from rlgen.rl.numerics import NonFiniteError, check_update, first_nonfinite
from rlgen.rl.rollout import EpisodeEnds, RolloutEnv, collect
from rlgen.rl.samples import ESTIMATES, Samples, prepare, prepare_on_device
from rlgen.rl.train_state import PPOState, actor_optimizer, critic_optimizer, minibatch_shape, policy_params
from rlgen.training.gradients import parts_of, value_and_grad_in_parts
from rlgen.training.sharding import check_divides, cut_rows, cut_state, take_rows


def iterate(
    policy: Policy,
    critic: Critic,
    config: PPOConfig,
    state: PPOState,
    env: RolloutEnv | DeviceWorld,
    seed: int,
    on_chunk: Callable[[int], None] | None = None,
    observe: Observe = observe_vector,
    mesh: Mesh | None = None,
) -> tuple[PPOState, dict[str, float]]:
    """Runs one iteration: rollout, advantages, update. The state that goes in is used up.

    On several devices the numbers are those of one, to rounding; every process of a mesh calls it. With a world on an
    accelerator all of it is one compiled program, on one device.

    Args:
      policy: the policy.
      critic: the critic.
      config: of the training.
      state: of the training; on a mesh, as `training.sharding.state_shardings` places it.
      env: `config.environments` environments, or this process's of them (`rollout.environments_here`).
      seed: of the reset states; together with the iteration it decides which are used.
      on_chunk: called after every chunk of the rollout with how many there have been; after the last one alone, where
        the iteration is one program.
      observe: makes the policy's observations.
      mesh: devices over which environments and minibatches are divided.

    Returns:
      The new state, and the iteration's metrics, of all environments but for the seconds.

    Raises:
      NonFiniteError: something is not finite or far too large; the message names what was the first.
    """
    if isinstance(env, DeviceWorld):
        return _iterate_on_device(policy, critic, config, state, env, seed, on_chunk, observe)
    start = time.perf_counter()
    rollout = collect(policy, critic, config, state, env, observe, seed, on_chunk, mesh)
    update_start = time.perf_counter()
    state, samples = prepare(policy, config, state, rollout, mesh)
    state, metrics = update(policy, critic, config, state, samples, mesh=mesh)
    metrics = {name: float(value) for name, value in metrics.items()}
    check_update(int(metrics.pop("nonfinite")), int(metrics.pop("nonfinite_minibatch")))
    seconds = rollout.seconds | {"update": time.perf_counter() - update_start}
    return finish(state, metrics, rollout.ends, seconds, time.perf_counter() - start)


Iterated = tuple[PPOState, dict[str, float]]
"""The new state and the metrics of an iteration."""


@dataclass(frozen=True, eq=False)
class Expert:
    """An expert that is to have an iteration; attributes as the arguments of `iterate`."""

    policy: Policy
    critic: Critic
    config: PPOConfig
    state: PPOState
    env: RolloutEnv | DeviceWorld
    seed: int
    on_chunk: Callable[[int], None] | None = None
    observe: Observe = observe_vector

    @property
    def program(self) -> tuple[Policy, Critic, PPOConfig]:
        """All that its compiled programs follow from: those that agree in it may have an iteration together."""
        return self.policy, self.critic, self.config

    def iterate(self, mesh: Mesh | None = None) -> Iterated:
        """Runs the iteration of this expert alone, on the devices of `mesh`; its state is used up."""
        return iterate(*self.program, self.state, self.env, self.seed, self.on_chunk, self.observe, mesh)


def _iterate_on_device(
    policy: Policy,
    critic: Critic,
    config: PPOConfig,
    state: PPOState,
    world: DeviceWorld,
    seed: int,
    on_chunk: Callable[[int], None] | None,
    observe: Observe,
) -> tuple[PPOState, dict[str, float]]:
    """Runs one iteration as one program, whose parts have no seconds of their own; arguments as of `iterate`."""
    start = time.perf_counter()
    rows = draw_rows(config, world, seed, int(state.iteration))
    program_start = time.perf_counter()
    fixed = (policy, critic, config, world, observe)
    state, metrics, ends, finite = jax.block_until_ready(_iteration(*fixed, state, world.training_states, rows))
    seconds = {"program": time.perf_counter() - program_start}
    metrics, ends, finite = jax.device_get((metrics, ends, finite))
    for name, is_finite in zip((*CHECKED, *ESTIMATES), finite, strict=True):
        if not is_finite:
            raise NonFiniteError(name)
    metrics = {name: float(value) for name, value in metrics.items()}
    check_update(int(metrics.pop("nonfinite")), int(metrics.pop("nonfinite_minibatch")))
    if on_chunk is not None:
        on_chunk(config.chunks)
    return finish(state, metrics, ends, seconds, time.perf_counter() - start)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4), donate_argnums=5)
def _iteration(
    policy: Policy,
    critic: Critic,
    config: PPOConfig,
    world: DeviceWorld,
    observe: Observe,
    state: PPOState,
    table: Float[Array, "R D"],
    rows: Int[Array, "starts N"],
) -> tuple[PPOState, dict[str, Array], EpisodeEnds, tuple[Bool[Array, ""], ...]]:
    """Returns state, metrics, ends of episodes, and what of rollout and estimates is finite."""
    steps, rollout_finite = collect_on_device(policy, critic, config, world, observe, state, table, rows)
    state, samples, estimates_finite = prepare_on_device(policy, config, state, steps)
    state, metrics = run_update(policy, critic, config, state, samples)
    ends = EpisodeEnds(steps.terminated, steps.truncated, steps.failed, steps.control_steps)
    return state, metrics, ends, (*rollout_finite, *estimates_finite)


# The first failure (see `numerics.first_nonfinite`), and the number of minibatches before it.
_Nonfinite = tuple[Int[Array, ""], Int[Array, ""]]
# Epochs done, the state, failures, and metrics of the last epoch.
_EpochCarry = tuple[Int[Array, ""], PPOState, _Nonfinite, dict[str, Array]]


def check_mesh(policy: Policy, config: PPOConfig, mesh: Mesh | None) -> None:
    """Checks that environments and minibatches can be divided over devices.

    Args:
      policy: the policy.
      config: of the training.
      mesh: devices.

    Raises:
      UserError: they do not divide.
    """
    environments, groups = config.environments, config.groups
    check_divides(mesh, "ppo.environments", environments, environments // groups, groups)
    _, rows, together = minibatch_shape(config, policy, environments * config.chunks)
    check_divides(mesh, "ppo.batch", config.batch, rows, together)


def run_update(
    policy: Policy, critic: Critic, config: PPOConfig, state: PPOState, samples: Samples, mesh: Mesh | None = None
) -> tuple[PPOState, dict[str, Array]]:
    """Runs all epochs of an iteration; stops early where the policy has moved further than `target_kl`.

    A function of arrays alone, so that it can be compiled, or mapped over experts first.

    Args:
      policy: the policy.
      critic: the critic.
      config: of the training.
      state: of the training.
      samples: M chunks.
      mesh: devices over which each minibatch is divided.

    Returns:
      The state, and means over the last epoch's minibatches; `epochs` done, `nonfinite` (see
      `numerics.first_nonfinite`) and the `nonfinite_minibatch` of the iteration in which it happened.
    """
    key = jax.random.fold_in(jax.random.fold_in(state.key, 1), state.iteration)
    train_actor = state.iteration >= config.critic_warmup

    # Compiled within, so that it is traced once, for the metrics' shapes and for the loop.
    epoch = jax.jit(partial(_epoch, policy, critic, config, mesh))

    def step(carry: _EpochCarry) -> _EpochCarry:
        index, state, nonfinite, _ = carry
        state, nonfinite, metrics = epoch(state, samples, jax.random.fold_in(key, index), train_actor, nonfinite)
        return index + 1, state, nonfinite, metrics

    def another(carry: _EpochCarry) -> Bool[Array, ""]:
        index, _, nonfinite, metrics = carry
        near = True if config.target_kl is None else (index == 0) | (metrics["approx_kl"] <= config.target_kl)
        return (index < config.epochs) & near & (nonfinite[0] == 0)

    zero = jnp.zeros((), jnp.int32)
    shapes = jax.eval_shape(epoch, state, samples, jax.random.fold_in(key, zero), train_actor, (zero, zero))[2]
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    start = (zero, state, (zero, zero), blank)
    epochs, state, (nonfinite, minibatch), metrics = jax.lax.while_loop(another, step, start)
    return state, {**metrics, "epochs": epochs, "nonfinite": nonfinite, "nonfinite_minibatch": minibatch}


update = partial(jax.jit, static_argnums=(0, 1, 2), static_argnames="mesh", donate_argnames="state")(run_update)
"""`run_update`, compiled; the state that goes in is used up."""


def _epoch(
    policy: Policy,
    critic: Critic,
    config: PPOConfig,
    mesh: Mesh | None,
    state: PPOState,
    samples: Samples,
    key: PRNGKeyArray,
    train_actor: Bool[Array, ""],
    nonfinite: _Nonfinite,
) -> tuple[PPOState, _Nonfinite, dict[str, Array]]:
    """Passes over all pairs in a new order; `nonfinite` is the first failure and the minibatches before it."""
    chunks, steps = samples.advantage.shape[0], policy.num_trained_steps
    count, rows, together = minibatch_shape(config, policy, chunks)
    order = jax.random.permutation(key, chunks * steps // together)[: count * rows].reshape(count, rows)

    def minibatch(
        carry: tuple[PPOState, _Nonfinite], pairs: Int[Array, " b"]
    ) -> tuple[tuple[PPOState, _Nonfinite], dict[str, Array]]:
        state, (failure, done) = carry
        if together == steps:
            row, index = pairs, jnp.broadcast_to(jnp.arange(steps), (rows, steps))
        else:
            row, index = pairs // steps, (pairs % steps)[:, None]
        picked = select(policy, config, samples, row, index, mesh)
        state, metrics, found = _optimizer_step(policy, critic, config, state, picked, train_actor, mesh)
        done = done + (failure == 0)
        return (state, (jnp.where(failure == 0, found, failure), done)), metrics

    (state, nonfinite), metrics = jax.lax.scan(minibatch, (state, nonfinite), order)
    return state, nonfinite, jax.tree.map(jnp.mean, metrics)


@struct.dataclass
class Minibatch:
    """Chunks and some steps of each of their chains: `b` chunks, `k` steps.

    Attributes:
      observation: of each chunk.
      index: trained steps of the chain, 0 the noisiest.
      before: point of the chain before each of these steps.
      after: point after it.
      log_prob: log density of the transition when it was sampled.
      weight: by `losses.advantage_weights`.
      returns: target of the critic.
      value: the critic's value when the chunk was executed.
      kept: chunks that count; None for all.
      teacher: points before and after each step of the cloned policy's chains.
      last: the two actions before each chunk.
    """

    observation: PolicyObservation
    index: Int[Array, "b k"]
    before: Float[Array, "b k H A"]
    after: Float[Array, "b k H A"]
    log_prob: Float[Array, "b k H A"]
    weight: Float[Array, "b k"]
    returns: Float[Array, " b"]
    value: Float[Array, " b"]
    kept: Bool[Array, " b"] | None
    teacher: tuple[Float[Array, "b k H A"], Float[Array, "b k H A"]] | None
    last: Float[Array, "b 2 A"] | None


def select(
    policy: Policy,
    config: PPOConfig,
    samples: Samples,
    rows: Int[Array, " b"],
    index: Int[Array, "b k"],
    mesh: Mesh | None = None,
) -> Minibatch:
    """Selects chunks and steps of their chains; advantages are normalized within the minibatch.

    Args:
      policy: the policy.
      config: of the training.
      samples: M chunks.
      rows: chunks of the minibatch.
      index: steps of each chunk's chain.
      mesh: devices over which the minibatch is cut.
    """
    steps, place = policy.num_trained_steps, rows if samples.place is None else samples.place[rows]
    advantage = jnp.broadcast_to(samples.advantage[rows][:, None], index.shape)
    kept = None if samples.kept is None else samples.kept[rows]
    pairs_kept = None if kept is None else jnp.broadcast_to(kept[:, None], index.shape).ravel()
    weight = losses.advantage_weights(advantage.ravel(), index.ravel(), steps, config, pairs_kept)

    def points(array: Array, index: Int[Array, "b k"]) -> Float[Array, "b k H A"]:
        if mesh is None:
            return array[place[:, None], index]
        return take_rows(mesh, array.reshape(-1, *array.shape[2:]), place[:, None] * array.shape[1] + index)

    teacher = samples.teacher
    return Minibatch(
        observation=jax.tree.map(lambda array: take_rows(mesh, array, place), samples.observation),
        before=points(samples.chain, index),
        after=points(samples.chain, index + 1),
        log_prob=points(samples.log_prob, index),
        teacher=None if teacher is None else (points(teacher, index), points(teacher, index + 1)),
        last=None if samples.last is None else take_rows(mesh, samples.last, place),
        **cut_rows(
            mesh,
            {
                "index": index,
                "weight": weight.reshape(index.shape),
                "returns": samples.returns[rows],
                "value": samples.value[rows],
                "kept": kept,
            },
        ),
    )


def minibatch_loss(
    policy: Policy, critic: Critic, config: PPOConfig, state: PPOState, trained: dict[str, Any], batch: Minibatch
) -> tuple[Array, dict[str, Array]]:
    """Computes the loss of a minibatch; observations are encoded once for all steps of a chunk.

    Args:
      policy: the policy.
      critic: the critic.
      config: of the training.
      state: of the training, for what is not trained.
      trained: the policy's `net` and the `critic`.
      batch: the minibatch, or a part of it.

    Returns:
      The loss, and measurements that are means over the batch.
    """
    together = batch.index.shape[1]
    params = {**policy_params(state), "net": trained["net"]}
    features = policy.encode(params, batch.observation)
    many = features if together == 1 else jnp.repeat(features, together, axis=0)
    index = batch.index.ravel()

    def density(before: Array, after: Array) -> Float[Array, "P H A"]:
        shape = (-1, *before.shape[2:])
        return policy.log_prob_from(params, many, before.reshape(shape), after.reshape(shape), index)

    log_prob = density(batch.before, batch.after)
    old, weight = batch.log_prob.reshape(log_prob.shape), batch.weight.ravel()
    terms = losses.surrogate(log_prob, old, weight, index, policy.num_trained_steps, config, policy.clamp)
    value = critic.value(trained["critic"], critic.inputs(params, batch.observation, features))
    error = losses.value_loss(value, batch.value, batch.returns, config, batch.kept)
    entropy = policy.entropy(params, features)
    total = terms.loss + error - config.entropy_weight * entropy
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
        metrics["bc_loss"] = losses.bc_regularizer(density(*batch.teacher), policy.clamp)
        total += config.bc_weight * metrics["bc_loss"]
    if batch.last is not None:
        mean = policy.mean_from(params, many, batch.before.reshape(-1, *batch.before.shape[2:]), index)
        before = jnp.repeat(batch.last, together, axis=0)
        # The last step of a chain gives what is executed.
        counts = (index == policy.num_trained_steps - 1) * jnp.ones(1)
        if batch.kept is not None:
            counts *= jnp.repeat(batch.kept, together)
        actions = policy.to_action(params, mean)[:, : config.action_steps]
        metrics["unsteadiness"] = losses.unsteadiness(before, actions, counts)
        total += config.steadiness_weight * metrics["unsteadiness"]
    return total, metrics


def _optimizer_step(
    policy: Policy,
    critic: Critic,
    config: PPOConfig,
    state: PPOState,
    batch: Minibatch,
    train_actor: Bool[Array, ""],
    mesh: Mesh | None,
) -> tuple[PPOState, dict[str, Array], Int[Array, ""]]:
    """Takes one step on a minibatch; returns the state after it, metrics, and the first quantity not finite."""
    # What a device computes of a minibatch is computed in parts; interleaved, so that it has its share of each.
    rows = batch.index.shape[0] // (1 if mesh is None else mesh.size)
    largest = rows if config.microbatch is None else max(1, config.microbatch // batch.index.shape[1])
    loss = partial(minibatch_loss, policy, critic, config, state)
    trained, parts = {"net": state.net, "critic": state.critic}, parts_of(rows, largest)
    (_, metrics), grads = value_and_grad_in_parts(loss, trained, batch, parts, interleaved=mesh is not None)
    updates, opt_state = actor_optimizer(config, policy).update(grads["net"], state.actor_optimizer, state.net)
    moved = (optax.apply_updates(state.net, updates), opt_state)
    # A choice and not a branch: one program serves the critic's warm-up and what follows.
    net, rested = jax.tree.map(
        lambda new, old: jnp.where(train_actor, new, old), moved, (state.net, state.actor_optimizer)
    )
    state = replace(state, net=net, actor_optimizer=opt_state if config.warm_moments else rested)
    updates, opt_state = critic_optimizer(config, policy).update(grads["critic"], state.critic_optimizer, state.critic)
    state = replace(state, critic=optax.apply_updates(state.critic, updates), critic_optimizer=opt_state)
    state = cut_state(mesh, state)
    metrics |= {
        "actor_grad_norm": optax.tree.norm(grads["net"]),
        "critic_grad_norm": optax.tree.norm(grads["critic"]),
    }
    sizes = {"policy_parameters": optax.tree.norm(state.net), "critic_parameters": optax.tree.norm(state.critic)}
    return state, metrics, first_nonfinite(metrics | sizes)


# The parts of an iteration in which the accelerator works.
_AT_WORK = ("sampler", "update", "program")


def finish(
    state: PPOState, metrics: dict[str, float], ends: EpisodeEnds, seconds: dict[str, float], total: float
) -> tuple[PPOState, dict[str, float]]:
    """Counts the iteration and adds success, control steps and timings to its metrics.

    Args:
      state: after the update.
      metrics: of the update.
      ends: of the iteration's episodes.
      seconds: by part of the iteration; groups of environments overlap with other parts.
      total: seconds of all of it; what is none of the parts is called waiting. The accelerator works in sampler and
        update, or in the one program that is both and the world, in which gaps between kernels count as work.
    """
    control_steps = state.control_steps + np.int32(ends.control_steps.sum())
    state = replace(state, iteration=state.iteration + 1, control_steps=control_steps)
    work = {"accelerator": sum(seconds.get(name, 0.0) for name in _AT_WORK), "total": total}
    seconds = seconds | {"waiting": max(0.0, total - sum(seconds.values()))} | work
    metrics |= {
        "success": first_episode_success(ends.terminated, ends.truncated),
        "control_steps": int(state.control_steps),
        **{f"seconds_{name}": value for name, value in seconds.items()},
    }
    if ends.failed.any():
        metrics["failed_episodes"] = int(ends.failed.sum())
    return state, metrics


def first_episode_success(terminated: Bool[AnyArray, "T N"], truncated: Bool[AnyArray, "T N"]) -> float:
    """Returns the fraction of environments whose first episode of the rollout reached the goal.

    Unfinished ones did not. Later episodes do not count: a success is short, so that counting all would favor it.
    """
    ended = terminated | truncated
    first = np.argmax(ended, axis=0)
    columns = np.arange(ended.shape[1])
    return float((ended.any(axis=0) & terminated[first, columns]).mean())
