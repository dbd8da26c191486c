import re

import numpy as np
import pytest
from diffusion.goldens import below, load

from rlgen.diffusion.schedules import cosine_schedule, ddim_chain, ddpm_chain

CASES = {key.split("/")[0] for key in load("01_schedules")}


@pytest.mark.parametrize("case", sorted(case for case in CASES if case.startswith("K")))
def test_schedule_matches_golden(case):
    golden, schedule = below(load("01_schedules"), case), cosine_schedule(int(case[1:]))
    np.testing.assert_array_equal(schedule.beta, golden["betas"])
    np.testing.assert_array_equal(schedule.alpha_bar, golden["alphas_cumprod"])
    np.testing.assert_array_equal(schedule.alpha_bar_prev, golden["alphas_cumprod_prev"])
    chain = ddpm_chain(schedule)
    np.testing.assert_array_equal(chain.timestep, np.arange(schedule.steps)[::-1])
    for ours, theirs in (
        (chain.sigma**2, golden["ddpm_var"]),
        (2 * np.log(chain.sigma), golden["ddpm_logvar_clipped"]),
        (chain.coef_x0, golden["ddpm_mu_coef1"]),
        (chain.coef_x, golden["ddpm_mu_coef2"]),
        (chain.x0_from_x, golden["sqrt_recip_alphas_cumprod"]),
        (-chain.x0_from_output, golden["sqrt_recipm1_alphas_cumprod"]),
    ):
        np.testing.assert_allclose(ours, theirs[::-1], rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("case", sorted(case for case in CASES if case.startswith("ddim")))
def test_ddim_chain_matches_golden(case):
    golden = below(load("01_schedules"), case)
    steps, train_steps = map(int, re.findall(r"\d+", case))
    chain = ddim_chain(cosine_schedule(train_steps), steps, eta=1.0)
    np.testing.assert_array_equal(chain.timestep, golden["timesteps"])
    np.testing.assert_array_equal(chain.alpha_bar, golden["alphas"])
    np.testing.assert_array_equal(chain.alpha_bar_prev, golden["alphas_prev"])
    np.testing.assert_allclose(np.maximum(chain.sigma, 1e-10), golden["sigmas_eta1"], rtol=2e-6, atol=1e-7)
    direction = chain.coef_x * golden["sqrt_one_minus_alphas"]
    np.testing.assert_allclose(direction, golden["dir_coef_eta1"], rtol=3e-6, atol=1e-7)
    still = ddim_chain(cosine_schedule(train_steps), steps, eta=0.0)
    np.testing.assert_array_equal(still.sigma, golden["sigmas_eta0"])


def test_ancestral_ddim_over_every_step_is_ddpm():
    schedule = cosine_schedule(30)
    ddim, ddpm = ddim_chain(schedule, 30, eta=1.0), ddpm_chain(schedule)
    for name in ("timestep", "coef_x0", "coef_x"):
        np.testing.assert_allclose(getattr(ddim, name), getattr(ddpm, name), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ddim.sigma, ddpm.sigma, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_every_prediction_gives_back_the_clean_value(prediction):
    chain = ddim_chain(cosine_schedule(100), 5, prediction=prediction)
    signal, spread = np.sqrt(chain.alpha_bar), np.sqrt(1 - chain.alpha_bar)
    clean, noise = 0.3, -1.7
    output = {"eps": noise, "x0": clean, "v": signal * noise - spread * clean}[prediction]
    x = signal * clean + spread * noise
    np.testing.assert_allclose(chain.x0_from_x * x + chain.x0_from_output * output, clean, atol=1e-5)


@pytest.mark.parametrize("steps", [0, 101])
def test_a_chain_longer_than_the_schedule_is_refused(steps):
    with pytest.raises(ValueError, match=str(steps)):
        ddim_chain(cosine_schedule(100), steps)
