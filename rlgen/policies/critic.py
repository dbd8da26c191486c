"""A critic on the policy's features, or on the physics state."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rlgen.configs.schema import CriticConfig
from rlgen.nets.layers import apply_network, init_key
from rlgen.nets.mlp import ResidualMLP
from rlgen.policies.base import Features, Params, PolicyObservation
from rlgen.policies.network import NetworkPolicy
from rlgen.policies.normalizer import normalize_observation


@dataclass(frozen=True)
class Critic:
    """A value function; hashable, so that it can be a static argument of a jitted function.

    Attributes:
      config: its configuration.
      input_size: length I of what it reads.
    """

    config: CriticConfig
    input_size: int

    @property
    def network(self) -> ResidualMLP:
        """The residual MLP."""
        return ResidualMLP(self.config.widths, 1, self.config.activation)

    def init(self, key: PRNGKeyArray) -> Any:
        """Returns fresh parameters."""
        return jax.jit(self.network.init)(init_key(key), jnp.zeros((1, self.input_size)))["params"]

    def inputs(self, params: Params, observation: PolicyObservation, features: Features) -> Float[Array, "B I"]:
        """Returns the critic's input of an observation; its gradient does not reach the policy's encoder.

        Args:
          params: the policy's.
          observation: raw.
          features: of the observation, by the policy's encoder.
        """
        if self.config.privileged:
            return normalize_observation(params["normalizer"], observation.vector)
        return jax.lax.stop_gradient(features)

    def value(self, net: Any, inputs: Float[Array, "*B I"]) -> Float[Array, "*B"]:
        """Returns the expected discounted return, in units of the scaled reward."""
        return apply_network(self.network, net, inputs)[..., 0]


def make_critic(policy: NetworkPolicy) -> Critic:
    """Returns the critic beside a policy; only with images there is a choice of what it reads."""
    config = policy.config.critic
    if not policy.has_images:
        return Critic(CriticConfig(config.widths, config.activation), policy.feature_size)
    return Critic(config, policy.observation_size if config.privileged else policy.feature_size)
