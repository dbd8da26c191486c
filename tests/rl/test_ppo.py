"""The update on made-up experience: what can be checked without physics."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgen.config import PPOConfig
from rlgen.policies.critic import Critic
from rlgen.policies.diffusion_policy import DiffusionPolicy
from rlgen.rl import ppo

T, N, SEEN = 6, 4, 5
# The perceptron compiles in a tenth of the U-Net's time; the update does not know which it trains.
POLICY = DiffusionPolicy(
    observation_size=SEEN, horizon=4, action_size=3, architecture="mlp", widths=(32, 32, 32), steps=3
)
CRITIC = Critic(SEEN, (16, 16, 16))
CONFIG = PPOConfig(
    iterations=4,
    environments=N,
    chunks=T,
    epochs=2,
    batch=24,
    critic_warmup=1,
    actor_rate=1e-3,
    evaluate_every=1,
)


sample = jax.jit(POLICY.sample)


def make_state(config: PPOConfig = CONFIG) -> ppo.PPOState:
    def start(key):
        return ppo.init_state(key, POLICY, CRITIC, POLICY.init(jax.random.PRNGKey(0)), config)

    return jax.jit(start)(jax.random.PRNGKey(1))


def make_rollout(state: ppo.PPOState, seed: int = 0) -> ppo.Rollout:
    random = np.random.default_rng(seed)
    observation = random.normal(size=(T, N, SEEN))
    keys = jax.random.split(jax.random.PRNGKey(seed), T)
    samples = [sample(ppo.policy_params(state), k, o) for k, o in zip(keys, observation, strict=True)]
    terminated = random.random((T, N)) < 0.2
    return ppo.Rollout(
        observation=observation,
        final_observation=random.normal(size=(T, N, SEEN)),
        chain=np.stack([np.asarray(s.chain) for s in samples]),
        log_prob=np.stack([np.asarray(s.log_prob) for s in samples]),
        reward=terminated.astype(float),
        terminated=terminated,
        truncated=~terminated & (random.random((T, N)) < 0.1),
        control_steps=T * N * 4,
        seconds={},
    )


def run(state: ppo.PPOState, iterations: int, config: PPOConfig = CONFIG) -> tuple[ppo.PPOState, dict]:
    metrics = {}
    for _ in range(iterations):
        state, samples = ppo.prepare(CRITIC, config, state, make_rollout(state, int(state.iteration)))
        state, metrics = ppo.update(POLICY, CRITIC, config, state, samples)
        state = state.replace(iteration=state.iteration + 1)
    return state, metrics


def assert_same(first, second):
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_two_and_two_iterations_are_four_to_the_bit():
    unbroken, _ = run(make_state(), 4)
    halfway, _ = run(make_state(), 2)
    stored = jax.tree.map(np.asarray, halfway)
    resumed, _ = run(jax.tree.map(jnp.asarray, stored), 2)
    assert_same(unbroken, resumed)


def test_the_policy_rests_while_the_critic_warms_up():
    start = make_state()
    after, _ = run(start, 1)
    assert_same(start.net, after.net)
    assert any(
        np.abs(a - b).max() > 0 for a, b in zip(*map(jax.tree.leaves, (start.critic, after.critic)), strict=True)
    )
    later, _ = run(after, 1)
    assert any(np.abs(a - b).max() > 0 for a, b in zip(*map(jax.tree.leaves, (after.net, later.net)), strict=True))


def test_the_ratio_is_one_before_the_first_update():
    config = dataclasses.replace(CONFIG, epochs=1, batch=T * N * POLICY.chain_steps)
    state = make_state(config).replace(iteration=jnp.int32(1))
    state, samples = ppo.prepare(CRITIC, config, state, make_rollout(state))
    _, metrics = ppo.update(POLICY, CRITIC, config, state, samples)
    assert float(metrics["ratio"]) == pytest.approx(1.0, abs=1e-5)
    assert float(metrics["clip_fraction"]) < 0.05


def test_a_large_divergence_stops_the_epochs():
    config = dataclasses.replace(CONFIG, target_kl=-1.0, epochs=5)
    _, metrics = run(make_state(config), 2, config)
    assert int(metrics["epochs"]) == 1


def test_the_update_makes_good_actions_likelier():
    """Advantage follows one number of the chunk: after updates the policy commands more of it."""
    config = dataclasses.replace(
        CONFIG, critic_warmup=0, iterations=40, epochs=4, clip=0.2, clip_base=0.2, actor_rate=3e-3
    )
    state = make_state(config)
    seen = jnp.asarray(np.random.default_rng(0).normal(size=(256, SEEN)))

    def mean_command(state):
        return float(sample(ppo.policy_params(state), jax.random.PRNGKey(9), seen).chunk[..., 0].mean())

    before = mean_command(state)
    for iteration in range(20):
        drawn = sample(ppo.policy_params(state), jax.random.PRNGKey(iteration), seen)
        advantage = drawn.chunk[..., 0].mean(axis=1)
        zeros = jnp.zeros(256)
        samples = ppo.Samples(seen, drawn.chain, drawn.log_prob, advantage, zeros, zeros)
        state, _ = ppo.update(POLICY, CRITIC, config, state, samples)
        state = state.replace(iteration=state.iteration + 1)
    assert mean_command(state) > before + 0.1


def test_success_counts_the_first_episode_of_each_environment():
    terminated = np.array([[0, 0, 1, 0], [1, 0, 1, 0], [0, 1, 1, 0]], bool)
    truncated = np.array([[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
    assert ppo.first_episode_success(terminated, truncated) == 0.5
