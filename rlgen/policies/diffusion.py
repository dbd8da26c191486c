"""A policy that denoises action chunks."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rlgen.diffusion.samplers import Noise, Walk, draw_noise, floored_sigma, normal_log_prob, transition_log_prob, walk
from rlgen.diffusion.schedules import (
    Chain,
    Prediction,
    Schedule,
    cosine_schedule,
    ddim_chain,
    ddpm_chain,
    denoising_loss,
)
from rlgen.diffusion.solvers import dpm_solver_chain
from rlgen.policies.base import Code, Observed, Params, PolicySample
from rlgen.policies.network import NetworkPolicy
from rlgen.policies.normalizer import normalize_action


@dataclass(frozen=True)
class DiffusionPolicy(NetworkPolicy):
    """What the policy is.

    Attributes:
      prediction: what the network's output means.
      train_steps: length of the training schedule.
      sampler: `ddim`, or `ddpm`, which walks all of `train_steps`.
      steps: positions of the DDIM chain.
      finetuned: last positions of the chain that are trained, K; the frozen network walks those before. None for all.
      eta_train: DDIM's eta in rollouts and in the likelihood.
      eta_act: DDIM's eta in `act`, which adds no noise: with 0 the usual deterministic chain, with `eta_train` the
        means of the chain that PPO trains.
      act_sampler: the chain of `act` where it is another one: `dpm` for DPM-Solver++ of `steps` steps.
      sigma_min_sample: floor of the standard deviation in rollouts.
      sigma_min_logprob: floor of the standard deviation in the likelihood.
    """

    prediction: Prediction = "eps"
    train_steps: int = 100
    sampler: Literal["ddim", "ddpm"] = "ddim"
    steps: int = 5
    finetuned: int | None = None
    eta_train: float = 1.0
    eta_act: float = 0.0
    act_sampler: Literal["dpm"] | None = None
    sigma_min_sample: float = 0.1
    sigma_min_logprob: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampler not in ("ddim", "ddpm"):
            raise ValueError(f"sampler {self.sampler!r}: expected 'ddim' or 'ddpm'")
        if self.act_sampler not in (None, "dpm"):
            raise ValueError(f"act_sampler {self.act_sampler!r}: expected None or 'dpm'")
        if self.sigma_min_logprob <= 0:
            raise ValueError(f"sigma_min_logprob {self.sigma_min_logprob}: expected more than 0")
        if self.finetuned is not None and not 1 <= self.finetuned <= self._positions:
            raise ValueError(f"{self.finetuned} positions to train: expected 1 to {self._positions}, the chain's")

    @property
    def schedule(self) -> Schedule:
        return cosine_schedule(self.train_steps)

    @property
    def train_chain(self) -> Chain:
        """The trained part of the chain of rollouts and of the likelihood."""
        return self._chain(self.eta_train).part(self.frozen_steps)

    @property
    def act_chain(self) -> Chain:
        """The chain of evaluation and collection."""
        if self.act_sampler == "dpm":
            return dpm_solver_chain(self.schedule, self.steps, self.prediction)
        return self._chain(self.eta_act)

    @property
    def chain_steps(self) -> int:
        """Positions that are trained, K."""
        return self._positions if self.finetuned is None else self.finetuned

    @property
    def frozen_steps(self) -> int:
        """Positions before them, which the frozen network walks."""
        return self._positions - self.chain_steps

    @property
    def clamp(self) -> Literal["each", "mean"]:
        return "each"

    def sample_from(self, params: Params, key: PRNGKeyArray, code: Code, noise: Noise | None = None) -> PolicySample:
        """As said of `Policy`; what the frozen network walks is not part of the chain that is returned."""
        chain = self._chain(self.eta_train)
        if noise is None:
            noise = draw_noise(key, chain.steps, self.chunk_shape(code))
        walked = self._walk(params, code, chain, noise, floored_sigma(chain, self.sigma_min_sample))
        sigma = floored_sigma(self.train_chain, self.sigma_min_logprob)[:, None, None, None]
        log_prob = normal_log_prob(walked.points[1:], walked.means, sigma)
        return PolicySample(
            chunk=self.command(params, walked.chunk),
            chain=jnp.moveaxis(walked.points, 0, 1),
            log_prob=jnp.moveaxis(log_prob, 0, 1),
        )

    def act_from(self, params: Params, key: PRNGKeyArray | None, code: Code) -> Float[Array, "B H A"]:
        """By the deterministic chain; the key draws its initial noise."""
        chain, shape = self.act_chain, self.chunk_shape(code)
        initial = jnp.zeros(shape) if key is None else jax.random.normal(key, shape)
        if self.sampler == "ddim" or self.act_sampler is not None or key is None:
            noise, sigma = Noise(initial, jnp.zeros((chain.steps, 1, 1, 1))), None
        else:
            # Ancestral sampling keeps its own noise in evaluation; only the last transition adds none.
            noise = draw_noise(key, chain.steps, shape)
            sigma = floored_sigma(chain, 1e-3).at[-1].set(0)
        return self.command(params, self._walk(params, code, chain, noise, sigma).chunk)

    def log_prob_from(
        self,
        params: Params,
        code: Code,
        chain_prev: Float[Array, "B H A"],
        chain_next: Float[Array, "B H A"],
        index: Int[Array, " B"],
    ) -> Float[Array, "B H A"]:
        chain = self.train_chain
        timestep = jnp.asarray(chain.timestep)[index]
        output = self.predictor(params["net"], code)(chain_prev, timestep)
        return transition_log_prob(chain, index, chain_prev, chain_next, output, self.sigma_min_logprob)

    def entropy(self, params: Params, code: Code) -> Float[Array, ""]:
        """Counted as 0: the chain's noise does not depend on parameters."""
        return jnp.zeros(())

    def bc_loss(
        self, params: Params, key: PRNGKeyArray, observation: Observed, chunk: Float[Array, "B H A"]
    ) -> Float[Array, ""]:
        """Denoising loss on chunks of commanded actions, at timesteps and noise drawn from `key`."""
        key_time, key_noise = jax.random.split(key)
        timestep = jax.random.randint(key_time, chunk.shape[:1], 0, self.train_steps)
        noise = jax.random.normal(key_noise, chunk.shape)
        clean = normalize_action(params["normalizer"], chunk)
        predict = self.predictor(params["net"], self.encode(params, observation))
        return denoising_loss(predict, self.schedule, clean, noise, timestep, self.prediction)

    def _walk(self, params: Params, code: Code, chain: Chain, noise: Noise, sigma: Array | None) -> Walk:
        """The whole chain, the trained part of which is returned."""
        predict = self.predictor(params["net"], code)
        frozen = self.frozen_steps if chain.steps == self._positions else 0
        if frozen == 0:
            return walk(predict, chain, noise, sigma)
        # A policy that was only cloned is its own base.
        before = self.predictor(params.get("base", params["net"]), code)
        first = walk(before, chain.part(0, frozen), noise.part(0, frozen), None if sigma is None else sigma[:frozen])
        rest = noise.part(frozen).replace(initial=first.chunk)
        return walk(predict, chain.part(frozen), rest, None if sigma is None else sigma[frozen:])

    @property
    def _positions(self) -> int:
        return self.train_steps if self.sampler == "ddpm" else self.steps

    def _chain(self, eta: float) -> Chain:
        if self.sampler == "ddpm":
            return ddpm_chain(self.schedule, self.prediction)
        return ddim_chain(self.schedule, self.steps, eta, self.prediction)
