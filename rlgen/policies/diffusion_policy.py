"""A policy that denoises action chunks, conditioned on a state observation.

Parameters are a dictionary of two plain pytrees: `net`, which is trained, and `normalizer`, which is not.
"""

from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rlgen.diffusion.likelihood import normal_log_prob, transition_log_prob
from rlgen.diffusion.samplers import Noise, draw_noise, floored_sigma, walk
from rlgen.diffusion.schedules import Chain, Prediction, Schedule, cosine_schedule, ddim_chain, ddpm_chain
from rlgen.diffusion.training import denoising_loss
from rlgen.nets.keys import init_key
from rlgen.nets.mlp import DiffusionMLP
from rlgen.nets.unet1d import Unet1d
from rlgen.policies.normalizer import (
    Normalizer,
    identity_normalizer,
    normalize_action,
    normalize_observation,
    unnormalize_action,
)

Params = dict[str, Any]


@struct.dataclass
class PolicySample:
    """What a rollout needs of a sampled chunk, and what the update needs.

    Attributes:
      chunk: actions to command, in [-1, 1].
      chain: every point of the walk, normalised and unclamped, noisiest first.
      log_prob: log density of each transition, for each number, not clamped.
    """

    chunk: Float[Array, "B H A"]
    chain: Float[Array, "B K+1 H A"]
    log_prob: Float[Array, "B K H A"]


@dataclass(frozen=True)
class DiffusionPolicy:
    """What the policy is; hashable, so that it can be a static argument of a jitted function.

    Attributes:
      observation_size: numbers in an observation.
      horizon: actions in a chunk, H. Fewer may be executed.
      action_size: numbers in an action, A.
      architecture: `unet`, or `mlp`.
      dim: channels of the U-Net's finest level.
      mults: channels of each level as multiples of `dim`.
      film_deep: three-layer FiLM encoders.
      widths: hidden widths of the perceptron.
      time_size: width of the timestep's embedding.
      prediction: what the network's output means.
      train_steps: length of the training schedule.
      sampler: `ddim`, or `ddpm`, which walks all of `train_steps`.
      steps: positions of the DDIM chain, K.
      eta_train: DDIM's eta in rollouts and in the likelihood.
      eta_act: DDIM's eta in `act`, which adds no noise: with 0 the usual deterministic chain, with `eta_train` the
        means of the chain that PPO trains.
      sigma_min_sample: floor of the standard deviation in rollouts.
      sigma_min_logprob: floor of the standard deviation in the likelihood.
    """

    observation_size: int
    horizon: int = 8
    action_size: int = 7
    architecture: Literal["unet", "mlp"] = "unet"
    dim: int = 32
    mults: tuple[int, ...] = (1, 2)
    film_deep: bool = False
    widths: tuple[int, ...] = (384, 384, 384)
    time_size: int = 16
    prediction: Prediction = "eps"
    train_steps: int = 100
    sampler: Literal["ddim", "ddpm"] = "ddim"
    steps: int = 5
    eta_train: float = 1.0
    eta_act: float = 0.0
    sigma_min_sample: float = 0.1
    sigma_min_logprob: float = 0.1

    def __post_init__(self) -> None:
        if self.architecture not in ("unet", "mlp"):
            raise ValueError(f"architecture {self.architecture!r}: expected 'unet' or 'mlp'")
        if self.sampler not in ("ddim", "ddpm"):
            raise ValueError(f"sampler {self.sampler!r}: expected 'ddim' or 'ddpm'")
        if self.sigma_min_logprob <= 0:
            raise ValueError(f"sigma_min_logprob {self.sigma_min_logprob}: expected more than 0")
        halvings = 2 ** (len(self.mults) - 1)
        if self.architecture == "unet" and self.horizon % halvings:
            raise ValueError(f"horizon {self.horizon} with mults {self.mults}: expected a multiple of {halvings}")

    @property
    def network(self) -> nn.Module:
        """The noise predictor, called with a chunk, a timestep and a normalised observation."""
        if self.architecture == "mlp":
            return DiffusionMLP(self.action_size, self.widths, self.time_size)
        return Unet1d(self.action_size, self.dim, self.mults, self.time_size, film_deep=self.film_deep)

    @property
    def schedule(self) -> Schedule:
        return cosine_schedule(self.train_steps)

    @property
    def train_chain(self) -> Chain:
        """The chain of rollouts and of the likelihood."""
        return self._chain(self.eta_train)

    @property
    def act_chain(self) -> Chain:
        """The chain of evaluation and collection."""
        return self._chain(self.eta_act)

    @property
    def chain_steps(self) -> int:
        """Positions of the chain, K."""
        return self.train_steps if self.sampler == "ddpm" else self.steps

    def init(self, key: PRNGKeyArray, normalizer: Normalizer | None = None) -> Params:
        """Fresh parameters."""
        # Compiled, the forward pass that Linen would run to find the shapes falls away.
        net = jax.jit(self.network.init)(
            init_key(key),
            jnp.zeros((1, self.horizon, self.action_size)),
            jnp.zeros((), int),
            jnp.zeros((1, self.observation_size)),
        )
        if normalizer is None:
            normalizer = identity_normalizer(self.observation_size, self.action_size)
        return {"net": net["params"], "normalizer": jax.tree.map(jnp.asarray, normalizer)}

    def sample(
        self, params: Params, key: PRNGKeyArray, observation: Float[Array, "B O"], noise: Noise | None = None
    ) -> PolicySample:
        """A chunk for each observation with exploration, and the chain that led to it.

        Args:
          params: parameters.
          key: randomness; not read where `noise` is given.
          observation: raw observations.
          noise: the walk's randomness, to be given instead of a key.
        """
        chain = self.train_chain
        if noise is None:
            noise = draw_noise(key, chain.steps, self._chunk_shape(observation))
        predict = self._predictor(params, observation)
        walked = walk(predict, chain, noise, floored_sigma(chain, self.sigma_min_sample))
        sigma = floored_sigma(chain, self.sigma_min_logprob)[:, None, None, None]
        log_prob = normal_log_prob(walked.points[1:], walked.means, sigma)
        return PolicySample(
            chunk=self._command(params, walked.chunk),
            chain=jnp.moveaxis(walked.points, 0, 1),
            log_prob=jnp.moveaxis(log_prob, 0, 1),
        )

    def act(self, params: Params, key: PRNGKeyArray | None, observation: Float[Array, "B O"]) -> Float[Array, "B H A"]:
        """A chunk for each observation by the deterministic chain, in [-1, 1].

        Args:
          params: parameters.
          key: draws the initial noise; None starts every chain from zeros.
          observation: raw observations.
        """
        chain, shape = self.act_chain, self._chunk_shape(observation)
        initial = jnp.zeros(shape) if key is None else jax.random.normal(key, shape)
        if self.sampler == "ddim" or key is None:
            noise, sigma = Noise(initial, jnp.zeros((chain.steps, 1, 1, 1))), None
        else:
            # Ancestral sampling keeps its own noise in evaluation; only the last transition adds none.
            noise = draw_noise(key, chain.steps, shape)
            sigma = floored_sigma(chain, 1e-3).at[-1].set(0)
        walked = walk(self._predictor(params, observation), chain, noise, sigma)
        return self._command(params, walked.chunk)

    def log_prob(
        self,
        params: Params,
        observation: Float[Array, "B O"],
        chain_prev: Float[Array, "B H A"],
        chain_next: Float[Array, "B H A"],
        index: Int[Array, " B"],
    ) -> Float[Array, "B H A"]:
        """Log density of a transition at position `index` of the chain, for each number, not clamped."""
        chain = self.train_chain
        timestep = jnp.asarray(chain.timestep)[index]
        output = self._predictor(params, observation)(chain_prev, timestep)
        return transition_log_prob(chain, index, chain_prev, chain_next, output, self.sigma_min_logprob)

    def bc_loss(
        self, params: Params, key: PRNGKeyArray, observation: Float[Array, "B O"], chunk: Float[Array, "B H A"]
    ) -> Float[Array, ""]:
        """Denoising loss on chunks of commanded actions, at timesteps and noise drawn from `key`."""
        key_time, key_noise = jax.random.split(key)
        timestep = jax.random.randint(key_time, chunk.shape[:1], 0, self.train_steps)
        noise = jax.random.normal(key_noise, chunk.shape)
        clean = normalize_action(params["normalizer"], chunk)
        predict = self._predictor(params, observation)
        return denoising_loss(predict, self.schedule, clean, noise, timestep, self.prediction)

    def _predictor(self, params: Params, observation: Float[Array, "B O"]):
        condition = normalize_observation(params["normalizer"], observation)
        return self.network.apply({"params": params["net"]}, condition, self.horizon, method="prepare")

    def _command(self, params: Params, chunk: Float[Array, "B H A"]) -> Float[Array, "B H A"]:
        return jnp.clip(unnormalize_action(params["normalizer"], chunk), -1, 1)

    def _chunk_shape(self, observation: Float[Array, "B O"]) -> tuple[int, int, int]:
        return (observation.shape[0], self.horizon, self.action_size)

    def _chain(self, eta: float) -> Chain:
        if self.sampler == "ddpm":
            return ddpm_chain(self.schedule, self.prediction)
        return ddim_chain(self.schedule, self.steps, eta, self.prediction)
