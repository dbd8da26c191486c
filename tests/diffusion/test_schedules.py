import re

import numpy as np
import pytest
from dppo import ddim_numbers, ddpm_numbers, load

from rlgen.diffusion.schedules import add_noise, cosine_schedule, ddim_chain, ddpm_chain

CASES = sorted({key.split("/")[0] for key in load("01_schedules")})
# What storing our numbers in single precision rounds, and what NumPy and the reference round differently, more so where
# small differences of numbers near 1 are divided.
LAST_DIGITS, OF_DIFFERENCES = 3e-7, 1e-6


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("ddim")])
def test_schedule_matches_golden(case):
    golden, schedule = load("01_schedules").below(case), cosine_schedule(int(case.removeprefix("K")))
    np.testing.assert_array_equal(schedule.beta, golden["betas"])
    np.testing.assert_array_equal(schedule.beta, golden["betas_float64"].astype(np.float32))
    np.testing.assert_array_equal(schedule.alpha_bar, golden["alphas_cumprod"])
    np.testing.assert_array_equal(schedule.alpha_bar_prev, golden["alphas_cumprod_prev"])
    for name, numbers in ddpm_numbers(schedule, np.float32).items():
        np.testing.assert_allclose(numbers, golden[name], rtol=LAST_DIGITS, err_msg=name)

    precise, chain = ddpm_numbers(schedule, np.float64), ddpm_chain(schedule)
    np.testing.assert_array_equal(chain.timestep, np.arange(schedule.steps)[::-1])
    for name, ours in {
        "ddpm_mu_coef1": chain.coef_x0,
        "ddpm_mu_coef2": chain.coef_x,
        "sqrt_recip_alphas_cumprod": chain.x0_from_x,
        "sqrt_recipm1_alphas_cumprod": -chain.x0_from_output,
    }.items():
        np.testing.assert_allclose(ours, precise[name][::-1], rtol=LAST_DIGITS, err_msg=name)
    np.testing.assert_allclose(chain.sigma, np.exp(precise["ddpm_logvar_clipped"][::-1] / 2), rtol=LAST_DIGITS)
    every, ones = np.arange(schedule.steps), np.ones((schedule.steps, 1, 1), np.float32)
    for name, x0, noise in (
        ("sqrt_alphas_cumprod", ones, 0 * ones),
        ("sqrt_one_minus_alphas_cumprod", 0 * ones, ones),
    ):
        ours = add_noise(schedule, x0, noise, every)[:, 0, 0]
        np.testing.assert_allclose(ours, precise[name], rtol=LAST_DIGITS, err_msg=name)


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("ddim")])
def test_ddim_chain_matches_golden(case):
    golden = load("01_schedules").below(case)
    steps, train_steps = map(int, re.fullmatch(r"ddim(\d+)of(\d+)", case).groups())
    schedule = cosine_schedule(train_steps)
    etas = {key.partition("_eta")[2] for key in golden if "_eta" in key}
    assert {"0", "1"} <= etas
    for text in etas:
        eta = float(text)
        theirs, precise = (ddim_numbers(schedule, steps, eta, dtype) for dtype in (np.float32, np.float64))
        for name, numbers in theirs.items():
            for key in {name, f"{name}_eta{text}"} & set(golden) - {"sigmas_eta0"}:
                np.testing.assert_allclose(numbers, golden[key], rtol=OF_DIFFERENCES, err_msg=key)
        chain = ddim_chain(schedule, steps, eta)
        np.testing.assert_array_equal(chain.timestep, golden["timesteps"])
        np.testing.assert_array_equal(chain.alpha_bar, golden["alphas"])
        np.testing.assert_array_equal(chain.alpha_bar_prev, golden["alphas_prev"])
        np.testing.assert_allclose(np.maximum(chain.sigma, 1e-10), precise["sigmas"], rtol=LAST_DIGITS)
        direction = chain.coef_x.astype(float) * precise["sqrt_one_minus_alphas"]
        np.testing.assert_allclose(direction, precise["dir_coef"], rtol=LAST_DIGITS)
    # Without noise, theirs for inference is 0, as ours is.
    np.testing.assert_array_equal(ddim_chain(schedule, steps, eta=0.0).sigma, golden["sigmas_eta0"])


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
