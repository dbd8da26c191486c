"""Functions of a rollout, from observations of many environments to sampled chunks and values, and its reset states."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rlgen.configs.schema import PPOConfig
from rlgen.core.types import FixturePoses
from rlgen.policies.base import Features, Params, Policy, PolicyObservation, PolicySample
from rlgen.policies.critic import Critic
from rlgen.rl.train_state import PPOState, policy_params
from rlgen.training.sharding import cut_rows, map_rows, rows_here, shard_batch


@runtime_checkable
class ResettableScene(Protocol):
    """A scene with what training starts episodes from; `libero.scenes.scene.Scene` is one."""

    @property
    def training_states(self) -> Float[np.ndarray, "M D"]:
        """The reset states."""
        ...

    def draw_training_fixtures(self, seed: int, /) -> FixturePoses | None:
        """Returns where fixtures stand; None where they stand as the scene has them."""
        ...


# Observations encoded at a time where nothing is differentiated; more only need more memory.
ENCODED_AT_ONCE = 128


@dataclass(frozen=True)
class RolloutFunctions:
    """Compiled functions that a rollout calls.

    Attributes:
      sample: from an index that no other call of the rollout has and an observation: the sample, values, and the
        observation with its images shifted.
      value: values of an observation.
    """

    sample: Callable[[int, PolicyObservation], tuple[PolicySample, Array, PolicyObservation]]
    value: Callable[[PolicyObservation], Array]


def rollout_functions(
    policy: Policy, critic: Critic, config: PPOConfig, state: PPOState, mesh: Mesh | None = None
) -> RolloutFunctions:
    """Returns the functions of one iteration's rollout, from and to arrays of this process's environments.

    Args:
      policy: the policy.
      critic: the critic.
      config: of the training.
      state: of the training; its iteration decides what is drawn.
      mesh: devices over which the environments are divided.
    """
    key, params = jax.random.fold_in(state.key, int(state.iteration)), policy_params(state)
    # A shift is drawn once, for acting and for the update alike: the ratio before the first step is 1.
    shift = config.random_shift if policy.has_images else 0

    def sample(call: int, observation: PolicyObservation):
        arguments = (params, state.critic, jax.random.fold_in(key, call), shard_batch(mesh, observation))
        return rows_here(_sample(policy, critic, shift, *arguments, mesh=mesh))

    def values(observation: PolicyObservation):
        return rows_here(_value(policy, critic, params, state.critic, shard_batch(mesh, observation), mesh=mesh))

    return RolloutFunctions(sample, values)


def sample_and_value(
    policy: Policy,
    critic: Critic,
    shift: int,
    params: Params,
    critic_params: Any,
    key: PRNGKeyArray,
    observation: PolicyObservation,
    mesh: Mesh | None = None,
) -> tuple[PolicySample, Float[Array, " N"], PolicyObservation]:
    """Returns samples, values, and the observation with its images shifted; an image is encoded once.

    Args:
      policy: the policy.
      critic: the critic.
      shift: largest random shift of images, pixels.
      params: the policy's parameters.
      critic_params: the critic's.
      key: randomness of shift and sample.
      observation: of N environments.
      mesh: devices over which they are divided.
    """
    if policy.has_images:
        observation = cut_rows(mesh, policy.augment(jax.random.fold_in(key, 1), observation, shift))
    features = encode_in_parts(policy, params, observation, mesh)
    values = critic.value(critic_params, critic.inputs(params, observation, features))
    return cut_rows(mesh, (policy.sample_from(params, key, features), values, observation))


def value(
    policy: Policy,
    critic: Critic,
    params: Params,
    critic_params: Any,
    observation: PolicyObservation,
    mesh: Mesh | None = None,
) -> Float[Array, " N"]:
    """Computes the values of observations; arguments as of `sample_and_value`."""
    features = encode_in_parts(policy, params, observation, mesh)
    return cut_rows(mesh, critic.value(critic_params, critic.inputs(params, observation, features)))


_sample = jax.jit(sample_and_value, static_argnums=(0, 1, 2), static_argnames="mesh")
_value = jax.jit(value, static_argnums=(0, 1), static_argnames="mesh")


def encode_in_parts(
    policy: Policy, params: Params, observation: PolicyObservation, mesh: Mesh | None = None
) -> Features:
    """Returns features, `ENCODED_AT_ONCE` at a time where there are images; arguments as of `sample_and_value`."""
    if not policy.has_images:
        return policy.encode(params, observation)

    def encode(params: Params, observation: PolicyObservation) -> Features:
        def one(row: PolicyObservation) -> Array:
            return policy.encode(params, jax.tree.map(lambda array: array[None], row))[0]

        return jax.lax.map(one, observation, batch_size=ENCODED_AT_ONCE)

    return map_rows(mesh, encode)(params, jax.tree.map(jnp.asarray, observation))


def draw_reset_states(
    states: Float[np.ndarray, "M D"],
    generator: np.random.Generator,
    times: int,
    here: Int[np.ndarray, " n"],
    count: int,
) -> list[Float[np.ndarray, "n D"]]:
    """Draws a reset state for every environment, several times.

    Args:
      states: reset states for training, of the scene that all environments have.
      generator: draws them.
      times: how often.
      here: which of all environments these are.
      count: N, of all environments.
    """
    return [states[generator.integers(0, len(states), count)[here]] for _ in range(times)]


def draw_fixtures(
    scene: ResettableScene, generator: np.random.Generator, here: Int[np.ndarray, " n"], count: int
) -> list[FixturePoses | None]:
    """Draws where the fixtures of every environment stand.

    Args:
      scene: that all environments have.
      generator: of the seeds of the draws.
      here: which of all environments these are.
      count: N, of all environments.
    """
    return [scene.draw_training_fixtures(int(seed)) for seed in generator.integers(0, 2**32, count)[here]]
