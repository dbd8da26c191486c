"""A diffusion policy as an actor in a pool."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rlgen.policies.diffusion_policy import DiffusionPolicy, Params
from rlgen.types import Observation


class PolicyActor:
    """Acts by the deterministic chain; the initial noise of a chunk depends on the row's seed and chunk alone."""

    def __init__(self, policy: DiffusionPolicy, params: Params):
        self._policy, self._params = policy, params
        self._seeds = np.zeros(0, np.int64)
        self._chunks = 0

    @property
    def chunk(self) -> int:
        return self._policy.horizon

    def begin(self, seeds: Int[np.ndarray, " N"]) -> None:
        self._seeds, self._chunks = np.asarray(seeds), 0

    def __call__(self, observation: Observation) -> Float[np.ndarray, "N H 7"]:
        seeds = jnp.asarray(self._seeds & 0xFFFFFFFF, jnp.uint32)
        chunk = _act(self._policy, self._params, seeds, self._chunks, observation.vector)
        self._chunks += 1
        chunk = np.array(chunk)
        # The environment reads the gripper's sign alone; datasets hold exactly -1 or +1.
        chunk[..., -1] = np.where(chunk[..., -1] < 0, -1.0, 1.0)
        return chunk


@partial(jax.jit, static_argnames="policy")
def _act(
    policy: DiffusionPolicy,
    params: Params,
    seeds: Int[Array, " N"],
    chunk: Int[Array, ""],
    observation: Float[Array, "N O"],
) -> Float[Array, "N H 7"]:
    def row(seed: Int[Array, ""], vector: Float[Array, " O"]) -> Float[Array, "H 7"]:
        key = jax.random.fold_in(jax.random.PRNGKey(seed), chunk)
        return policy.act(params, key, vector[None])[0]

    return jax.vmap(row)(seeds, observation)
