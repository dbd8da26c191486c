"""A critic on state observations."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rlgen.nets.keys import init_key
from rlgen.nets.mlp import ResidualMLP
from rlgen.policies.diffusion_policy import Params
from rlgen.policies.normalizer import Normalizer, identity_normalizer, normalize_observation


@dataclass(frozen=True)
class Critic:
    """What the critic is; hashable, so that it can be a static argument of a jitted function.

    Attributes:
      observation_size: numbers in an observation.
      widths: hidden widths of a residual perceptron.
      activation: name of its activation.
    """

    observation_size: int
    widths: tuple[int, ...] = (256, 256, 256)
    activation: str = "mish"

    @property
    def network(self) -> ResidualMLP:
        return ResidualMLP(self.widths, 1, self.activation)

    def init(self, key: PRNGKeyArray, normalizer: Normalizer | None = None) -> Params:
        """Fresh parameters; `net` is trained and `normalizer` is not."""
        net = jax.jit(self.network.init)(init_key(key), jnp.zeros((1, self.observation_size)))["params"]
        if normalizer is None:
            normalizer = identity_normalizer(self.observation_size, 1)
        return {"net": net, "normalizer": jax.tree.map(jnp.asarray, normalizer)}

    def value(self, params: Params, observation: Float[Array, "*B O"]) -> Float[Array, "*B"]:
        """Expected discounted return from raw observations, in units of the scaled reward."""
        inputs = normalize_observation(params["normalizer"], observation)
        return self.network.apply({"params": params["net"]}, inputs)[..., 0]
