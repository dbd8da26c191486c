import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.goldens import below, cases, load, stub
from diffusion.test_samplers import chain_of

from rlgen.diffusion.samplers import clamp_log_prob, normal_log_prob, transition_log_prob


@pytest.mark.parametrize("case", cases("04_logprobs", "chain"))
def test_log_probs_match_golden(case):
    arrays = load("04_logprobs")
    golden, chain = below(arrays, case), chain_of(case)
    points = golden["chain"]
    batch, count = points.shape[0], points.shape[1] - 1
    rows = np.repeat(np.arange(batch), count)
    index = chain.steps - count + np.tile(np.arange(count), batch)
    prev, following = points[:, :-1].reshape(-1, *points.shape[2:]), points[:, 1:].reshape(-1, *points.shape[2:])

    def log_prob(weights, floor, pick=slice(None)):
        predict = stub(weights, arrays["state"][rows[pick]])
        output = predict(prev[pick], chain.timestep[index[pick]])
        return transition_log_prob(chain, index[pick], prev[pick], following[pick], output, floor)

    floors = {float(re.findall(r"std([\d.]+)", key)[0]) for key in golden if key.startswith("min_logprob_std")}
    assert floors
    for floor in floors:
        want, tolerance = below(golden, f"min_logprob_std{floor}"), 1.2e-4 if floor >= 0.1 else 1.5e-2
        ours = log_prob(below(arrays, "ft"), floor)
        np.testing.assert_allclose(ours, want["logprobs"], atol=tolerance)
        np.testing.assert_allclose(log_prob(below(arrays, "base"), floor), want["logprobs_base_policy"], atol=tolerance)
        if "logprobs_clamped_m5_2" in want:
            np.testing.assert_allclose(clamp_log_prob(ours), want["logprobs_clamped_m5_2"], atol=tolerance)
    picked = golden["subsample/batch_inds"] * count + golden["subsample/denoising_inds"]
    ours = log_prob(below(arrays, "ft"), 0.1, picked)
    np.testing.assert_allclose(ours, golden["subsample/logprobs"], atol=1.2e-4)


def test_density_integrates_to_one():
    grid = jnp.linspace(-8, 8, 4001)
    mass = jnp.trapezoid(jnp.exp(normal_log_prob(grid, 0.4, 0.7)), grid)
    np.testing.assert_allclose(mass, 1, rtol=1e-5)


def test_gradient_stops_where_the_guess_is_clamped():
    chain = chain_of("ddim5")

    def total(output):
        x = jnp.zeros((1, 1, 2))
        return transition_log_prob(chain, jnp.array([4]), x, x + 0.05, output, 0.1).sum()

    # The guess is -x0_from_output times the output: 0.01 stays inside the clamp, 100 does not.
    slope = jax.grad(total)(jnp.array([[[0.01, 100.0]]]))
    assert slope[0, 0, 0] != 0
    assert slope[0, 0, 1] == 0
