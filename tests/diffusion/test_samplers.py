import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusion.goldens import below, cases, load, stub

from rlgen.diffusion.samplers import Noise, denoise, floored_sigma, predict_x0, sample_noise, transition_mean
from rlgen.diffusion.schedules import cosine_schedule, ddim_chain, ddpm_chain

STEPS = cases("02_p_mean_var", "mu")
WALKS = cases("03_sampler", "x_init")


def chain_of(case: str, eta: float = 1.0, train_steps: int = 100):
    """The chain that a case's name stands for."""
    numbers = [int(number) for number in re.findall(r"\d+", case)]
    if case.startswith("ddpm"):
        return ddpm_chain(cosine_schedule(numbers[0]))
    return ddim_chain(cosine_schedule(train_steps), numbers[0], eta)


def still_sigma(chain, case: str):
    """Deterministic mode: DDIM adds nothing, DDPM keeps its noise but for the last step."""
    return floored_sigma(chain, 1e-3).at[-1].set(0) if case.startswith("ddpm") else None


@pytest.mark.parametrize("case", STEPS)
def test_single_steps_match_golden(case):
    arrays = load("02_p_mean_var")
    golden, predict = below(arrays, case), stub(below(arrays, "stub"), arrays["state"])
    chain = chain_of(case, eta=0.0 if case.endswith("eta0") else 1.0)
    np.testing.assert_array_equal(chain.timestep, golden["t"])
    modes = [(float(re.findall(r"std([\d.]+)", key)[0]), key) for key in golden if key.startswith("train_std")]
    assert modes
    for index, x in enumerate(golden["x"]):
        output = predict(x, chain.timestep[index])
        np.testing.assert_allclose(
            predict_x0(chain, index, x, output), golden["x0_unclamped"][index], rtol=1e-5, atol=1e-5
        )
        mean = transition_mean(chain, index, x, output)
        np.testing.assert_allclose(mean, golden["mu"][index], atol=4e-6)
        noise = np.clip(golden["noise"][index], -3, 3)
        for floor, key in modes:
            following = mean + floored_sigma(chain, floor)[index] * noise
            np.testing.assert_allclose(following, golden[key][index], atol=4e-6)
        if "det/mu" in golden:
            np.testing.assert_allclose(mean, golden["det/mu"][index], atol=4e-6)
            sigma = still_sigma(chain, case)
            following = mean if sigma is None else mean + sigma[index] * noise
            np.testing.assert_allclose(following, golden["det/x_next"][index], atol=4e-6)


@pytest.mark.parametrize("case", WALKS)
def test_walks_match_golden(case):
    arrays = load("03_sampler")
    golden = below(arrays, case)
    base, tuned = (stub(below(arrays, name), arrays["state"]) for name in ("base", "ft"))
    noise = Noise(initial=jnp.asarray(golden["x_init"]), steps=jnp.asarray(golden["noise"]))
    chain = chain_of(case)
    count = int(case.split("_ft")[1])
    first_tuned = chain.timestep[chain.steps - count]

    def mixed(x, timestep):
        return jnp.where(timestep <= first_tuned, tuned(x, timestep), base(x, timestep))

    for floor in (0.1, 0.01):
        walked = denoise(mixed, chain, noise, floored_sigma(chain, floor))
        points = np.moveaxis(walked.points, 0, 1)[:, chain.steps - count :]
        np.testing.assert_allclose(points, golden[f"train_std{floor}/chain"], atol=4e-6)
    walked = denoise(base, chain, noise, floored_sigma(chain, 0.1))
    points = np.moveaxis(walked.points, 0, 1)[:, chain.steps - count :]
    np.testing.assert_allclose(points, golden["train_std0.1_base_policy/chain"], atol=4e-6)
    walked = denoise(mixed, chain, noise, floored_sigma(chain, 0.1), clip_final=1.0)
    np.testing.assert_allclose(walked.chunk, golden["train_std0.1_final_clip1/trajectories"], atol=4e-6)

    still = chain_of(case, eta=0.0)
    walked = denoise(mixed, still, noise, still_sigma(still, case))
    points = np.moveaxis(walked.points, 0, 1)[:, chain.steps - count :]
    np.testing.assert_allclose(points, golden["eval_deterministic/chain"], atol=4e-6)
    if "diffusion_eval_ft0/trajectories" in golden:
        np.testing.assert_allclose(walked.chunk, golden[f"diffusion_eval_ft{count}/trajectories"], atol=4e-6)
        walked = denoise(base, still, noise, still_sigma(still, case))
        np.testing.assert_allclose(walked.chunk, golden["diffusion_eval_ft0/trajectories"], atol=4e-6)


def test_a_chain_in_two_parts_is_the_chain():
    chain = ddim_chain(cosine_schedule(50), 5)
    noise = sample_noise(jax.random.key(0), 5, (2, 4, 3))
    sigma = floored_sigma(chain, 0.1)

    def predict(x, timestep):
        return jnp.sin(x + timestep)

    whole = denoise(predict, chain, noise, sigma)
    early = denoise(predict, chain.part(0, 2), Noise(noise.initial, noise.steps[:2]), sigma[:2])
    late = denoise(predict, chain.part(2), Noise(early.chunk, noise.steps[2:]), sigma[2:])
    np.testing.assert_array_equal(late.chunk, whole.chunk)


def test_one_step_goes_from_noise_to_the_guess():
    chain = ddim_chain(cosine_schedule(100), 1, eta=1.0)
    noise = Noise(initial=jnp.full((2, 4, 3), 0.5), steps=jnp.full((1, 2, 4, 3), 9.0))
    walked = denoise(lambda x, timestep: jnp.zeros_like(x), chain, noise, floored_sigma(chain, 0.1))
    guess = 0.5 / np.sqrt(chain.alpha_bar[0])
    # The step noise is clamped to three deviations.
    np.testing.assert_allclose(walked.chunk, guess + 0.3, rtol=1e-6)
