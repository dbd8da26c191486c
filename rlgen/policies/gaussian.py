"""A policy that samples a chunk from one Gaussian: the baseline, on the network of the diffusion policy.

The U-Net reads a chunk of zeros at timestep 0 instead of a noisy one, so that both policies have the same network and,
except for one log variance for each dimension of an action, the same number of parameters.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rlgen.diffusion.samplers import normal_log_prob
from rlgen.nets.layers import apply_network, at_least_single
from rlgen.nets.mlp import GaussianMLP, clamped_sigma, squashed_sigma
from rlgen.policies.base import Features, Params, PolicyObservation, PolicySample
from rlgen.policies.network import NetworkPolicy
from rlgen.policies.normalizer import normalize_action

_ENTROPY_OF_UNIT_NORMAL = 0.5 * math.log(2 * math.pi * math.e)


@dataclass(frozen=True)
class GaussianPolicy(NetworkPolicy):
    """A Gaussian policy; `config.gaussian` describes its standard deviation.

    The mean is an MLP's of the features where `config.network` is `mlp`, else the U-Net's.
    """

    @property
    def num_trained_steps(self) -> int:
        """K = 1, the single transition."""
        return 1

    @property
    def clamp(self) -> Literal["each", "mean"]:
        """The mean of the log densities is clamped."""
        return "mean"

    @property
    def network(self) -> Any:
        """The network over chunks; an MLP returns the mean and the input of a state-dependent standard deviation."""
        if self.config.network == "mlp":
            config = self.config.gaussian
            return GaussianMLP(
                self.horizon * self.action_size, self.config.mlp_widths, config.residual, config.std_kind
            )
        return super().network

    def distribution(self, params: Params, features: Features) -> tuple[Float[Array, "B H A"], Float[Array, "B H A"]]:
        """Returns mean and standard deviation of the chunk of each row, in units of normalized actions."""
        config, net, shape = self.config.gaussian, params["net"], self.chunk_shape(features)
        output: Any = None
        if self.config.network == "mlp":
            net_params = net["mean"]["trunk"] if self.has_images else net["mean"]
            flat, output = apply_network(self.network, *self.for_compute(net_params, features))
            mean = at_least_single(flat).reshape(shape)
            output = None if output is None else at_least_single(output)
        else:
            mean = jnp.tanh(self.predictor(net["mean"], features)(jnp.zeros(shape), jnp.zeros((), jnp.int32)))
        if config.std_kind == "state":
            return mean, squashed_sigma(output, *config.std_range).reshape(shape)
        if config.std_kind == "fixed":
            return mean, jnp.full(shape, config.std)
        return mean, jnp.broadcast_to(clamped_sigma(net["log_variance"], *config.std_range), shape)

    def encode(self, params: Params, observation: PolicyObservation) -> Features:
        """Returns the features that mean and standard deviation are computed from."""
        return super().encode({**params, "net": params["net"]["mean"]}, observation)

    def sample_from(
        self,
        params: Params,
        key: PRNGKeyArray | None,
        features: Features,
        noise: Float[Array, "B H A"] | None = None,
    ) -> PolicySample:
        """Samples a chunk for each row; arguments as of `Policy.sample_from`.

        `noise` is standard normal. The chain is a chunk of zeros, then the sampled chunk.
        """
        mean, sigma = self.distribution(params, features)
        if noise is None:
            if key is None:
                raise ValueError("neither a key nor noise: expected one of them to sample a chunk")
            noise = jax.random.normal(key, mean.shape)
        limit = self.config.gaussian.clip_noise
        chunk = mean + sigma * jnp.clip(noise, -limit, limit)
        return PolicySample(
            chunk=self.to_action(params, chunk),
            chain=jnp.stack([jnp.zeros_like(chunk), chunk], axis=1),
            log_prob=normal_log_prob(chunk, mean, sigma)[:, None],
        )

    def act_from(self, params: Params, key: PRNGKeyArray | None, features: Features) -> Float[Array, "B H A"]:
        """Returns the mean; arguments as of `Policy.act_from`, of which `key` is not read."""
        return self.to_action(params, self.distribution(params, features)[0])

    def log_prob_from(
        self,
        params: Params,
        features: Features,
        chain_prev: Float[Array, "B H A"],
        chain_next: Float[Array, "B H A"],
        index: Int[Array, " B"],
    ) -> Float[Array, "B H A"]:
        """Returns the log density of `chain_next`; arguments as of `Policy.log_prob_from`."""
        return normal_log_prob(chain_next, *self.distribution(params, features))

    def mean_from(
        self, params: Params, features: Features, chain_prev: Float[Array, "B H A"], index: Int[Array, " B"]
    ) -> Float[Array, "B H A"]:
        """Returns the mean of the chunk; arguments as of `Policy.mean_from`."""
        return self.distribution(params, features)[0]

    def entropy(self, params: Params, features: Features) -> Float[Array, ""]:
        """Returns the mean entropy of an entry of a chunk."""
        return (_ENTROPY_OF_UNIT_NORMAL + jnp.log(self.distribution(params, features)[1])).mean()

    def bc_loss(
        self, params: Params, key: PRNGKeyArray, observation: PolicyObservation, chunk: Float[Array, "B H A"]
    ) -> Float[Array, ""]:
        """Returns minus the mean log density of an entry, minus the weighted entropy.

        Arguments as of `Policy.bc_loss`; `key` is not read.
        """
        features = self.encode(params, observation)
        clean = normalize_action(params["normalizer"], chunk)
        mean, sigma = self.distribution(params, features)
        entropy = (_ENTROPY_OF_UNIT_NORMAL + jnp.log(sigma)).mean()
        return -normal_log_prob(clean, mean, sigma).mean() - self.config.gaussian.bc_entropy_weight * entropy

    def _init(self, key: PRNGKeyArray) -> tuple[Any, Features]:
        mean, features = super()._init(key)
        config = self.config.gaussian
        if config.std_kind != "learned":
            return {"mean": mean}, features
        return {"mean": mean, "log_variance": jnp.full(self.action_size, 2 * math.log(config.std))}, features

    def _init_network(self, key: PRNGKeyArray, features: Features) -> Any:
        if self.config.network == "mlp":
            return self.network.init(key, features)["params"]
        return super()._init_network(key, features)
