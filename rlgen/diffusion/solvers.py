"""Chains of multistep solvers and of flows; `samplers.denoise` takes them like those of `schedules`."""

import numpy as np
from jaxtyping import Float, Shaped

from rlgen.diffusion.schedules import Chain, Prediction, Schedule, make_chain


def dpm_solver_chain(
    schedule: Schedule, steps: int, prediction: Prediction = "eps", order: int = 2, first: int = 0
) -> Chain:
    """Returns the chain of DPM-Solver++ (Lu et al., 2022), multistep, in data prediction.

    It is deterministic and takes one network pass a step.

    Timesteps are as evenly spread over half the log signal-to-noise ratio as the schedule's own allow, from its last to
    `first`, and a last step goes to the predicted clean chunk itself.

    Args:
      schedule: the training schedule of K steps.
      steps: length n of the chain, 1 to K - `first`.
      prediction: what the network's output means.
      order: 1, which is DDIM with eta 0 on these timesteps, or 2.
      first: the least noisy timestep.
    """
    available = schedule.steps - first
    if not 1 <= steps <= available:
        raise ValueError(f"a chain of {steps} steps: expected 1 to {available}, the schedule's length")
    signal = np.asarray(schedule.alpha_bar, np.float64)
    timestep = _evenly_spaced(half_log_snr(signal), first, steps)
    cleaner = np.concatenate([[1.0], signal[timestep[:-1]]])
    return multistep_chain(timestep, signal[timestep], cleaner, prediction, order)


def half_log_snr(signal: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """Returns half the log ratio of signal to noise, lambda in the paper; infinite where there is no noise."""
    with np.errstate(divide="ignore"):
        return 0.5 * (np.log(signal) - np.log1p(-signal))


def multistep_chain(
    timestep: Shaped[np.ndarray, " K"],
    signal: Float[np.ndarray, " K"],
    cleaner: Float[np.ndarray, " K"],
    prediction: Prediction = "eps",
    order: int = 2,
) -> Chain:
    """Returns the chain of DPM-Solver++ on any grid.

    Args:
      timestep: given to the network at each step, cleanest first.
      signal: fraction of the signal's variance before each step.
      cleaner: the same after it, 1 for the clean chunk itself.
      prediction: what the network's output means.
      order: 1 or 2. The first step has none before it, and a step to the clean chunk is infinitely long in lambda:
        both are of order 1.
    """
    if order not in (1, 2):
        raise ValueError(f"order {order}: expected 1 or 2")
    here, there = half_log_snr(signal), half_log_snr(cleaner)
    length = there - here
    coef_x = np.sqrt((1 - cleaner) / (1 - signal))
    weight = -np.sqrt(cleaner) * np.expm1(-length)
    # With r = (length of the step before) / length, the prediction is extrapolated to (1 + 1 / 2r) now - 1 / 2r before.
    lean = np.zeros_like(signal)
    if order == 2 and len(signal) > 1:
        inner = np.isfinite(length[:-1])
        lean[:-1][inner] = length[:-1][inner] / (2 * length[1:][inner])
    none = np.zeros_like(signal)
    return make_chain(
        timestep, signal, cleaner, none, weight * (1 + lean), coef_x, prediction, coef_last=-weight * lean
    )


def flow_chain(steps: int, method: str = "euler") -> Chain:
    """Returns the chain of a flow from noise at time 1 to data at time 0 in equal steps; the network predicts dx/dt.

    Args:
      steps: steps, 1 or more; Heun's take two network passes each, which are two steps of the chain.
      method: `euler`, or `heun`, the trapezoidal rule with Euler's step as predictor.
    """
    if steps < 1 or method not in ("euler", "heun"):
        raise ValueError(f"{steps} steps of {method!r}: expected 1 or more, of 'euler' or 'heun'")
    times = np.linspace(1, 0, steps + 1)
    if method == "euler":
        return _flow(times[:-1], times[1:], np.full(steps, -1 / steps), np.zeros(steps))
    # The corrector stands where Euler's step has led and moves by half the difference of both velocities.
    now = np.stack([times[:-1], times[1:]], axis=1).ravel()
    then = np.repeat(times[1:], 2)
    half_step = 0.5 / steps
    return _flow(now, then, np.tile([-2 * half_step, -half_step], steps), np.tile([0.0, half_step], steps))


def _flow(now: np.ndarray, then: np.ndarray, coef_x0: np.ndarray, coef_last: np.ndarray) -> Chain:
    """Returns a chain with time as noise level: of the signal's variance (1 - t)^2 / ((1 - t)^2 + t^2) is left."""
    ones, zeros = np.ones_like(now), np.zeros_like(now)
    signal, cleaner = ((1 - t) ** 2 / ((1 - t) ** 2 + t**2) for t in (now, then))
    arrays = (now, signal, cleaner, zeros, zeros, ones, coef_x0, ones, coef_last)
    return Chain(*(array.astype(np.float32) for array in arrays), flow=True)


def _evenly_spaced(ratio: Float[np.ndarray, " K"], first: int, steps: int) -> np.ndarray:
    """Returns timesteps whose falling `ratio` is nearest to evenly spaced; all different, cleanest first."""
    last = len(ratio) - 1
    if steps == 1:
        return np.array([last])
    wanted = np.linspace(ratio[first], ratio[last], steps)
    nearest = np.abs(ratio[:, None] - wanted).argmin(axis=0)
    # Where the schedule is too coarse to tell neighbors apart they are pushed to free places, from both ends.
    index = np.arange(steps)
    nearest = np.maximum.accumulate(nearest - index) + index
    room = last - (steps - 1 - index)
    return np.clip(np.minimum(nearest, room), first, last)
