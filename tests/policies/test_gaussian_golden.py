"""The Gaussian policy of an independent implementation: chunks, densities, losses and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.goldens import below, cases, config, load
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
    """A case with its policy and parameters."""

    def __init__(self, case: str):
        arrays = load("08_gaussian")
        self.golden, self.numbers = below(arrays, case), config(arrays, f"{case}/config")
        self.policy = policy_of(self.numbers)
        self.seen = jnp.asarray(self.golden["state"]).reshape(len(self.golden["state"]), -1)
        self.net, self.to_torch = net_of(
            below(self.golden, "actor"), self.numbers, self.policy.config.gaussian.std_kind
        )
        self.old, _ = net_of(below(self.golden, "old_actor"), self.numbers, self.policy.config.gaussian.std_kind)

    def params(self, net):
        return {"net": net, "normalizer": identity_normalizer(self.policy.observation_size, self.policy.action_size)}

    def log_prob(self, net):
        chunk = jnp.asarray(self.golden["actions"])
        return self.policy.log_prob(self.params(net), self.seen, chunk, chunk, jnp.zeros(len(chunk), int))


@pytest.fixture(params=CASES)
def setting(request):
    return Setting(request.param)


def close(ours, want):
    """Gradients relative to the largest entry; what is missing there is zero here."""
    for name, grad in want.items():
        np.testing.assert_allclose(ours[name], grad, atol=1.5e-5 * max(np.abs(grad).max(), 1e-6), err_msg=name)
    for name in set(ours) - set(want):
        assert not np.abs(ours[name]).max(), name


def test_distribution_and_chunks_match_golden(setting):
    golden, policy = setting.golden, setting.policy
    features = policy.encode(setting.params(setting.net), setting.seen)
    mean, sigma = policy.distribution(setting.params(setting.net), features)
    np.testing.assert_allclose(mean.reshape(golden["mean"].shape), golden["mean"], atol=1e-6)
    np.testing.assert_allclose(sigma.reshape(golden["scale"].shape), golden["scale"], rtol=3e-6)
    noise = jnp.asarray(golden["noise"]).reshape(mean.shape)
    sample = policy.sample(setting.params(setting.old), jax.random.key(0), setting.seen, noise)
    np.testing.assert_allclose(sample.chain[:, -1], golden["sample_trajectories"], atol=1e-6)
    np.testing.assert_allclose(sample.chunk, np.clip(golden["sample_trajectories"], -1, 1), atol=1e-6)
    # There the mean has a trace of noise left.
    act = policy.act(setting.params(setting.old), None, setting.seen)
    still = np.clip(noise, -policy.config.gaussian.clip_noise, policy.config.gaussian.clip_noise) * 1e-4
    np.testing.assert_allclose(act, np.clip(golden["sample_deterministic"] - still, -1, 1), atol=1e-6)


def test_densities_match_golden(setting):
    golden = setting.golden
    each = setting.log_prob(setting.net)
    tolerance = 3e-5 * max(1, np.abs(golden["logprobs_per_dim"]).max() / 100)
    np.testing.assert_allclose(each.reshape(golden["logprobs_per_dim"].shape), golden["logprobs_per_dim"],
                               rtol=2e-5, atol=tolerance)  # fmt: skip
    for name in ("logprobs", "logprobs_base_policy"):
        np.testing.assert_allclose(each.mean(axis=(1, 2)), golden[name], rtol=1e-5, atol=tolerance)
    before = setting.log_prob(setting.old).mean(axis=(1, 2))
    np.testing.assert_allclose(before, golden["oldlogprobs"], rtol=1e-5, atol=tolerance)
    assert (golden["oldlogprobs"] < -5).any()
    entropy = setting.policy.entropy(setting.params(setting.net), setting.seen)
    np.testing.assert_allclose(entropy, golden["entropy_std"][0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("variant", "change"),
    [("default", {}), ("vclip_nonorm", {"value_clip": 0.1, "normalize_advantage": False})],
)
def test_losses_and_gradients_match_golden(setting, variant, change):
    golden, want = setting.golden, below(setting.golden, variant)
    settings = PPOConfig(clip=setting.numbers["clip_ploss_coef"], **change)
    # Only the mean over a chunk of the old densities is stored there.
    shape = golden["actions"].shape
    old = jnp.broadcast_to(golden["oldlogprobs"][:, None, None], shape)
    none = jnp.zeros(len(old), int)

    def loss(net):
        terms = ppo_loss(setting.log_prob(net), old, jnp.asarray(golden["advantages"]), none, 1, settings, "mean")
        return terms.loss, terms

    (value, terms), grads = jax.value_and_grad(loss, has_aux=True)(setting.net)
    scalars = dict(zip(setting.numbers["scalars"], want["scalars"], strict=True))
    np.testing.assert_allclose(value, scalars["pg_loss"], atol=2e-6)
    np.testing.assert_allclose(terms.clip_fraction, scalars["clipfrac"], atol=1e-7)
    np.testing.assert_allclose(terms.approx_kl, scalars["approx_kl"], atol=2e-6)
    np.testing.assert_allclose(terms.ratio, scalars["ratio_mean"], atol=5e-6)
    grads, wanted = setting.to_torch(grads), below(want, "grad_pg/actor")
    for name, grad in wanted.items():
        np.testing.assert_allclose(grads[name], grad, atol=1e-4 * np.abs(grad).max(), err_msg=name)

    def minus_entropy(net):
        return -setting.policy.entropy(setting.params(net), setting.seen)

    entropy, slope = jax.value_and_grad(minus_entropy)(setting.net)
    np.testing.assert_allclose(entropy, scalars["entropy_loss"], rtol=1e-6, atol=1e-6)
    close(setting.to_torch(slope), below(want, "grad_ent/actor"))
    network, params, names = residual_mlp(below(golden, "critic"), "Q1")

    def error(params):
        guess = network.apply({"params": params}, setting.seen)[:, 0]
        return value_loss(guess, jnp.asarray(golden["oldvalues"]), jnp.asarray(golden["returns"]), settings)

    value, slope = jax.value_and_grad(error)(params)
    np.testing.assert_allclose(value, scalars["v_loss"], rtol=1e-6, atol=3e-7)
    close(names(slope), below(want, "grad_v/critic"))


@pytest.mark.parametrize("weight", [0.0, 0.01])
def test_cloning_matches_golden(setting, weight):
    golden = setting.golden
    policy = policy_of(setting.numbers, bc_entropy_weight=weight)
    chunk = jnp.asarray(golden["sample_trajectories"])

    def loss(net):
        return policy.bc_loss(setting.params(net), jax.random.key(0), setting.seen, chunk)

    value, grads = jax.value_and_grad(loss)(setting.net)
    np.testing.assert_allclose(value, golden[f"bc_ent{weight}/loss_entropy"][0], rtol=2e-6, atol=2e-6)
    want = below(golden, f"bc_ent{weight}/grad")
    if want:
        close(setting.to_torch(grads), want)


def test_a_mean_of_densities_is_clamped_after_it_is_taken():
    low = jnp.full((1, 2, 2), -20.0).at[0, 0].set(1.0)
    assert float(chunk_log_prob(low, clamp="each")[0]) == -2.0
    assert float(chunk_log_prob(low, clamp="mean")[0]) == -5.0
