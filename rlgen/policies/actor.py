"""A policy as an actor in a pool."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rlgen.core.actions import binarize_gripper
from rlgen.core.types import Observation
from rlgen.libero.envs.image_observer import Observe, observe_vector
from rlgen.policies.base import Observed, Params, Policy


class PolicyActor:
    """Acts by the deterministic chain; the initial noise of a chunk depends on the row's seed and chunk alone."""

    def __init__(self, policy: Policy, params: Params, look: Observe = observe_vector, *, executed: int | None = None):
        """Makes the actor.

        Args:
          policy: what acts.
          params: its parameters.
          look: what it is shown.
          executed: leading actions of a chunk that are executed; None for all.
        """
        self._policy, self._params, self._look = policy, params, look
        self._executed = policy.horizon if executed is None else executed
        self._seeds = np.zeros(0, np.int64)
        self._chunks = 0

    @property
    def chunk(self) -> int:
        return self._executed

    def reset(self, seeds: Int[np.ndarray, " N"]) -> None:
        self._seeds, self._chunks = np.asarray(seeds), 0

    def __call__(self, observation: Observation) -> Float[np.ndarray, "N H 7"]:
        seeds = jnp.asarray(self._seeds & 0xFFFFFFFF, jnp.uint32)
        chunk = _act(self._policy, self._params, seeds, self._chunks, self._look(observation))
        self._chunks += 1
        return binarize_gripper(np.asarray(chunk)[:, : self._executed])


@partial(jax.jit, static_argnames="policy")
def _act(
    policy: Policy, params: Params, seeds: Int[Array, " N"], chunk: Int[Array, ""], observation: Observed
) -> Float[Array, "N H 7"]:
    def row(seed: Int[Array, ""], code: Float[Array, " C"]) -> Float[Array, "H 7"]:
        key = jax.random.fold_in(jax.random.PRNGKey(seed), chunk)
        return policy.act_from(params, key, code[None])[0]

    return jax.vmap(row)(seeds, policy.encode(params, observation))
