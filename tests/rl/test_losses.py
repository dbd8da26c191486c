from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dppo import (
    APPROX_KL,
    LOSS_GRADIENTS,
    OURS,
    POLICY_LOSS,
    RATIO,
    VALUE_LOSS,
    ChainCase,
    agree,
    cases,
    config,
    exact,
    in_both,
    load,
    log_prob_rounding,
    near,
    single,
    stub,
)
from nets.torch_weights import residual_mlp

from rlgen.configs.schema import PPOConfig
from rlgen.diffusion.samplers import Noise, denoise, floored_sigma, transition_log_prob
from rlgen.rl.losses import bc_regularizer, chunk_log_prob, clip_width, ppo_loss, unsteadiness, value_loss

CASES = cases("05_ppo_loss", "scalars")
BC_WEIGHT = 0.1


class Case:
    """A case: its arrays, the settings that it was computed with, and its chain."""

    def __init__(self, name: str):
        self.arrays = load("05_ppo_loss")
        self.golden = self.arrays.below(name)
        self.numbers = config(self.arrays, "meta") | config(self.golden)
        steps, train_steps = self.numbers["ddim_steps"], self.numbers["K"]
        ddpm = steps is None
        self.chain_case = ChainCase("ddpm" if ddpm else "ddim", steps or train_steps, train_steps, 1.0, self.tuned)
        assert int(self.golden["reward_horizon"]) == self.numbers["reward_horizon"]

    @property
    def tuned(self) -> int:
        return self.numbers["ft"]

    @property
    def scalars(self) -> dict[str, float]:
        return dict(zip(self.numbers["scalars"], self.golden["scalars"].tolist(), strict=True))

    def settings(self, value_weight: float = 1.0) -> PPOConfig:
        numbers = self.numbers
        low, high = (numbers.get(f"clip_advantage_{side}_quantile") for side in ("lower", "upper"))
        return PPOConfig(
            action_steps=numbers["reward_horizon"],
            normalize_advantage=numbers.get("norm_adv", True),
            advantage_quantiles=None if low is None else (low, high),
            value_clip=numbers.get("clip_vloss_coef"),
            value_weight=value_weight,
            gamma_denoise=numbers["gamma_denoising"],
            clip=numbers["clip_ploss_coef"],
            clip_base=numbers["clip_ploss_coef_base"],
            clip_rate=numbers["clip_ploss_coef_rate"],
            bc_weight=BC_WEIGHT if numbers["use_bc_loss"] else 0.0,
        )


def policy_run(case: Case, chain):
    """The policy's loss of the stub's weights, its measurements and log densities, and its gradient."""
    settings, floor = case.settings(), case.numbers["min_logprob_denoising_std"]

    def run(weights, state, prev, following, old, advantages, step):
        def loss(weights):
            index = step + chain.steps - case.tuned
            output = stub(weights, state)(prev, jnp.asarray(chain.timestep)[index])
            log_prob = transition_log_prob(chain, index, prev, following, output, floor)
            terms = ppo_loss(log_prob, old, advantages, step, case.tuned, settings)
            return terms.loss, (terms, log_prob)

        (_, (terms, log_prob)), grads = jax.value_and_grad(loss, has_aux=True)(weights)
        return terms, log_prob, grads

    names = ("state", "chains_prev", "chains_next", "oldlogprobs", "advantages", "denoising_inds")
    return run, (dict(case.golden.below("ft")), *(case.golden[name] for name in names))


def bc_run(case: Case, chain):
    """The regularization and its gradient: how likely the frozen policy's walks are under the stub's weights."""
    sampling, floor = (case.numbers[f"min_{kind}_denoising_std"] for kind in ("sampling", "logprob"))

    def run(base, weights, state, initial, noise):
        sigma = floored_sigma(chain, sampling)
        points = denoise(stub(base, state), chain, Noise(initial, noise), sigma).points

        def loss(weights):
            terms = []
            for index in range(chain.steps - case.tuned, chain.steps):
                output = stub(weights, state)(points[index], chain.timestep[index])
                pair = points[index], points[index + 1]
                terms.append(transition_log_prob(chain, jnp.asarray(index), *pair, output, floor))
            return bc_regularizer(jnp.concatenate(terms))

        return jax.value_and_grad(loss)(weights)

    golden = case.golden
    weights = dict(case.arrays.below("base")), dict(golden.below("ft"))
    return run, (*weights, golden["state"], golden["bc_x_init"], golden["bc_noise"])


def three_ways(make, case: Case):
    """In double precision with the reference's chain and with ours, and in single precision with ours."""
    ways = []
    for precision, chain in (
        (exact, case.chain_case.saved()),
        (exact, case.chain_case.chain()),
        (single, case.chain_case.chain()),
    ):
        run, inputs = make(case, chain)
        ways.append(precision(run, *inputs))
    return ways


def check(saved, own, rounded, want, allowed, name: str, *, relative: bool = False) -> None:
    """Compares with the reference's number; the differences are what its README says of rounding."""
    near(saved, want, allowed.same, f"{name}, the reference's chain", relative=relative)
    near(own, want, allowed.own, f"{name}, our chain", relative=relative)
    near(rounded, own, OURS * allowed.same, f"{name}, of single precision", relative=relative)


@pytest.mark.parametrize("name", CASES)
def test_policy_loss_matches_golden(name):
    case = Case(name)
    scalars, golden = case.scalars, case.golden
    terms, log_probs, grads = zip(*three_ways(policy_run, case), strict=True)
    check(
        *log_probs, golden["newlogprobs"], log_prob_rounding(case.numbers["min_logprob_denoising_std"]), "log density"
    )
    check(*(term.loss for term in terms), scalars["pg_loss"], POLICY_LOSS, "loss")
    check(*(term.ratio for term in terms), scalars["ratio_mean"], RATIO, "ratio")
    check(*(term.approx_kl for term in terms), scalars["approx_kl"], APPROX_KL, "divergence")
    for term in terms:
        np.testing.assert_allclose(term.clip_fraction, scalars["clipfrac"], rtol=0, atol=1e-7)
    check_gradients(grads, golden.below("grad_pg/actor_ft"))
    # The fine-tuned chain's eta is a constant here; there it is a network's, which the entropy is of.
    np.testing.assert_allclose([scalars["eta_mean"], -scalars["entropy_loss"]], case.chain_case.eta, rtol=1e-6)
    assert (scalars["bc_loss"] != 0) == case.numbers["use_bc_loss"]
    if case.numbers["use_bc_loss"]:
        values, bc_grads = zip(*three_ways(bc_run, case), strict=True)
        check(*values, scalars["bc_loss"], log_prob_rounding(case.numbers["min_logprob_denoising_std"]), "cloning loss")
        check_gradients(bc_grads, golden.below("grad_bc/actor_ft"))
        weight = case.settings().bc_weight
        grads = [
            jax.tree.map(lambda policy, bc: policy + weight * bc, *both) for both in zip(grads, bc_grads, strict=True)
        ]
    check_gradients(grads, golden.below("grad_total/actor_ft"))


def check_gradients(grads, want) -> None:
    """Compares gradients in three ways, relative to the largest entry."""
    assert set(want) == set(grads[0])
    for name, grad in want.items():
        check(*(found[name] for found in grads), grad, LOSS_GRADIENTS, name, relative=True)


@pytest.mark.parametrize("name", CASES)
def test_value_loss_matches_golden(name):
    case = Case(name)
    network, params, names = residual_mlp(case.arrays.below("critic"), "Q1")
    weights = {"grad_v/critic": 1.0, "grad_total/critic": case.numbers["vf_coef"]}

    def run(params, state, old, returns):
        def loss(params, weight):
            value = network.apply({"params": params}, state.reshape(len(state), -1))[:, 0]
            return value_loss(value, old, returns, case.settings(weight))

        return {place: jax.value_and_grad(partial(loss, weight=weight))(params) for place, weight in weights.items()}

    inputs = (case.golden[key] for key in ("state", "oldvalues", "returns"))
    single, exact = in_both(run, params, *inputs)
    for place, weight in weights.items():
        (value, grads), (exact_value, exact_grads) = single[place], exact[place]
        agree(value, exact_value, weight * case.scalars["v_loss"], VALUE_LOSS.same, "loss")
        grads, exact_grads, want = names(grads), names(exact_grads), case.golden.below(place)
        assert set(grads) == set(want)
        for key, grad in want.items():
            agree(grads[key], exact_grads[key], grad, LOSS_GRADIENTS.same, key, relative=True)


def test_ratio_is_one_before_the_first_update():
    log_prob = jnp.asarray(3 * np.random.default_rng(0).normal(size=(40, 8, 7)), jnp.float32)
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
    log_prob = np.random.default_rng(0).normal(size=(6, 8, 7)).astype(np.float32)
    other = log_prob + (np.arange(8) >= 4).astype(np.float32)[:, None]
    mean = jax.jit(chunk_log_prob, static_argnums=1)
    np.testing.assert_array_equal(mean(log_prob, 4), mean(other, 4))
    assert (mean(log_prob, 5) != mean(other, 5)).all()


def test_unsteadiness_is_the_second_differences_of_what_the_arm_does():
    # One component goes from rest 0, 0 to 1, 0.5, -1: second differences 1, -1.5, -1. The gripper is free.
    actions = np.zeros((2, 3, 7), np.float32)
    actions[0, :, 2] = [1.0, 0.5, -1.0]
    actions[:, :, 6] = [1.0, -1.0, 1.0]
    still = np.zeros((2, 2, 7), np.float32)
    one = 1 + 2.25 + 1
    assert float(unsteadiness(still, actions, np.ones(2))) == pytest.approx(one / 2)
    assert float(unsteadiness(still, actions, np.array([1.0, 0.0]))) == pytest.approx(one)
    assert (
        float(unsteadiness(still, actions, np.array([0.0, 1.0])))
        == float(unsteadiness(still, actions, still[:, 0, 0]))
        == 0
    )
    # Going on as before costs nothing, and chunks cost what one long chunk does.
    same = np.full((1, 4, 7), 0.3, np.float32)
    assert float(unsteadiness(same[:, :2], same, np.ones(1))) == 0
    path = np.random.default_rng(0).uniform(-1, 1, (1, 6, 7)).astype(np.float32)
    parts = [unsteadiness(still[:1], path[:, :4], np.ones(1)), unsteadiness(path[:, 2:4], path[:, 4:], np.ones(1))]
    assert float(sum(parts)) == pytest.approx(float(unsteadiness(still[:1], path, np.ones(1))), rel=1e-5)
