import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgen.diffusion.samplers import Noise
from rlgen.policies.diffusion import DiffusionPolicy
from rlgen.policies.normalizer import fit_normalizer

POLICY = DiffusionPolicy(
    observation_size=5, horizon=4, action_size=3, architecture="mlp", widths=(16,), time_size=8, train_steps=20
)


def setting(policy=POLICY):
    random = np.random.default_rng(0)
    observation = random.normal(1.0, 2.0, (64, policy.observation_size))
    action = random.uniform(-0.3, 0.6, (64, policy.action_size))
    normalizer = fit_normalizer(observation, action)
    params = policy.init(jax.random.key(1), normalizer)
    return params, jnp.asarray(observation[:6], jnp.float32)


@pytest.mark.parametrize(
    "policy",
    [
        POLICY,
        dataclasses.replace(POLICY, architecture="unet", dim=8),
        dataclasses.replace(POLICY, steps=1),
        dataclasses.replace(POLICY, sampler="ddpm", train_steps=4),
        dataclasses.replace(POLICY, prediction="v", sigma_min_sample=0.2, sigma_min_logprob=0.3),
    ],
    ids=["mlp", "unet", "one step", "ddpm", "v"],
)
def test_log_prob_of_a_walk_is_what_the_walk_says(policy):
    params, observation = setting(policy)
    sample = jax.jit(policy.sample)(params, jax.random.key(2), observation)
    batch, steps = len(observation), policy.chain_steps
    rows, index = np.repeat(np.arange(batch), steps), np.tile(np.arange(steps), batch)
    log_prob = jax.jit(policy.log_prob)(
        params, observation[rows], sample.chain[rows, index], sample.chain[rows, index + 1], index
    )
    np.testing.assert_allclose(log_prob.reshape(sample.log_prob.shape), sample.log_prob, atol=2e-4)


def test_the_command_is_the_last_point_in_raw_units():
    params, observation = setting()
    sample = POLICY.sample(params, jax.random.key(2), observation)
    normalizer = params["normalizer"]
    raw = sample.chain[:, -1] * normalizer.action_scale + normalizer.action_offset
    np.testing.assert_allclose(sample.chunk, jnp.clip(raw, -1, 1), atol=1e-6)


def test_exploration_has_the_floor_and_acting_has_none():
    params, observation = setting()
    keys = jax.random.split(jax.random.key(3), 4000)
    shape = (1, POLICY.horizon, POLICY.action_size)

    def last(key, policy):
        noise = Noise(jnp.zeros(shape), jax.random.normal(key, (policy.steps, *shape)))
        return policy.sample(params, key, observation[:1], noise).chain[0, -1]

    for floor in (0.1, 0.3):
        policy = dataclasses.replace(POLICY, steps=1, sigma_min_sample=floor)
        spread = jax.vmap(lambda key, policy=policy: last(key, policy))(keys).std(axis=0)
        np.testing.assert_allclose(spread, floor, rtol=0.06)
    first, again = (POLICY.act(params, None, observation) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    by_key = [POLICY.act(params, jax.random.key(seed), observation) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(by_key[0], by_key[1])
    assert (by_key[0] != by_key[2]).any()


def test_acting_with_the_eta_of_training_walks_the_means_of_that_chain():
    params, observation = setting()
    policy = dataclasses.replace(POLICY, eta_act=POLICY.eta_train)
    shape = (len(observation), POLICY.horizon, POLICY.action_size)
    still = Noise(jnp.zeros(shape), jnp.zeros((POLICY.steps, *shape)))
    wanted = POLICY.sample(params, jax.random.key(0), observation, still).chunk
    np.testing.assert_allclose(policy.act(params, None, observation), wanted, atol=1e-6)
    assert (np.abs(POLICY.act(params, None, observation) - wanted) > 1e-3).any()


def test_gradient_reaches_the_net_alone():
    params, observation = setting()
    chunk = jnp.zeros((6, POLICY.horizon, POLICY.action_size))

    def loss(net):
        return POLICY.bc_loss({**params, "net": net}, jax.random.key(0), observation, chunk)

    grads = jax.grad(loss)(params["net"])
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))


def test_experts_vmapped_are_the_experts_alone():
    observation = setting()[1]
    experts = [POLICY.init(jax.random.key(seed)) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *experts)
    keys = jax.random.split(jax.random.key(9), 3)
    together = jax.vmap(lambda params, key: POLICY.sample(params, key, observation).chain)(stacked, keys)
    for number, params in enumerate(experts):
        alone = POLICY.sample(params, keys[number], observation).chain
        np.testing.assert_allclose(together[number], alone, atol=2e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sampler": "euler"}, "'ddim' or 'ddpm'"),
        ({"architecture": "vit"}, "'unet' or 'mlp'"),
        ({"sigma_min_logprob": 0.0}, "more than 0"),
        ({"architecture": "unet", "horizon": 5}, "multiple of 2"),
    ],
)
def test_contradictions_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(POLICY, **change)
