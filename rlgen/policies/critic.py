"""A critic on what the policy's encoder says, or on the physics state."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rlgen.nets.layers import init_key
from rlgen.nets.mlp import ResidualMLP
from rlgen.policies.base import Code, Observed, Params
from rlgen.policies.normalizer import normalize_observation


@dataclass(frozen=True)
class Critic:
    """What the critic is; hashable, so that it can be a static argument of a jitted function.

    Attributes:
      size_in: numbers that it reads.
      widths: hidden widths of a residual perceptron.
      activation: name of its activation.
      physics: reads the whole normalised vector of a `Sight` in place of the policy's code: a critic that knows
        where things are beside a policy that has to see it.
    """

    size_in: int
    widths: tuple[int, ...] = (256, 256, 256)
    activation: str = "mish"
    physics: bool = False

    @property
    def network(self) -> ResidualMLP:
        return ResidualMLP(self.widths, 1, self.activation)

    def init(self, key: PRNGKeyArray) -> Any:
        """Fresh parameters."""
        return jax.jit(self.network.init)(init_key(key), jnp.zeros((1, self.size_in)))["params"]

    def inputs(self, params: Params, observation: Observed, code: Code) -> Float[Array, "B I"]:
        """What it reads of an observation; the value's error does not move the policy's encoder.

        Args:
          params: the policy's.
          observation: raw.
          code: what the policy's encoder made of it.
        """
        if self.physics:
            return normalize_observation(params["normalizer"], observation.vector)
        return jax.lax.stop_gradient(code)

    def value(self, net: Any, inputs: Float[Array, "*B I"]) -> Float[Array, "*B"]:
        """Expected discounted return, in units of the scaled reward."""
        return self.network.apply({"params": net}, inputs)[..., 0]
