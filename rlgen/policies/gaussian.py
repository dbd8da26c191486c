"""A policy that draws a chunk from one Gaussian: the baseline, with the trunk of the diffusion policy.

The U-Net reads an empty chunk at timestep 0 instead of a noisy one, so that both have the same network and, but for
one log variance a number of an action, the same number of parameters.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rlgen.diffusion.samplers import normal_log_prob
from rlgen.nets.mlp import GaussianMLP, Spread, clamped_sigma, squashed_sigma
from rlgen.policies.base import Code, Observed, Params, PolicySample
from rlgen.policies.network import NetworkPolicy
from rlgen.policies.normalizer import normalize_action

HALF_LOG_TAU_E = 0.5 * math.log(2 * math.pi * math.e)


@dataclass(frozen=True)
class GaussianPolicy(NetworkPolicy):
    """What the policy is.

    With `mlp` as architecture the mean is a perceptron's of the code, else the U-Net's.

    Attributes:
      spread: `learned`, a log variance for every number of an action; `state`, a second output of the perceptron;
        `fixed`.
      sigma: standard deviation at the start, or for good.
      sigma_range: where a standard deviation that is learned may be.
      residual: whether the perceptron has residual blocks.
      entropy_bc: weight of the entropy in behaviour cloning.
      clip_noise: draws are clamped to this many standard deviations.
    """

    spread: Spread = "learned"
    sigma: float = 0.1
    sigma_range: tuple[float, float] = (0.01, 0.2)
    residual: bool = True
    entropy_bc: float = 0.0
    clip_noise: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.sigma_range
        if not 0 < low < high or self.sigma <= 0:
            raise ValueError(f"sigma {self.sigma} in {self.sigma_range}: expected more than 0, and a range that rises")
        if self.spread == "state" and self.architecture != "mlp":
            raise ValueError("a spread that depends on the state: expected the architecture 'mlp'")

    @property
    def chain_steps(self) -> int:
        """One transition."""
        return 1

    @property
    def clamp(self) -> Literal["each", "mean"]:
        return "mean"

    @property
    def network(self) -> Any:
        if self.architecture == "mlp":
            return GaussianMLP(self.horizon * self.action_size, self.widths, self.residual, self.spread)
        return super().network

    def distribution(self, params: Params, code: Code) -> tuple[Float[Array, "B H A"], Float[Array, "B H A"]]:
        """Mean and standard deviation of the chunk of each code, in units of normalised actions."""
        net, shape = params["net"], self.chunk_shape(code)
        output = None
        if self.architecture == "mlp":
            trunk = net["mean"] if self.eyes is None else net["mean"]["trunk"]
            flat, output = self.network.apply({"params": trunk}, code)
            mean = flat.reshape(shape)
        else:
            mean = jnp.tanh(self.predictor(net["mean"], code)(jnp.zeros(shape), jnp.zeros((), jnp.int32)))
        if self.spread == "state":
            return mean, squashed_sigma(output, *self.sigma_range).reshape(shape)
        if self.spread == "fixed":
            return mean, jnp.full(shape, self.sigma)
        return mean, jnp.broadcast_to(clamped_sigma(net["log_variance"], *self.sigma_range), shape)

    def encode(self, params: Params, observation: Observed) -> Code:
        return super().encode({**params, "net": params["net"]["mean"]}, observation)

    def sample_from(
        self, params: Params, key: PRNGKeyArray, code: Code, noise: Float[Array, "B H A"] | None = None
    ) -> PolicySample:
        """As said of `Policy`; `noise` is standard normal, the chain an empty chunk and the chunk."""
        mean, sigma = self.distribution(params, code)
        draw = jax.random.normal(key, mean.shape) if noise is None else noise
        chunk = mean + sigma * jnp.clip(draw, -self.clip_noise, self.clip_noise)
        return PolicySample(
            chunk=self.command(params, chunk),
            chain=jnp.stack([jnp.zeros_like(chunk), chunk], axis=1),
            log_prob=normal_log_prob(chunk, mean, sigma)[:, None],
        )

    def act_from(self, params: Params, key: PRNGKeyArray | None, code: Code) -> Float[Array, "B H A"]:
        """The mean."""
        return self.command(params, self.distribution(params, code)[0])

    def log_prob_from(
        self,
        params: Params,
        code: Code,
        chain_prev: Float[Array, "B H A"],
        chain_next: Float[Array, "B H A"],
        index: Int[Array, " B"],
    ) -> Float[Array, "B H A"]:
        return normal_log_prob(chain_next, *self.distribution(params, code))

    def entropy(self, params: Params, code: Code) -> Float[Array, ""]:
        return (HALF_LOG_TAU_E + jnp.log(self.distribution(params, code)[1])).mean()

    def bc_loss(
        self, params: Params, key: PRNGKeyArray, observation: Observed, chunk: Float[Array, "B H A"]
    ) -> Float[Array, ""]:
        """Minus the mean log density of a number, less the weighted entropy; `key` is not read."""
        code = self.encode(params, observation)
        clean = normalize_action(params["normalizer"], chunk)
        mean, sigma = self.distribution(params, code)
        entropy = (HALF_LOG_TAU_E + jnp.log(sigma)).mean()
        return -normal_log_prob(clean, mean, sigma).mean() - self.entropy_bc * entropy

    def _init(self, key: PRNGKeyArray) -> tuple[Any, Code]:
        mean, code = super()._init(key)
        if self.spread != "learned":
            return {"mean": mean}, code
        return {"mean": mean, "log_variance": jnp.full(self.action_size, 2 * math.log(self.sigma))}, code

    def _init_network(self, key: PRNGKeyArray, code: Code) -> Any:
        if self.architecture == "mlp":
            return self.network.init(key, code)["params"]
        return super()._init_network(key, code)
