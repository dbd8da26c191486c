"""Parts that need networks alone: matrix rates, samplers, updates, experts side by side."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from rlgen.bench import samplers, updates
from rlgen.bench.device.record import Put, Setup
from rlgen.bench.timing import product_gflops, seconds_of
from rlgen.configs.schema import PolicyConfig, PPOConfig
from rlgen.policies.critic import Critic, make_critic
from rlgen.policies.diffusion import DiffusionPolicy
from rlgen.rl.population import update_population
from rlgen.rl.ppo import Samples
from rlgen.rl.train_state import PPOState, init_state

MATRICES = (("bfloat16", None, 8192), ("float32", None, 4096), ("float32", "highest", 4096))
SAMPLERS = (
    *((samplers.Case("ddim", 5, noise=True), batch) for batch in (1, 50, 500, 4096)),
    *((samplers.Case("ddpm", 100, noise=True), batch) for batch in (50, 500)),
    *((samplers.Case(name, steps), 50) for name, steps in (("dpm_solver", 5), ("euler", 10), ("heun", 5))),
)
UPDATES = ((512, 512), (2048, 2048), (16384, 16384))
EXPERTS = (1, 8, 64)
EXPERT_ENVIRONMENTS, EXPERT_CHUNKS, EXPERT_OBSERVATION = 40, 35, 31


def matrix_rates(put: Put, setup: Setup) -> None:
    """Measures products of square matrices, by type and precision, in 10⁹ operations per second."""
    for dtype, precision, side in MATRICES:
        side = 64 if setup.dry_run else side
        put(
            f"{dtype}, {precision or 'default'}",
            {"side": side, **product_gflops(side, dtype, precision, _times(setup))},
        )


def sampler_table(put: Put, setup: Setup) -> None:
    """Measures samplers of the reference policy, by steps and batch."""
    rate = product_gflops(64 if setup.dry_run else 4096, "float32", "highest", _times(setup))["median"]
    params = samplers.POLICY.init(jax.random.PRNGKey(0))
    for case, batch in SAMPLERS[:: len(SAMPLERS)] if setup.dry_run else SAMPLERS:
        row = samplers.time_case(case, samplers.POLICY, params, batch, _times(setup), rate)
        put(f"{case.name} {case.steps}, batch {batch}", row)


def update_table(put: Put, setup: Setup) -> None:
    """Measures loss and gradient of PPO in the reference case, by batch."""
    for batch, part in ((8, 8),) if setup.dry_run else UPDATES:
        put(f"batch {batch}", {"part": part, **updates.time_update(_times(setup), batch, part)})


def experts(put: Put, setup: Setup) -> None:
    """Measures update and sampler of several experts in one program, with the MLP and with the U-Net."""
    for network in ("mlp", "unet"):
        policy = DiffusionPolicy(PolicyConfig(network=network), EXPERT_OBSERVATION)
        if setup.dry_run:
            small = PolicyConfig(network=network, dim=8, mlp_widths=(8,), norm_groups=4)
            policy = DiffusionPolicy(small, EXPERT_OBSERVATION)
        for count in (2,) if setup.dry_run else EXPERTS:
            put(f"{network}, {count}", time_experts(policy, count, setup))


def time_experts(policy: DiffusionPolicy, count: int, setup: Setup) -> dict[str, Any]:
    """Times an iteration's update, and a call of the sampler, of experts with fresh parameters.

    Args:
      policy: of all of them.
      count: number of experts.
      setup: of the run.
    """
    environments, chunks = (2, 2) if setup.dry_run else (EXPERT_ENVIRONMENTS, EXPERT_CHUNKS)
    config = PPOConfig(
        environments=environments,
        chunks=chunks,
        batch=min(1750, environments * chunks * policy.num_trained_steps),
        epochs=5,
        iterations=10,
        critic_warmup=0,
        target_kl=None,
    )
    critic = make_critic(policy)
    keys = jax.random.split(jax.random.PRNGKey(0), count)
    states = jax.jit(jax.vmap(partial(_fresh, policy, critic, config)))(keys)
    samples = jax.jit(jax.vmap(partial(_random_samples, policy, environments * chunks)))(keys)

    def update() -> Any:
        nonlocal states
        states, metrics = update_population(policy, critic, config, states, samples)
        return metrics

    sample = jax.jit(jax.vmap(policy.sample))
    params = jax.jit(jax.vmap(policy.init))(keys)
    observation = samples.observation[:, :environments]
    repetitions = 1 if setup.dry_run else 5
    timing = {
        "update": seconds_of(update, repetitions),
        "sampler": seconds_of(lambda: sample(params, keys, observation), repetitions),
    }
    return {**timing, "update_s_an_expert": timing["update"]["seconds"] / count}


def _fresh(policy: DiffusionPolicy, critic: Critic, config: PPOConfig, key: jax.Array) -> PPOState:
    return init_state(key, policy, critic, policy.init(key), config)


def _random_samples(policy: DiffusionPolicy, rows: int, key: jax.Array) -> Samples:
    keys = jax.random.split(key, 3)
    observation = jax.random.normal(keys[0], (rows, policy.observation_size))
    drawn = policy.sample(policy.init(key), keys[1], observation)
    advantage, returns, value = jax.random.normal(keys[2], (3, rows))
    return Samples(observation, drawn.chain, drawn.log_prob, advantage, returns, jnp.asarray(value))


def _times(setup: Setup) -> int:
    return 1 if setup.dry_run else 20
