"""A policy as an actor in a vector environment."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt

from rlgen.core.actions import binarize_gripper
from rlgen.core.types import Observation
from rlgen.policies.base import Params, Policy, PolicyObservation

Observe = Callable[[Observation], PolicyObservation]


class PolicyActor:
    """Acts by the deterministic chain, or explores; the noise of a chunk depends on the row's seed and chunk alone."""

    def __init__(
        self,
        policy: Policy,
        params: Params,
        observe: Observe,
        *,
        action_steps: int | None = None,
        explore: bool = False,
    ):
        """Makes the actor.

        Args:
          policy: the policy.
          params: its parameters.
          observe: makes the policy's observations of an environment's.
          action_steps: leading actions of a chunk that are executed; None for all.
          explore: with the noise of PPO's rollouts.
        """
        self._policy, self._params, self._observe, self._explore = policy, params, observe, explore
        self._action_steps = policy.horizon if action_steps is None else action_steps
        self._seeds = np.zeros(0, np.int64)
        self._chunks = 0

    def reset(self, seeds: Int[np.ndarray, " N"]) -> None:
        """Resets all N rows to new episodes."""
        self._seeds, self._chunks = np.asarray(seeds), 0

    def __call__(self, observation: Observation) -> Float[np.ndarray, "N H 7"]:
        """Returns the next actions of every row."""
        seeds = jnp.asarray(self._seeds & 0xFFFFFFFF, jnp.uint32)
        chunk = _act(self._policy, self._explore, self._params, seeds, self._chunks, self._observe(observation))
        self._chunks += 1
        return binarize_gripper(np.asarray(chunk)[:, : self._action_steps])


@partial(jax.jit, static_argnames=("policy", "explore"))
def _act(
    policy: Policy,
    explore: bool,
    params: Params,
    seeds: UInt[Array, " N"],
    chunk: Int[Array, ""],
    observation: PolicyObservation,
) -> Float[Array, "N H 7"]:
    def row(seed: UInt[Array, ""], features: Float[Array, " C"]) -> Float[Array, "H 7"]:
        key = jax.random.fold_in(jax.random.PRNGKey(seed), chunk)
        if explore:
            return policy.sample_from(params, key, features[None]).chunk[0]
        return policy.act_from(params, key, features[None])[0]

    return jax.vmap(row)(seeds, policy.encode(params, observation))
