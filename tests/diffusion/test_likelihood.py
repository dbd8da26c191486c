import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dppo import OURS, ChainCase, cases, exact, load, log_prob_rounding, near, single, stub

from rlgen.diffusion.samplers import clamp_log_prob, normal_log_prob, transition_log_prob
from rlgen.diffusion.schedules import cosine_schedule, ddim_chain


@pytest.mark.parametrize("name", cases("04_logprobs", "chain"))
def test_log_probs_match_golden(name):
    arrays, case = load("04_logprobs"), ChainCase.of(name)
    golden = arrays.below(name)
    batch, count = golden["chain"].shape[0], golden["chain"].shape[1] - 1
    assert count == case.tuned
    rows, steps = np.repeat(np.arange(batch), count), case.steps - count + np.tile(np.arange(count), batch)
    picked = golden["subsample/batch_inds"] * count + golden["subsample/denoising_inds"]
    keys = {key: float(key.split("/")[0].removeprefix("min_logprob_std")) for key in golden if key.startswith("min_")}
    assert {key.split("/")[1] for key in keys} >= {"logprobs", "logprobs_base_policy", "logprobs_clamped_m5_2"}
    keys["subsample/logprobs"] = 0.1

    def log_probs_of(chain):
        def log_prob(weights, state, points, floor, pick):
            prev, following = (x.reshape(-1, *points.shape[2:])[pick] for x in (points[:, :-1], points[:, 1:]))
            index = steps[pick]
            output = stub(weights, state[rows[pick]])(prev, jnp.asarray(chain.timestep)[index])
            return transition_log_prob(chain, jnp.asarray(index), prev, following, output, floor)

        def log_probs(base, tuned, state, points):
            out = {}
            for key, floor in keys.items():
                pick = picked if key.startswith("subsample") else slice(None)
                found = log_prob(base if key.endswith("base_policy") else tuned, state, points, floor, pick)
                out[key] = clamp_log_prob(found) if "clamped" in key else found
            return out

        return log_probs

    inputs = (dict(arrays.below("base")), dict(arrays.below("ft")), arrays["state"], golden["chain"])
    saved, own = (exact(log_probs_of(chain), *inputs) for chain in (case.saved(), case.chain()))
    rounded = single(log_probs_of(case.chain()), *inputs)
    for key, floor in keys.items():
        allowed = log_prob_rounding(floor)
        near(saved[key], golden[key], allowed.same, f"{key}, the reference's chain")
        near(own[key], golden[key], allowed.own, f"{key}, our chain")
        near(rounded[key], own[key], OURS * allowed.same, f"{key}, of single precision")
    np.testing.assert_array_equal(golden["eta"], np.full(batch * count, case.eta, np.float32))


def test_density_integrates_to_one():
    grid = jnp.linspace(-8, 8, 4001)
    mass = jnp.trapezoid(jnp.exp(normal_log_prob(grid, 0.4, 0.7)), grid)
    np.testing.assert_allclose(mass, 1, rtol=1e-5)


def test_gradient_stops_where_the_guess_is_clamped():
    chain = ddim_chain(cosine_schedule(100), 5)

    def total(output):
        x = jnp.zeros((1, 1, 2))
        return transition_log_prob(chain, jnp.array([4]), x, x + 0.05, output, 0.1).sum()

    # The guess is -x0_from_output times the output: 0.01 stays inside the clamp, 100 does not.
    slope = jax.grad(total)(jnp.array([[[0.01, 100.0]]]))
    assert slope[0, 0, 0] != 0
    assert slope[0, 0, 1] == 0
