"""Rollouts within one compiled program, for worlds on an accelerator; the transitions are those of `rollout.collect`.

The loop over chunks is a scan. Where an episode ended, the next one starts from a row of a table of reset states on the
device; which row, is drawn beforehand, as on the host. Images are drawn within the program as well, since the ray
tracer can be called from a compiled function; in chunks in which an episode ended all worlds are drawn twice, as a
tracer has a fixed number of them.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rlgen.configs.schema import PPOConfig
from rlgen.core.arrays import AnyArray
from rlgen.libero.envs.device_world import DeviceWorld, step_chunk
from rlgen.libero.envs.image_observer import Observe
from rlgen.policies.base import Policy, PolicyObservation
from rlgen.policies.critic import Critic
from rlgen.rl.rollout import Transition
from rlgen.rl.sampling import sample_and_value, value
from rlgen.rl.train_state import PPOState, policy_params

# What a rollout is checked for, in the order in which one follows from another.
CHECKED = ("sampled_actions", "value", "reward")


def draw_rows(config: PPOConfig, world: DeviceWorld, seed: int, iteration: int) -> Int[np.ndarray, "starts N"]:
    """Draws the rows of the table of reset states that the episodes of a rollout start from, as `collect` does.

    Args:
      config: of the training.
      world: whose `training_states` these are.
      seed: of the reset states.
      iteration: that the rollout belongs to.
    """
    generator, count = np.random.default_rng((seed, iteration)), len(world.training_states)
    draws = [generator.integers(0, count, world.worlds) for _ in range(config.chunks + 1)]
    return np.stack(draws).astype(np.int32)


def collect_on_device(
    policy: Policy,
    critic: Critic,
    config: PPOConfig,
    world: DeviceWorld,
    observe: Observe,
    state: PPOState,
    table: Float[Array, "R D"],
    rows: Int[AnyArray, "starts N"],
) -> tuple[Transition, tuple[Bool[Array, ""], ...]]:
    """Collects `config.chunks` chunks in every world, as `collect` does; a pure function, to be compiled.

    Args:
      policy: the policy.
      critic: the critic.
      config: of the training.
      world: N worlds.
      observe: from what the world observes to what the policy reads.
      state: of the training; its iteration decides what is drawn.
      table: reset states.
      rows: of the table, from which episodes start: all of the first, then those that follow one that ended in a chunk.

    Returns:
      Transitions `[T, N, ...]`, and for each of `CHECKED` whether it is finite.
    """
    params, key = policy_params(state), jax.random.fold_in(state.key, state.iteration)
    shift = config.random_shift if policy.has_images else 0

    def chunk(carry: tuple[Any, PolicyObservation], inputs: tuple[Array, Array]) -> tuple[Any, Any]:
        worlds, observation = carry
        index, draw = inputs
        own_key = jax.random.fold_in(key, index)
        sample, now, shifted = sample_and_value(policy, critic, shift, params, state.critic, own_key, observation)
        worlds, ends, _ = step_chunk(world, worlds, sample.chunk[:, : config.action_steps])
        final, ended = observe(world.observe(worlds)), ends.terminated | ends.truncated

        def start() -> tuple[Any, PolicyObservation]:
            started, seen = world.reset_rows(worlds, ended, table[draw])
            return started, observe(seen)

        def value_of_final() -> Float[Array, " N"]:
            return value(policy, critic, params, state.critic, final)

        # Elsewhere it is the value that the next chunk begins with.
        is_read = ended.any() | (index + 1 == config.chunks)
        next_value = jax.lax.cond(is_read, value_of_final, lambda: jnp.zeros_like(now))
        carry = jax.lax.cond(ended.any(), start, lambda: (worlds, final))
        step = Transition(shifted, sample.chain, sample.log_prob, now, next_value, *ends)
        return carry, (step, jnp.isfinite(sample.chunk).all())

    worlds, seen = world.reset(table[rows[0]])
    indices = jnp.arange(config.chunks)
    _, (steps, actions_finite) = jax.lax.scan(chunk, (worlds, observe(seen)), (indices, jnp.asarray(rows[1:])))
    same_episode = ~(steps.terminated | steps.truncated)[:-1]
    following = jnp.where(same_episode, steps.value[1:], steps.next_value[:-1])
    steps = steps._replace(next_value=steps.next_value.at[:-1].set(following))
    values_finite = jnp.isfinite(steps.value).all() & jnp.isfinite(steps.next_value).all()
    return steps, (actions_finite.all(), values_finite, jnp.isfinite(steps.reward).all())
