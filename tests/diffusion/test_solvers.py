"""Order of convergence where the solution is known in closed form."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from rlgen.diffusion.samplers import Noise, denoise
from rlgen.diffusion.schedules import cosine_schedule, ddim_chain
from rlgen.diffusion.solvers import dpm_solver_chain, flow_chain, half_log_snr, multistep_chain

SPREAD = 0.4
START = jnp.linspace(-2.0, 2.0, 6).reshape(1, 2, 3)


def still(chain) -> Noise:
    return Noise(START, jnp.zeros((chain.steps, 1, 1, 1)))


def gaussian_denoiser(prediction: str):
    """The exact network for data of standard deviation SPREAD around 0; its timestep is the signal's fraction."""

    def predict(x, signal):
        noise = 1 - signal
        x0 = jnp.sqrt(signal) * SPREAD**2 / (signal * SPREAD**2 + noise) * x
        eps = (x - jnp.sqrt(signal) * x0) / jnp.sqrt(noise)
        return {"x0": x0, "eps": eps, "v": jnp.sqrt(signal) * eps - jnp.sqrt(noise) * x0}[prediction]

    return predict


def deviation(signal):
    return np.sqrt(signal * SPREAD**2 + 1 - signal)


def error(steps: int, order: int, prediction: str = "x0") -> float:
    """Distance from the probability flow's exact end, which keeps the ratio of a point to the deviation."""
    ratio = np.linspace(2.0, -2.0, steps + 1)
    share = 1 / (1 + np.exp(-2 * ratio))
    chain = multistep_chain(np.arange(steps), share[1:], share[:-1], prediction, order)
    chain = chain.replace(timestep=chain.alpha_bar)
    end = denoise(gaussian_denoiser(prediction), chain, still(chain), clip_x0=None).chunk
    want = START * deviation(share[0]) / deviation(share[-1])
    return float(jnp.abs(end - want).max())


@pytest.mark.parametrize(("order", "factor"), [(1, 2.0), (2, 4.0)])
def test_each_solver_converges_at_its_order(order, factor):
    errors = [error(steps, order) for steps in (32, 64, 128)]
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(factor, rel=0.2)
    assert errors[-1] < (1e-2 if order == 1 else 1e-4)


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_what_the_network_says_makes_no_difference(prediction):
    assert error(8, 2, prediction) == pytest.approx(error(8, 2), rel=1e-3)


def test_of_order_one_it_is_ddim_on_its_timesteps():
    schedule = cosine_schedule(100)
    ddim = ddim_chain(schedule, 5, eta=0.0)
    again = multistep_chain(
        ddim.timestep[::-1], ddim.alpha_bar[::-1].astype(float), ddim.alpha_bar_prev[::-1].astype(float), order=1
    )
    np.testing.assert_allclose(again.coef_x, ddim.coef_x, atol=1e-6)
    np.testing.assert_allclose(again.coef_x0, ddim.coef_x0, atol=1e-6)
    assert not again.coef_last.any()


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 100])
def test_timesteps_fall_strictly_from_the_noisiest(steps):
    schedule = cosine_schedule(100)
    chain = dpm_solver_chain(schedule, steps)
    assert chain.timestep[0] == 99 and (np.diff(chain.timestep) < 0).all() and chain.timestep.min() >= 0
    assert chain.alpha_bar_prev[-1] == 1
    np.testing.assert_allclose(chain.coef_x0[-1] + chain.coef_last[-1], 1, atol=1e-6)
    assert chain.coef_last[0] == 0 and chain.coef_last[-1] == 0
    if steps == 5:
        spread = np.diff(half_log_snr(chain.alpha_bar.astype(float)))
        assert spread.std() < 0.35 * spread.mean()


def test_fewer_network_passes_than_ddim_for_the_same_distance():
    """On the schedule itself: ten steps of the second order are nearer to a long chain than ten of DDIM."""
    schedule = cosine_schedule(1000)

    def end(chain):
        chain = chain.replace(timestep=chain.alpha_bar)
        return denoise(gaussian_denoiser("x0"), chain, still(chain), clip_x0=None).chunk

    target = end(ddim_chain(schedule, 1000, eta=0.0))
    ddim, dpm = (jnp.abs(end(chain(schedule, 10)) - target).max() for chain in (_ddim0, dpm_solver_chain))
    assert dpm < ddim


def _ddim0(schedule, steps):
    return ddim_chain(schedule, steps, eta=0.0)


def flow_error(method: str, steps: int) -> float:
    """dx/dt = a x + b t, from 1 to 0, whose solution is an exponential and a line."""
    a, b = 1.3, 0.7
    chain = flow_chain(steps, method)
    end = denoise(lambda x, t: a * x + b * t, chain, still(chain)).chunk
    special = -b / a - b / a**2
    want = (START - special) * np.exp(-a) - b / a**2
    return float(jnp.abs(end - want).max())


@pytest.mark.parametrize(("method", "factor"), [("euler", 2.0), ("heun", 4.0)])
def test_flows_converge_at_their_order(method, factor):
    errors = [flow_error(method, steps) for steps in (8, 16, 32)]
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(factor, rel=0.15)


def test_a_straight_flow_takes_one_step():
    """With a velocity that does not change, data = noise - velocity after one step of either method."""
    for method in ("euler", "heun"):
        chain = flow_chain(1, method)
        end = denoise(lambda x, t: jnp.full_like(x, 5.0), chain, still(chain)).chunk
        np.testing.assert_allclose(end, START - 5, atol=1e-6)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="order 3"):
        multistep_chain(np.arange(2), np.array([0.9, 0.1]), np.array([1.0, 0.9]), order=3)
    with pytest.raises(ValueError, match="0 steps"):
        dpm_solver_chain(cosine_schedule(10), 0)
    with pytest.raises(ValueError, match="'midpoint'"):
        flow_chain(4, "midpoint")
