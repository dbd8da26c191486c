"""A policy that denoises action chunks."""

from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rlgen.diffusion.samplers import (
    DenoisingPath,
    Noise,
    denoise,
    floored_sigma,
    normal_log_prob,
    sample_noise,
    transition_log_prob,
    transition_mean,
)
from rlgen.diffusion.schedules import Chain, Schedule, cosine_schedule, ddim_chain, ddpm_chain, denoising_loss
from rlgen.diffusion.solvers import dpm_solver_chain
from rlgen.policies.base import Features, Params, PolicyObservation, PolicySample
from rlgen.policies.network import NetworkPolicy
from rlgen.policies.normalizer import normalize_action


@dataclass(frozen=True)
class DiffusionPolicy(NetworkPolicy):
    """A diffusion policy whose denoising chain, described by `config.diffusion`, PPO can train (Ren et al., 2024).

    A chain of T steps is split in two: a frozen copy of the cloned network takes the first T - K steps, the trained
    network the last K.
    """

    @property
    def schedule(self) -> Schedule:
        """The noise schedule of cloning."""
        return cosine_schedule(self.config.diffusion.train_timesteps)

    @property
    def train_chain(self) -> Chain:
        """The trained steps of the chain of rollouts and of the likelihood."""
        return self._chain(self.config.diffusion.eta_train).part(self.num_frozen_steps)

    @property
    def act_chain(self) -> Chain:
        """The chain of evaluation and collection."""
        config = self.config.diffusion
        if config.act_sampler == "dpm":
            return dpm_solver_chain(self.schedule, config.denoising_steps, config.prediction)
        return self._chain(config.eta_act)

    @property
    def num_trained_steps(self) -> int:
        """K: all steps of the chain, or the last `config.diffusion.num_finetuned_steps`."""
        config = self.config.diffusion
        return config.num_steps if config.num_finetuned_steps is None else config.num_finetuned_steps

    @property
    def num_frozen_steps(self) -> int:
        """The number of steps before the trained ones, which the frozen network takes."""
        return self.config.diffusion.num_steps - self.num_trained_steps

    @property
    def clamp(self) -> Literal["each", "mean"]:
        """Each entry's log density is clamped."""
        return "each"

    def sample_from(
        self, params: Params, key: PRNGKeyArray | None, features: Features, noise: Noise | None = None
    ) -> PolicySample:
        """Samples a chunk for each row; arguments as of `Policy.sample_from`.

        The steps of the frozen network are not part of the returned chain.
        """
        config, chain = self.config.diffusion, self._chain(self.config.diffusion.eta_train)
        if noise is None:
            if key is None:
                raise ValueError("neither a key nor noise: expected one of them to sample a chunk")
            noise = sample_noise(key, chain.steps, self.chunk_shape(features))
        path = self._denoise(params, features, chain, noise, floored_sigma(chain, config.sigma_min_sample))
        sigma = floored_sigma(self.train_chain, config.sigma_min_logprob)[:, None, None, None]
        log_prob = normal_log_prob(path.points[1:], path.means, sigma)
        return PolicySample(
            chunk=self.to_action(params, path.chunk),
            chain=jnp.moveaxis(path.points, 0, 1),
            log_prob=jnp.moveaxis(log_prob, 0, 1),
        )

    def act_from(self, params: Params, key: PRNGKeyArray | None, features: Features) -> Float[Array, "B H A"]:
        """Denoises by the deterministic chain of `act_chain`; arguments as of `Policy.act_from`."""
        config, chain, shape = self.config.diffusion, self.act_chain, self.chunk_shape(features)
        initial = jnp.zeros(shape) if key is None else jax.random.normal(key, shape)
        if config.sampler == "ddim" or config.act_sampler is not None or key is None:
            noise, sigma = Noise(initial, jnp.zeros((chain.steps, 1, 1, 1))), None
        else:
            # Ancestral sampling keeps its own noise in evaluation; only the last transition adds none.
            noise = sample_noise(key, chain.steps, shape)
            sigma = floored_sigma(chain, 1e-3).at[-1].set(0)
        return self.to_action(params, self._denoise(params, features, chain, noise, sigma).chunk)

    def log_prob_from(
        self,
        params: Params,
        features: Features,
        chain_prev: Float[Array, "B H A"],
        chain_next: Float[Array, "B H A"],
        index: Int[Array, " B"],
    ) -> Float[Array, "B H A"]:
        """Returns the log density of transitions; arguments as of `Policy.log_prob_from`."""
        chain = self.train_chain
        timestep = jnp.asarray(chain.timestep)[index]
        output = self.predictor(params["net"], features)(chain_prev, timestep)
        sigma_min = self.config.diffusion.sigma_min_logprob
        return transition_log_prob(chain, index, chain_prev, chain_next, output, sigma_min)

    def mean_from(
        self, params: Params, features: Features, chain_prev: Float[Array, "B H A"], index: Int[Array, " B"]
    ) -> Float[Array, "B H A"]:
        """Returns the mean of the point after a transition; arguments as of `Policy.mean_from`."""
        chain = self.train_chain
        output = self.predictor(params["net"], features)(chain_prev, jnp.asarray(chain.timestep)[index])
        return transition_mean(chain, index, chain_prev, output)

    def entropy(self, params: Params, features: Features) -> Float[Array, ""]:
        """Returns 0: the chain's noise does not depend on parameters."""
        return jnp.zeros(())

    def bc_loss(
        self, params: Params, key: PRNGKeyArray, observation: PolicyObservation, chunk: Float[Array, "B H A"]
    ) -> Float[Array, ""]:
        """Returns the denoising loss at random timesteps with random noise; arguments as of `Policy.bc_loss`."""
        config = self.config.diffusion
        key_time, key_noise = jax.random.split(key)
        timestep = jax.random.randint(key_time, chunk.shape[:1], 0, config.train_timesteps)
        noise = jax.random.normal(key_noise, chunk.shape)
        clean = normalize_action(params["normalizer"], chunk)
        predict = self.predictor(params["net"], self.encode(params, observation))
        return denoising_loss(predict, self.schedule, clean, noise, timestep, config.prediction)

    def _denoise(
        self, params: Params, features: Features, chain: Chain, noise: Noise, sigma: Array | None
    ) -> DenoisingPath:
        """Denoises along the whole chain and returns the trained part of the path."""
        predict = self.predictor(params["net"], features)
        frozen = self.num_frozen_steps if chain.steps == self.config.diffusion.num_steps else 0
        if frozen == 0:
            return denoise(predict, chain, noise, sigma)
        # A policy that has only been cloned is its own base.
        base = self.predictor(params.get("base", params["net"]), features)
        first = denoise(base, chain.part(0, frozen), noise.part(0, frozen), None if sigma is None else sigma[:frozen])
        rest = replace(noise.part(frozen), initial=first.chunk)
        return denoise(predict, chain.part(frozen), rest, None if sigma is None else sigma[frozen:])

    def _chain(self, eta: float) -> Chain:
        config = self.config.diffusion
        if config.sampler == "ddpm":
            return ddpm_chain(self.schedule, config.prediction)
        return ddim_chain(self.schedule, config.denoising_steps, eta, config.prediction)
