import re

import jax
import numpy as np
import pytest
from dppo import CHAINS, LOSS_GRADIENTS, agree, cases, in_both, load, stub

from rlgen.diffusion.schedules import add_noise, cosine_schedule, denoising_loss, regression_target


@pytest.mark.parametrize("case", cases("09_bc_loss", "x_start"))
def test_loss_and_gradient_match_golden(case):
    arrays = load("09_bc_loss")
    golden = arrays.below(case)
    steps, prediction = re.fullmatch(r"K(\d+)_(\w+)", case).groups()
    schedule = cosine_schedule(int(steps))

    def run(weights, state, clean, noise, timestep):
        def loss(weights):
            return denoising_loss(stub(weights, state), schedule, clean, noise, timestep, prediction)

        return add_noise(schedule, clean, noise, timestep), *jax.value_and_grad(loss)(weights)

    inputs = (golden[name] for name in ("state", "x_start", "noise", "t"))
    (noisy, value, grads), (exact_noisy, exact_value, exact_grads) = in_both(run, dict(arrays.below("stub")), *inputs)
    agree(noisy, exact_noisy, golden["q_sample"], CHAINS.same, "q_sample")
    agree(value, exact_value, golden["loss"], CHAINS.same, "loss", relative=True)
    assert set(grads) == set(golden.below("grad"))
    for name, grad in golden.below("grad").items():
        agree(grads[name], exact_grads[name], grad, LOSS_GRADIENTS.same, name, relative=True)


def test_velocity_target_is_the_derivative_along_the_arc():
    schedule = cosine_schedule(100)
    clean, noise = np.full((1, 2, 3), 0.4), np.full((1, 2, 3), -1.1)
    timestep = np.array([40])
    angle = np.arccos(np.sqrt(np.float64(schedule.alpha_bar[40])))
    arc = [np.cos(a) * clean + np.sin(a) * noise for a in (angle - 1e-4, angle + 1e-4)]
    target = regression_target(schedule, clean, noise, timestep, "v")
    np.testing.assert_allclose(target, (arc[1] - arc[0]) / 2e-4, rtol=1e-4)
