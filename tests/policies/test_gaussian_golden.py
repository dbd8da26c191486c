"""The Gaussian policy of an independent implementation: chunks, densities, losses and gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dppo import (
    APPROX_KL,
    LOG_PROBS,
    LOSS_GRADIENTS,
    OUTPUTS,
    POLICY_LOSS,
    RATIO,
    VALUE_LOSS,
    agree,
    cases,
    config,
    in_both,
    load,
)
from nets.torch_weights import dense, named, put, residual_mlp

from rlgen.configs.schema import GaussianConfig, PolicyConfig, PPOConfig
from rlgen.policies.gaussian import GaussianPolicy
from rlgen.policies.normalizer import identity_normalizer
from rlgen.rl.losses import chunk_log_prob, ppo_loss, value_loss

CASES = cases("08_gaussian", "actions")


def policy_of(numbers, **change) -> GaussianPolicy:
    fixed = numbers["fixed_std"]
    limits = {"std_range": (numbers["std_min"], numbers["std_max"])} if "std_min" in numbers else {}
    gaussian = GaussianConfig(
        std=0.1 if fixed is None else fixed,
        std_kind="state" if fixed is None else "learned" if numbers["learn_fixed_std"] else "fixed",
        residual=numbers["residual_style"],
        clip_noise=numbers["randn_clip_value"],
        **{**limits, **change},
    )
    config = PolicyConfig(
        algorithm="gaussian",
        horizon=numbers["horizon_steps"],
        network="mlp",
        mlp_widths=tuple(numbers["mlp_dims"]),
        gaussian=gaussian,
    )
    return GaussianPolicy(config, numbers["cond_dim"], numbers["action_dim"])


def net_of(state, numbers, std_kind: str):
    """Parameters from torch's, and a function that gives a tree like them torch's names."""
    if std_kind != "state" and numbers["residual_style"]:
        _, mean, to_torch = residual_mlp(state, "mlp_mean")
        net = {"mean": {"mean": mean}}
        back = lambda tree: to_torch(tree["mean"]["mean"])  # noqa: E731
    else:
        paths = plain_paths(state, std_kind, len(numbers["mlp_dims"]))
        net = {}
        for name, path in paths.items():
            put(net, path, dense(state, name))
        back = lambda tree: named(tree, paths)  # noqa: E731
    if std_kind != "learned":
        return net, back
    net["log_variance"] = state["logvar"]
    return net, lambda tree: {**back(tree), "logvar": tree["log_variance"]}


def plain_paths(state, std_kind: str, hidden: int):
    """Where plain layers are kept here; with one standard deviation for all, torch's base is part of the mean."""
    base = "mlp_base" if std_kind == "state" else "mlp_mean"
    paths = {f"{base}.moduleList.{n}.linear_1": ("mean", f"base_{n}") for n in range(hidden)}
    last = 0 if std_kind == "state" else hidden
    paths[f"mlp_mean.moduleList.{last}.linear_1"] = ("mean", "mean")
    if std_kind == "state":
        paths["mlp_logvar.moduleList.0.linear_1"] = ("mean", "spread")
    return paths


class Setting:
    """A case with its policy, its parameters now and before, and its arrays."""

    def __init__(self, case: str):
        arrays = load("08_gaussian")
        self.golden, self.numbers = arrays.below(case), config(arrays, f"{case}/config")
        self.policy = policy_of(self.numbers)
        kind = self.policy.config.gaussian.std_kind
        self.net, self.to_torch = net_of(self.golden.below("actor"), self.numbers, kind)
        self.old, _ = net_of(self.golden.below("old_actor"), self.numbers, kind)
        self.seen = self.golden["state"].reshape(len(self.golden["state"]), -1)

    def params(self, net):
        return {"net": net, "normalizer": identity_normalizer(self.policy.observation_size, self.policy.action_size)}

    def log_prob(self, net, seen, chunk):
        return self.policy.log_prob(self.params(net), seen, chunk, chunk, jnp.zeros(len(chunk), int))

    @property
    def log_prob_rounding(self) -> float:
        """Of log densities, relative to the largest, which is -920 in the chains of the README."""
        return LOG_PROBS[0.01].same / 920

    @property
    def gradient_rounding(self) -> float:
        """Of gradients: a difference of actions is divided by the standard deviation, which is 0.1 in those chains."""
        return LOSS_GRADIENTS.same * max(1.0, 0.1 / float(self.golden["scale"].min()))


@pytest.fixture(params=CASES)
def setting(request):
    return Setting(request.param)


def check_gradients(single, exact, want, allowed: float) -> None:
    """Compares gradients relative to the largest entry; what is missing there is zero here."""
    for name, grad in want.items():
        agree(single[name], exact[name], grad, allowed, name, relative=True)
    for name in set(single) - set(want):
        assert not np.abs(single[name]).max() and not np.abs(exact[name]).max(), name


def test_distribution_and_chunks_match_golden(setting):
    golden, policy = setting.golden, setting.policy
    if "std_min" in setting.numbers:
        for actor in ("actor", "old_actor"):
            limits = [golden[f"{actor}/logvar_min"], golden[f"{actor}/logvar_max"]]
            np.testing.assert_allclose(limits, 2 * np.log(policy.config.gaussian.std_range), rtol=1e-6, atol=1e-7)

    def run(net, old, seen, noise):
        features = policy.encode(setting.params(net), seen)
        mean, sigma = policy.distribution(setting.params(net), features)
        sample = policy.sample(setting.params(old), None, seen, noise.reshape(mean.shape))
        return {
            "mean": mean.reshape(noise.shape),
            "scale": sigma.reshape(noise.shape),
            "sample_trajectories": sample.chain[:, -1],
            "sample_deterministic": policy.act(setting.params(old), None, seen),
            "std": sigma.mean(),
            "entropy": policy.entropy(setting.params(net), seen),
        }, sample.chunk

    noise = golden["noise"]
    (single, chunk), (exact, _) = in_both(run, setting.net, setting.old, setting.seen, noise)
    np.testing.assert_array_equal(chunk, np.clip(single["sample_trajectories"], -1, 1))
    limit = policy.config.gaussian.clip_noise
    # There the mean has a trace of noise left.
    still = 1e-4 * np.clip(noise, -limit, limit).reshape(golden["sample_deterministic"].shape)
    want = {name: golden[name] for name in ("mean", "scale", "sample_trajectories")}
    want |= {"sample_deterministic": np.clip(golden["sample_deterministic"] - still, -1, 1)}
    want |= dict(zip(("entropy", "std"), golden["entropy_std"], strict=True))
    for name, theirs in want.items():
        agree(single[name], exact[name], theirs, OUTPUTS, name, relative=True)


def test_densities_match_golden(setting):
    golden = setting.golden

    def run(net, old, seen, chunk):
        now, before = (setting.log_prob(weights, seen, chunk) for weights in (net, old))
        return {"each": now.reshape(len(chunk), -1), "now": now.mean(axis=(1, 2)), "before": before.mean(axis=(1, 2))}

    single, exact = in_both(run, setting.net, setting.old, setting.seen, golden["actions"])
    names = {"logprobs_per_dim": "each", "logprobs": "now", "logprobs_base_policy": "now", "oldlogprobs": "before"}
    for theirs, ours in names.items():
        agree(single[ours], exact[ours], golden[theirs], setting.log_prob_rounding, theirs, relative=True)
    assert (golden["oldlogprobs"] < -5).any()


# Compiling takes most of the time: a program computes all variants of a loss.
VARIANTS = {"default": {}, "vclip_nonorm": {"value_clip": 0.1, "normalize_advantage": False}}


def test_losses_and_gradients_match_golden(setting):
    golden = setting.golden

    def run(net, seen, chunk, before, advantages):
        # Only the mean over a chunk of the old densities is stored there.
        old, none = jnp.broadcast_to(before[:, None, None], chunk.shape), jnp.zeros(len(chunk), int)

        def loss(net, change):
            settings = PPOConfig(clip=setting.numbers["clip_ploss_coef"], **change)
            terms = ppo_loss(setting.log_prob(net, seen, chunk), old, advantages, none, 1, settings, "mean")
            return terms.loss, terms

        losses = {name: jax.value_and_grad(partial(loss, change=change), has_aux=True)(net)
                  for name, change in VARIANTS.items()}  # fmt: skip
        entropy = jax.value_and_grad(lambda net: -setting.policy.entropy(setting.params(net), seen))(net)
        return losses, entropy

    inputs = (golden[name] for name in ("actions", "oldlogprobs", "advantages"))
    (losses, entropy), (exact_losses, exact_entropy) = in_both(run, setting.net, setting.seen, *inputs)
    for variant in VARIANTS:
        want = golden.below(variant)
        scalars = dict(zip(setting.numbers["scalars"], want["scalars"].tolist(), strict=True))
        ((_, single), grads), ((_, exact), exact_grads) = losses[variant], exact_losses[variant]
        agree(single.loss, exact.loss, scalars["pg_loss"], POLICY_LOSS.same, "loss")
        agree(single.approx_kl, exact.approx_kl, scalars["approx_kl"], APPROX_KL.same, "divergence")
        agree(single.ratio, exact.ratio, scalars["ratio_mean"], RATIO.same, "ratio")
        agree(single.clip_fraction, exact.clip_fraction, scalars["clipfrac"], 1e-7, "clip fraction")
        ours = setting.to_torch(grads), setting.to_torch(exact_grads)
        check_gradients(*ours, want.below("grad_pg/actor"), setting.gradient_rounding)
        assert scalars["bc_loss"] == 0
        np.testing.assert_allclose(scalars["std_mean"], golden["entropy_std"][1], rtol=1e-6)
        agree(entropy[0], exact_entropy[0], scalars["entropy_loss"], OUTPUTS, "entropy", relative=True)
        ours = setting.to_torch(entropy[1]), setting.to_torch(exact_entropy[1])
        check_gradients(*ours, want.below("grad_ent/actor"), LOSS_GRADIENTS.same)


def test_value_losses_match_golden(setting):
    golden = setting.golden
    network, params, names = residual_mlp(golden.below("critic"), "Q1", setting.numbers["activation_type"].lower())

    def run(params, seen, old, returns):
        def loss(params, change):
            return value_loss(network.apply({"params": params}, seen)[:, 0], old, returns, PPOConfig(**change))

        return {name: jax.value_and_grad(partial(loss, change=change))(params) for name, change in VARIANTS.items()}

    inputs = (golden[name] for name in ("oldvalues", "returns"))
    single, exact = in_both(run, params, setting.seen, *inputs)
    for variant in VARIANTS:
        want, (value, grads), (exact_value, exact_grads) = golden.below(variant), single[variant], exact[variant]
        scalars = dict(zip(setting.numbers["scalars"], want["scalars"].tolist(), strict=True))
        agree(value, exact_value, scalars["v_loss"], VALUE_LOSS.same, "loss", relative=True)
        check_gradients(names(grads), names(exact_grads), want.below("grad_v/critic"), LOSS_GRADIENTS.same)


def test_cloning_matches_golden(setting):
    golden, weights = setting.golden, ("0.0", "0.01")

    def run(net, seen, chunk):
        def loss(net, weight):
            policy = policy_of(setting.numbers, bc_entropy_weight=float(weight))
            return policy.bc_loss(setting.params(net), jax.random.key(0), seen, chunk)

        losses = {weight: jax.value_and_grad(partial(loss, weight=weight))(net) for weight in weights}
        return losses, setting.policy.entropy(setting.params(net), seen)

    (single, entropy), (exact, exact_entropy) = in_both(run, setting.net, setting.seen, golden["sample_trajectories"])
    for weight in weights:
        loss, wanted = golden[f"bc_ent{weight}/loss_entropy"]
        agree(single[weight][0], exact[weight][0], loss, OUTPUTS, "loss", relative=True)
        agree(entropy, exact_entropy, wanted, OUTPUTS, "entropy", relative=True)
        want = golden.below(f"bc_ent{weight}/grad")
        assert len(want) > 0 or weight == "0.0"
        if len(want):
            ours = (setting.to_torch(found[weight][1]) for found in (single, exact))
            check_gradients(*ours, want, setting.gradient_rounding)


def test_a_mean_of_densities_is_clamped_after_it_is_taken():
    low = jnp.full((1, 2, 2), -20.0).at[0, 0].set(1.0)
    assert float(chunk_log_prob(low, clamp="each")[0]) == -2.0
    assert float(chunk_log_prob(low, clamp="mean")[0]) == -5.0
