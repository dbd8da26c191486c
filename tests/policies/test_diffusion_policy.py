import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgen.configs.schema import DiffusionConfig, PolicyConfig
from rlgen.core.errors import UserError
from rlgen.diffusion.samplers import Noise
from rlgen.policies.diffusion import DiffusionPolicy
from rlgen.policies.normalizer import fit_normalizer

CONFIG = PolicyConfig(horizon=4, network="mlp", mlp_widths=(16,), time_embedding_size=8)
CHAIN = {"train_timesteps": 20, "eta_act": 0.0, "sigma_min_sample": 0.1, "sigma_min_logprob": 0.1}


def policy_of(chain=(), **change) -> DiffusionPolicy:
    """The policy of these tests with changes of its chain, and of the rest."""
    diffusion = DiffusionConfig(**{**CHAIN, **dict(chain)})
    return DiffusionPolicy(dataclasses.replace(CONFIG, diffusion=diffusion, **change), 5, 3)


POLICY = policy_of()
# One program for all tests with a policy.
init, sample, act, log_prob = (
    jax.jit(method, static_argnums=0)
    for method in (DiffusionPolicy.init, DiffusionPolicy.sample, DiffusionPolicy.act, DiffusionPolicy.log_prob)
)


def setting(policy=POLICY):
    random = np.random.default_rng(0)
    observation = random.normal(1.0, 2.0, (64, policy.observation_size))
    action = random.uniform(-0.3, 0.6, (64, policy.action_size))
    normalizer = fit_normalizer(observation, action)
    params = init(policy, jax.random.key(1), normalizer)
    return params, jnp.asarray(observation[:6], jnp.float32)


@pytest.mark.parametrize(
    "policy",
    [
        POLICY,
        policy_of(network="unet", dim=8),
        policy_of(network="unet", dim=6, norm_groups=None),
        policy_of({"denoising_steps": 1}),
        policy_of({"sampler": "ddpm", "train_timesteps": 4}),
        policy_of({"prediction": "v", "sigma_min_sample": 0.2, "sigma_min_logprob": 0.3}),
    ],
    ids=["mlp", "unet", "unet without normalization", "one step", "ddpm", "v"],
)
def test_log_prob_of_a_sample_is_what_the_sample_says(policy):
    params, observation = setting(policy)
    sampled = sample(policy, params, jax.random.key(2), observation)
    batch, steps = len(observation), policy.num_trained_steps
    rows, index = np.repeat(np.arange(batch), steps), np.tile(np.arange(steps), batch)
    chain = np.asarray(sampled.chain)
    found = log_prob(policy, params, observation[rows], chain[rows, index], chain[rows, index + 1], index)
    np.testing.assert_allclose(found.reshape(sampled.log_prob.shape), sampled.log_prob, atol=2e-4)


def test_the_command_is_the_last_point_in_raw_units():
    params, observation = setting()
    sampled = sample(POLICY, params, jax.random.key(2), observation)
    normalizer = params["normalizer"]
    raw = sampled.chain[:, -1] * normalizer.action_scale + normalizer.action_offset
    np.testing.assert_allclose(sampled.chunk, jnp.clip(raw, -1, 1), atol=1e-6)


def test_exploration_has_the_floor_and_acting_has_none():
    params, observation = setting()
    keys = jax.random.split(jax.random.key(3), 4000)
    shape = (1, POLICY.horizon, POLICY.action_size)

    def last(key, policy):
        noise = Noise(jnp.zeros(shape), jax.random.normal(key, (policy.config.diffusion.denoising_steps, *shape)))
        return sample(policy, params, key, observation[:1], noise).chain[0, -1]

    for floor in (0.1, 0.3):
        policy = policy_of({"denoising_steps": 1, "sigma_min_sample": floor})
        std = jax.vmap(lambda key, policy=policy: last(key, policy))(keys).std(axis=0)
        np.testing.assert_allclose(std, floor, rtol=0.06)
    first, again = (act(POLICY, params, None, observation) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    by_key = [act(POLICY, params, jax.random.key(seed), observation) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(by_key[0], by_key[1])
    assert (by_key[0] != by_key[2]).any()


def test_acting_with_the_eta_of_training_takes_the_means_of_that_chain():
    params, observation = setting()
    policy = policy_of({"eta_act": POLICY.config.diffusion.eta_train})
    shape = (len(observation), POLICY.horizon, POLICY.action_size)
    still = Noise(jnp.zeros(shape), jnp.zeros((POLICY.config.diffusion.denoising_steps, *shape)))
    wanted = sample(POLICY, params, jax.random.key(0), observation, still).chunk
    np.testing.assert_allclose(act(policy, params, None, observation), wanted, atol=1e-6)
    assert (np.abs(act(POLICY, params, None, observation) - wanted) > 1e-3).any()


def test_gradient_reaches_the_net_alone():
    params, observation = setting()
    chunk = jnp.zeros((6, POLICY.horizon, POLICY.action_size))

    def loss(net):
        return POLICY.bc_loss({**params, "net": net}, jax.random.key(0), observation, chunk)

    grads = jax.jit(jax.grad(loss))(params["net"])
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))


def test_experts_vmapped_are_the_experts_alone():
    observation = setting()[1]
    experts = [init(POLICY, jax.random.key(seed)) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *experts)
    keys = jax.random.split(jax.random.key(9), 3)
    together = jax.vmap(lambda params, key: sample(POLICY, params, key, observation).chain)(stacked, keys)
    for expert, params in enumerate(experts):
        alone = sample(POLICY, params, keys[expert], observation).chain
        np.testing.assert_allclose(together[expert], alone, atol=2e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chain": {"sampler": "euler"}}, "'ddim' or 'ddpm'"),
        ({"network": "vit"}, "'unet' or 'mlp'"),
        ({"chain": {"sigma_min_logprob": 0.0}}, "more than 0"),
        ({"network": "unet", "horizon": 5}, "multiple of 2"),
        ({"chain": {"num_finetuned_steps": 6}}, "1 to 5"),
    ],
)
def test_contradictions_are_refused(change, words):
    with pytest.raises(UserError, match=words):
        policy_of(**change)
