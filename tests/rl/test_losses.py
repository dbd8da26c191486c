import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.goldens import below, cases, config, load, stub
from nets.torch_weights import residual_mlp

from rlgen.configs.schema import PPOConfig
from rlgen.diffusion.samplers import Noise, denoise, floored_sigma, transition_log_prob
from rlgen.diffusion.schedules import cosine_schedule, ddim_chain, ddpm_chain
from rlgen.rl.losses import bc_regularizer, chunk_log_prob, clip_width, ppo_loss, value_loss

CASES = cases("05_ppo_loss", "scalars")


def chain_of(numbers):
    schedule = cosine_schedule(numbers["K"])
    if numbers["ddim_steps"] is None:
        return ddpm_chain(schedule)
    return ddim_chain(schedule, numbers["ddim_steps"])


def loss_config(numbers, value_weight: float = 1.0):
    low, high = (numbers.get(f"clip_advantage_{side}_quantile") for side in ("lower", "upper"))
    return PPOConfig(
        action_steps=numbers["reward_horizon"],
        normalize_advantage=numbers.get("norm_adv", True),
        advantage_quantiles=None if low is None else (low, high),
        value_clip=numbers.get("clip_vloss_coef"),
        value_weight=value_weight,
        clip=0.01,
        clip_base=0.001,
        bc_weight=0.1 if numbers["use_bc_loss"] else 0.0,
    )


def close(ours, want):
    """Gradients relative to the largest entry."""
    for name, grad in want.items():
        np.testing.assert_allclose(ours[name], grad, atol=1.5e-5 * np.abs(grad).max(), err_msg=name)


def actor_terms(arrays, golden, numbers):
    """The policy's loss of the stub's weights, with its measurements."""
    chain, settings = chain_of(numbers), loss_config(numbers)
    index = jnp.asarray(golden["denoising_inds"]) + chain.steps - numbers["ft"]
    prev, following = jnp.asarray(golden["chains_prev"]), jnp.asarray(golden["chains_next"])
    floor = numbers["min_logprob_denoising_std"]

    def log_prob(weights):
        output = stub(weights, golden["state"])(prev, jnp.asarray(chain.timestep)[index])
        return transition_log_prob(chain, index, prev, following, output, floor)

    def loss(weights):
        terms = ppo_loss(
            log_prob(weights),
            jnp.asarray(golden["oldlogprobs"]),
            jnp.asarray(golden["advantages"]),
            jnp.asarray(golden["denoising_inds"]),
            numbers["ft"],
            settings,
        )
        return terms.loss, (terms, log_prob(weights))

    return loss


def bc_loss_of(arrays, golden, numbers):
    """The regularization: how likely the frozen policy's walks are under the stub's weights."""
    chain, state = chain_of(numbers), golden["state"]
    noise = Noise(jnp.asarray(golden["bc_x_init"]), jnp.asarray(golden["bc_noise"]))
    sigma = floored_sigma(chain, numbers["min_sampling_denoising_std"])
    points = denoise(stub(below(arrays, "base"), state), chain, noise, sigma).points

    def loss(weights):
        predict, terms = stub(weights, state), []
        for index in range(chain.steps):
            output = predict(points[index], chain.timestep[index])
            floor = numbers["min_logprob_denoising_std"]
            terms.append(
                transition_log_prob(chain, jnp.asarray(index), points[index], points[index + 1], output, floor)
            )
        return bc_regularizer(jnp.concatenate(terms))

    return loss


@pytest.mark.parametrize("case", CASES)
def test_policy_loss_matches_golden(case):
    arrays = load("05_ppo_loss")
    golden, numbers = below(arrays, case), config(arrays, f"{case}/config")
    weights, loss = below(golden, "ft"), actor_terms(arrays, golden, numbers)
    (value, (terms, log_prob)), grads = jax.value_and_grad(loss, has_aux=True)(weights)
    want_loss, _, _, want_fraction, want_kl, want_ratio, want_bc, _ = golden["scalars"]
    tolerance = 1.2e-4 if numbers["min_logprob_denoising_std"] >= 0.1 else 2e-2
    np.testing.assert_allclose(log_prob, golden["newlogprobs"], atol=tolerance)
    np.testing.assert_allclose(value, want_loss, atol=1e-6)
    np.testing.assert_allclose(terms.clip_fraction, want_fraction, atol=1e-7)
    np.testing.assert_allclose(terms.approx_kl, want_kl, atol=2e-7)
    np.testing.assert_allclose(terms.ratio, want_ratio, atol=3e-6)
    close(grads, below(golden, "grad_pg/actor_ft"))
    if numbers["use_bc_loss"]:
        bc_value, bc_grads = jax.value_and_grad(bc_loss_of(arrays, golden, numbers))(weights)
        np.testing.assert_allclose(bc_value, want_bc, rtol=1e-5)
        close(bc_grads, below(golden, "grad_bc/actor_ft"))
        weight = loss_config(numbers).bc_weight
        grads = jax.tree.map(lambda policy, bc: policy + weight * bc, grads, bc_grads)
    close(grads, below(golden, "grad_total/actor_ft"))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("weight", "name"), [(1.0, "grad_v/critic"), (0.5, "grad_total/critic")])
def test_value_loss_matches_golden(case, weight, name):
    arrays = load("05_ppo_loss")
    golden, numbers = below(arrays, case), config(arrays, f"{case}/config")
    network, params, names = residual_mlp(below(arrays, "critic"), "Q1")
    state = jnp.asarray(golden["state"]).reshape(len(golden["state"]), -1)
    settings = loss_config(numbers, weight)

    def loss(params):
        value = network.apply({"params": params}, state)[:, 0]
        return value_loss(value, jnp.asarray(golden["oldvalues"]), jnp.asarray(golden["returns"]), settings)

    value, grads = jax.value_and_grad(loss)(params)
    np.testing.assert_allclose(value, weight * golden["scalars"][2], rtol=3e-7, atol=3e-7)
    close(names(grads), below(golden, name))


def test_ratio_is_one_before_the_first_update():
    log_prob = jax.random.normal(jax.random.key(0), (40, 8, 7)) * 3
    index = jnp.arange(40) % 5
    terms = ppo_loss(log_prob, log_prob, jnp.arange(40.0), index, 5, PPOConfig(clip=0.01, clip_base=0.001))
    assert float(terms.ratio) == 1
    assert float(terms.approx_kl) == 0
    assert float(terms.clip_fraction) == 0


def test_clip_width_grows_from_base_to_clip():
    width = clip_width(jnp.arange(5), 5, PPOConfig(clip=0.01, clip_base=0.001))
    np.testing.assert_allclose(width[jnp.array([0, 4])], [0.001, 0.01], rtol=1e-5)
    assert (np.diff(width) > 0).all()
    np.testing.assert_allclose(clip_width(jnp.zeros(3, int), 1, PPOConfig(clip=0.01)), 0.01)
    straight = clip_width(jnp.arange(3), 3, PPOConfig(clip=0.01, clip_base=0.001, clip_rate=0.0))
    np.testing.assert_allclose(straight, [0.001, 0.0055, 0.01], rtol=1e-5)


def test_actions_that_were_not_executed_do_not_count():
    log_prob = jax.random.normal(jax.random.key(0), (6, 8, 7))
    other = log_prob.at[:, 4:].add(1.0)
    np.testing.assert_array_equal(chunk_log_prob(log_prob, 4), chunk_log_prob(other, 4))
    assert (chunk_log_prob(log_prob, 5) != chunk_log_prob(other, 5)).all()
