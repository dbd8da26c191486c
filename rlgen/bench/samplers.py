"""`rlgen bench sampler`: seconds of every sampler of the diffusion policy on the reference network of `updates`.

A sampler turns observations into chunks of actions: DDPM with all steps of the training schedule, DDIM, DPM-Solver and
flow matching with fewer. Its operations per second are compared with those of a plain matrix product on this device.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from rlgen.bench.timing import MATRIX_SIZE, describe, matmul_gflops, operations, seconds_of
from rlgen.bench.updates import BATCH, POLICY, time_reference
from rlgen.diffusion.samplers import Noise, denoise, floored_sigma, sample_noise
from rlgen.diffusion.schedules import Chain, cosine_schedule, ddim_chain, ddpm_chain
from rlgen.diffusion.solvers import dpm_solver_chain, flow_chain
from rlgen.policies.base import Params
from rlgen.policies.diffusion import DiffusionPolicy

BATCHES, CHUNKS = (1, 50, 500), (8, 16)


@dataclass(frozen=True)
class Case:
    """A sampler with a number of steps.

    Attributes:
      name: of the sampler.
      steps: denoising steps; Heun's method evaluates the network twice in each, the others once.
      noise: whether every step adds noise.
    """

    name: str
    steps: int
    noise: bool = False

    def chain(self) -> Chain:
        """Returns the chain, on the schedule that the policy is trained with."""
        schedule = cosine_schedule(POLICY.config.diffusion.train_timesteps)
        if self.name in ("euler", "heun"):
            return flow_chain(self.steps, self.name)
        if self.name == "ddpm":
            return ddpm_chain(schedule)
        if self.name == "dpm_solver":
            return dpm_solver_chain(schedule, self.steps)
        return ddim_chain(schedule, self.steps, eta=1.0 if self.noise else 0.0)


CASES = (
    Case("ddim", 5, noise=True),
    Case("ddim", 5),
    Case("ddim", 10),
    Case("ddim", 20),
    Case("ddpm", POLICY.config.diffusion.train_timesteps, noise=True),
    Case("dpm_solver", 5),
    Case("dpm_solver", 10),
    Case("euler", 10),
    Case("heun", 5),
)
QUICK = (Case("ddim", 5, noise=True), Case("ddpm", POLICY.config.diffusion.train_timesteps, noise=True))


def run(*, repetitions: int, quick: bool, log: Callable[[str], None]) -> dict[str, Any]:
    """Times every case, and returns the report as JSON values.

    Args:
      repetitions: timed runs of each case, after one that compiles and one that warms up.
      quick: only two samplers, with the sizes of the reference case.
      log: called with a line for every row.
    """
    device, rate = describe(), matmul_gflops(repetitions)
    log(f"{device['device']}: {rate:.0f} GFLOP/s in matrix products of {MATRIX_SIZE}²")
    rows = []
    for horizon in (POLICY.horizon,) if quick else CHUNKS:
        policy = replace(POLICY, config=replace(POLICY.config, horizon=horizon))
        params = jax.jit(policy.init)(jax.random.PRNGKey(0))
        for case in QUICK if quick else CASES:
            for batch in (BATCH,) if quick else BATCHES:
                rows.append(time_case(case, policy, params, batch, repetitions, rate))
                log(_line(rows[-1]))
    reference = {"sampler_s": _training_sampler(repetitions), "update_s": time_reference(repetitions)}
    for name, timing in reference.items():
        log(f"reference case, {name}: {timing['seconds']:.4f} s")
    # Before and after: other load on the machine shows as a difference.
    after = matmul_gflops(repetitions)
    return {
        **device,
        "matmul_gflops": rate,
        "matmul_gflops_after": after,
        "repetitions": repetitions,
        "warmup": 1,
        "rows": rows,
        "ddim5_over_ddpm100": _ratio(rows),
        "reference_case": {
            **{name: timing["seconds"] for name, timing in reference.items()},
            "update_part": reference["update_s"]["part"],
            "spread": {name: [timing["low"], timing["high"]] for name, timing in reference.items()},
        },
    }


def time_case(
    case: Case, policy: DiffusionPolicy, params: Params, batch: int, repetitions: int, rate: float
) -> dict[str, Any]:
    """Returns one row: seconds from observations to chunks, and operations of the network's evaluations.

    Args:
      case: sampler and steps.
      policy: the policy.
      params: its parameters.
      batch: observations at once.
      repetitions: timed runs.
      rate: 10⁹ operations per second that count as all.
    """
    chain = case.chain()
    observation = jax.random.normal(jax.random.PRNGKey(1), (batch, policy.observation_size))
    sigma = floored_sigma(chain, policy.config.diffusion.sigma_min_sample) if case.noise else None

    def sample(params: Params, key: jax.Array, observation: jax.Array) -> jax.Array:
        features = policy.encode(params, observation)
        shape = policy.chunk_shape(features)
        if case.noise:
            noise = sample_noise(key, chain.steps, shape)
        else:
            noise = Noise(jax.random.normal(key, shape), jnp.zeros((chain.steps, 1, 1, 1)))
        return policy.to_action(params, denoise(policy.predictor(params["net"], features), chain, noise, sigma).chunk)

    compiled = jax.jit(sample)
    timing = seconds_of(lambda: compiled(params, jax.random.PRNGKey(2), observation), repetitions)
    gflop = chain.steps * network_operations(policy, params, batch) / 1e9
    gflops = gflop / timing["seconds"]
    return {
        "sampler": case.name,
        "steps": case.steps,
        "noise": case.noise,
        "batch": batch,
        "chunk": policy.horizon,
        "passes": chain.steps,
        **timing,
        "gflops": gflops,
        "share_of_matmul": gflops / rate,
    }


def network_operations(policy: DiffusionPolicy, params: Params, batch: int) -> float:
    """Returns the operations of one evaluation of the network, without the zeros that its flat layout adds.

    Args:
      policy: the policy.
      params: its parameters.
      batch: observations at once.
    """
    network = policy.network.clone(flat=False)
    x = jnp.zeros((batch, policy.horizon, policy.action_size))
    features = jnp.zeros((batch, policy.feature_size))

    def forward(net: Any, x: jax.Array, features: jax.Array) -> jax.Array:
        return network.apply({"params": net}, x, jnp.zeros((), jnp.int32), features)

    return operations(forward, params["net"], x, features)


def _training_sampler(repetitions: int) -> dict[str, float]:
    """Times the sampler of rollouts, which also computes the log density of every transition."""
    params = jax.jit(POLICY.init)(jax.random.PRNGKey(0))
    observation = jax.random.normal(jax.random.PRNGKey(1), (BATCH, POLICY.observation_size))
    sample = jax.jit(POLICY.sample)
    return seconds_of(lambda: sample(params, jax.random.PRNGKey(2), observation), repetitions)


def _ratio(rows: list[dict[str, Any]]) -> float:
    """Returns the time of DDPM's chain over that of DDIM with 5 steps, both with noise, at the reference sizes."""

    def seconds(sampler: str, steps: int) -> float:
        return next(
            row["seconds"]
            for row in rows
            if (row["sampler"], row["steps"], row["noise"]) == (sampler, steps, True)
            and (row["batch"], row["chunk"]) == (BATCH, POLICY.horizon)
        )

    return seconds("ddpm", POLICY.config.diffusion.train_timesteps) / seconds("ddim", 5)


def _line(row: dict[str, Any]) -> str:
    noise = " with noise" if row["noise"] else ""
    return (
        f"{row['sampler']} {row['steps']}{noise}, batch {row['batch']}, chunk {row['chunk']}: {row['seconds']:.4f} s, "
        f"{row['gflops']:.1f} GFLOP/s"
    )
