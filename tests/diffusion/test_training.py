import jax
import numpy as np
import pytest
from diffusion.goldens import below, cases, load, stub

from rlgen.diffusion.schedules import add_noise, cosine_schedule, denoising_loss, regression_target


@pytest.mark.parametrize("case", cases("09_bc_loss", "x_start"))
def test_loss_and_gradient_match_golden(case):
    arrays = load("09_bc_loss")
    golden = below(arrays, case)
    steps, prediction = case[1:].split("_")
    schedule = cosine_schedule(int(steps))
    clean, noise, timestep = golden["x_start"], golden["noise"], golden["t"]
    np.testing.assert_allclose(add_noise(schedule, clean, noise, timestep), golden["q_sample"], atol=1e-6)

    def loss(weights):
        predict = stub(weights, golden["state"])
        return denoising_loss(predict, schedule, clean, noise, timestep, prediction)

    value, grads = jax.value_and_grad(loss)(below(arrays, "stub"))
    np.testing.assert_allclose(value, golden["loss"], rtol=1e-6)
    for name, grad in grads.items():
        want = golden[f"grad/{name}"]
        np.testing.assert_allclose(grad, want, atol=4e-6 * np.abs(want).max())


def test_velocity_target_is_the_derivative_along_the_arc():
    schedule = cosine_schedule(100)
    clean, noise = np.full((1, 2, 3), 0.4), np.full((1, 2, 3), -1.1)
    timestep = np.array([40])
    angle = np.arccos(np.sqrt(np.float64(schedule.alpha_bar[40])))
    arc = [np.cos(a) * clean + np.sin(a) * noise for a in (angle - 1e-4, angle + 1e-4)]
    target = regression_target(schedule, clean, noise, timestep, "v")
    np.testing.assert_allclose(target, (arc[1] - arc[0]) / 2e-4, rtol=1e-4)
