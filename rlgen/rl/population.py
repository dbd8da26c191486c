"""Many experts in one program: sampler and update mapped over an expert axis.

Every leaf of a stacked state has a leading axis E. The vector environment holds E times N environments, expert by
expert; shorter observation vectors are filled up with zeros, as the environment does.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from rlgen.configs.schema import PPOConfig
from rlgen.libero.envs.image_observer import Observe, observe_vector
from rlgen.policies.base import Params, Policy, PolicyObservation, PolicySample
from rlgen.policies.critic import Critic
from rlgen.rl.numerics import NonFiniteError, check_update
from rlgen.rl.ppo import finish, run_update
from rlgen.rl.rollout import Rollout, RolloutEnv, run_chunks
from rlgen.rl.samples import Samples, prepare
from rlgen.rl.sampling import RolloutFunctions, sample_and_value, value
from rlgen.rl.train_state import PPOState, policy_params


def iterate_population(
    policy: Policy,
    critic: Critic,
    config: PPOConfig,
    states: PPOState,
    env: RolloutEnv,
    seeds: Sequence[int],
    observe: Observe = observe_vector,
) -> tuple[PPOState, list[dict[str, float]]]:
    """Runs one iteration of every expert, as `ppo.iterate` does of one. The states that go in are used up.

    Args:
      policy: the policy that all experts share, but for parameters.
      critic: likewise.
      config: of the training.
      states: stacked states of E experts.
      env: E times `config.environments` environments.
      seeds: of reset states, those that each expert would have alone.
      observe: makes the policy's observations.

    Returns:
      The new states, and the metrics of each expert.

    Raises:
      NonFiniteError: something of one of them is not finite or far too large.
    """
    start = time.perf_counter()
    rollouts = collect_population(policy, critic, config, states, env, seeds, observe)
    update_start = time.perf_counter()
    pairs = zip(unstack(states), rollouts, strict=True)
    prepared = [prepare(policy, config, state, rollout) for state, rollout in pairs]
    states, metrics = update_population(
        policy, critic, config, stack([state for state, _ in prepared]), stack([samples for _, samples in prepared])
    )
    by_expert = [{name: float(array[expert]) for name, array in metrics.items()} for expert in range(len(seeds))]
    seconds = rollouts[0].seconds | {"update": time.perf_counter() - update_start}
    finished = []
    for expert, (state, values, rollout) in enumerate(zip(unstack(states), by_expert, rollouts, strict=True)):
        try:
            check_update(int(values.pop("nonfinite")), int(values.pop("nonfinite_minibatch")))
        except NonFiniteError as error:
            raise NonFiniteError(f"expert {expert}: {error.quantity}", error.problem) from None
        finished.append(finish(state, values, rollout.ends, seconds, time.perf_counter() - start))
    return stack([state for state, _ in finished]), [values for _, values in finished]


def collect_population(
    policy: Policy,
    critic: Critic,
    config: PPOConfig,
    states: PPOState,
    env: RolloutEnv,
    seeds: Sequence[int],
    observe: Observe = observe_vector,
) -> list[Rollout]:
    """Collects a rollout of every expert.

    Args:
      policy: the policy that all experts share, but for parameters.
      critic: likewise.
      config: of the training.
      states: stacked states of E experts.
      env: E times `config.environments` environments.
      seeds: of reset states, those that each expert would have alone.
      observe: makes the policy's observations.
    """
    params, count = policy_params(states), len(seeds)
    iterations = np.asarray(states.iteration)
    keys = jax.vmap(jax.random.fold_in)(states.key, states.iteration)
    shift = config.random_shift if policy.has_images else 0

    def by_expert(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda array: jnp.asarray(array).reshape(count, -1, *array.shape[1:]), tree)

    def in_a_row(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), tree)

    def sample(call: int, observation: PyTree):
        folded = jax.vmap(lambda key: jax.random.fold_in(key, call))(keys)
        return in_a_row(_sample(policy, critic, shift, params, states.critic, folded, by_expert(observation)))

    def values(observation: PyTree):
        return in_a_row(_value(policy, critic, params, states.critic, by_expert(observation)))

    generators = [
        np.random.default_rng((seed, int(iteration))) for seed, iteration in zip(seeds, iterations, strict=True)
    ]
    # Every expert's environments are in every call.
    together = replace(config, groups=1)
    return _split(run_chunks(RolloutFunctions(sample, values), together, env, observe, generators), count)


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(3,))
def update_population(
    policy: Policy, critic: Critic, config: PPOConfig, states: PPOState, samples: Samples
) -> tuple[PPOState, dict[str, jax.Array]]:
    """Updates every expert in one call; one that stops early waits for the others.

    Args:
      policy: the policy that all experts share, but for parameters.
      critic: likewise.
      config: of the training.
      states: stacked states of E experts.
      samples: stacked samples.
    """
    return jax.vmap(partial(run_update, policy, critic, config))(states, samples)


def stack(trees: Sequence[PyTree]) -> PyTree:
    """Returns one tree whose leaves have a leading axis E."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(tree: PyTree) -> list[PyTree]:
    """Returns the E trees of a stacked one."""
    count = jax.tree.leaves(tree)[0].shape[0]
    return [jax.tree.map(lambda leaf, index=index: leaf[index], tree) for index in range(count)]


@partial(jax.jit, static_argnums=(0, 1, 2))
def _sample(
    policy: Policy,
    critic: Critic,
    shift: int,
    params: Params,
    critic_params: Any,
    keys: Array,
    observation: PolicyObservation,
) -> tuple[PolicySample, Array, PolicyObservation]:
    return jax.vmap(partial(sample_and_value, policy, critic, shift))(params, critic_params, keys, observation)


@partial(jax.jit, static_argnums=(0, 1))
def _value(
    policy: Policy, critic: Critic, params: Params, critic_params: Any, observation: PolicyObservation
) -> Float[Array, "E N"]:
    return jax.vmap(partial(value, policy, critic))(params, critic_params, observation)


def _split(rollout: Rollout, count: int) -> list[Rollout]:
    """Returns each expert's columns of a rollout."""
    width = rollout.transitions.reward.shape[1] // count
    parts = []
    for expert in range(count):
        columns = slice(expert * width, (expert + 1) * width)
        transitions = jax.tree.map(lambda array, columns=columns: array[:, columns], rollout.transitions)
        parts.append(replace(rollout, transitions=transitions))
    return parts
