"""Many experts in one program: sampler and update mapped over an expert axis.

Every leaf of a stacked state has a leading axis E. The pool holds E times N environments, expert by expert; vectors
of tasks with fewer numbers are filled up with zeros, as the pool does.
"""

import time
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from rlgen.configs.schema import PPOConfig
from rlgen.libero.envs.image_observer import Observe, observe_vector
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.policies.base import Policy
from rlgen.policies.critic import Critic
from rlgen.rl.numerics import NonFiniteError, check_update
from rlgen.rl.ppo import Samples, finish, prepare, run_update
from rlgen.rl.rollout import Player, Rollout, judge, play, sample_and_judge
from rlgen.rl.train_state import PPOState, policy_params


def stack(trees: Sequence[PyTree]) -> PyTree:
    """One tree whose leaves have a leading axis E."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(tree: PyTree) -> list[PyTree]:
    """The E trees of a stacked one."""
    count = jax.tree.leaves(tree)[0].shape[0]
    return [jax.tree.map(lambda leaf, number=number: leaf[number], tree) for number in range(count)]


def collect_experts(
    policy: Policy,
    critic: Critic,
    config: PPOConfig,
    states: PPOState,
    pool: VectorEnv,
    seeds: Sequence[int],
    look: Observe = observe_vector,
) -> list[Rollout]:
    """A rollout of every expert; `seeds` are those that each would have alone."""
    params, count = policy_params(states), len(seeds)
    iterations = np.asarray(states.iteration)
    keys = jax.vmap(jax.random.fold_in)(states.key, states.iteration)
    shift = config.shift if policy.encodes else 0

    def by_expert(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda array: jnp.asarray(array).reshape(count, -1, *array.shape[1:]), tree)

    def in_a_row(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), tree)

    def sample(number: int, seen: PyTree):
        folded = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
        return in_a_row(_sample(policy, critic, shift, params, states.critic, folded, by_expert(seen)))

    def value(seen: PyTree):
        return in_a_row(_value(policy, critic, params, states.critic, by_expert(seen)))

    randoms = [np.random.default_rng((seed, int(iteration))) for seed, iteration in zip(seeds, iterations, strict=True)]
    return _share_out(play(Player(sample, value), config, pool, look, randoms), count)


def iterate_experts(
    policy: Policy,
    critic: Critic,
    config: PPOConfig,
    states: PPOState,
    pool: VectorEnv,
    seeds: Sequence[int],
    look: Observe = observe_vector,
) -> tuple[PPOState, list[dict[str, float]]]:
    """One iteration of every expert, as `ppo.iterate` is of one. The states that go in are used up.

    Raises:
      Broken: something of one of them is not finite or far too large.
    """
    begin = time.perf_counter()
    rollouts = collect_experts(policy, critic, config, states, pool, seeds, look)
    start = time.perf_counter()
    pairs = zip(unstack(states), rollouts, strict=True)
    prepared = [prepare(policy, config, state, rollout) for state, rollout in pairs]
    states, metrics = update_experts(
        policy, critic, config, stack([state for state, _ in prepared]), stack([samples for _, samples in prepared])
    )
    told = [{name: float(value[number]) for name, value in metrics.items()} for number in range(len(seeds))]
    seconds = rollouts[0].seconds | {"update": time.perf_counter() - start}
    finished = []
    for number, (state, values, rollout) in enumerate(zip(unstack(states), told, rollouts, strict=True)):
        try:
            check_update(int(values.pop("fault")), int(values.pop("fault_minibatch")))
        except NonFiniteError as error:
            raise NonFiniteError(
                f"expert {number}: {error.quantity}", str(error).removeprefix(error.quantity).strip()
            ) from None
        finished.append(finish(state, values, rollout, seconds, time.perf_counter() - begin))
    return stack([state for state, _ in finished]), [values for _, values in finished]


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(3,))
def update_experts(policy: Policy, critic: Critic, config: PPOConfig, states: PPOState, samples: Samples):
    """`update` of every expert in one call; one that stops early waits for the others."""
    return jax.vmap(partial(run_update, policy, critic, config))(states, samples)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _sample(policy, critic, shift, params, values, keys, seen):
    return jax.vmap(partial(sample_and_judge, policy, critic, shift))(params, values, keys, seen)


@partial(jax.jit, static_argnums=(0, 1))
def _value(policy, critic, params, values, seen):
    return jax.vmap(partial(judge, policy, critic))(params, values, seen)


def _share_out(rollout: Rollout, count: int) -> list[Rollout]:
    """Each expert's columns."""
    width = rollout.reward.shape[1] // count
    shared = []
    for number in range(count):
        columns = slice(number * width, (number + 1) * width)
        arrays = {
            field.name: jax.tree.map(lambda array, columns=columns: array[:, columns], getattr(rollout, field.name))
            for field in fields(rollout)
            if field.name != "seconds"
        }
        shared.append(replace(rollout, **arrays))
    return shared
