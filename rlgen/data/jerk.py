"""Smoothness of a path from its third finite difference."""

import numpy as np
from jaxtyping import Float

CONTROL_STEP = 0.05  # seconds; LIBERO's control rate is 20 Hz


def jerk(position: Float[np.ndarray, "T 3"], step: float = CONTROL_STEP) -> Float[np.ndarray, "T-3 3"]:
    """Third difference of a path in metres over `step` seconds cubed: m/s³."""
    return np.diff(position, 3, axis=0) / step**3


def mean_squared_jerk(position: Float[np.ndarray, "T 3"], step: float = CONTROL_STEP) -> float:
    """Mean over time of the squared length of the jerk, m²/s⁶; NaN for fewer than four positions."""
    if len(position) < 4:
        return float("nan")
    return float(np.square(jerk(position, step)).sum(axis=1).mean())


def log_dimensionless_jerk(position: Float[np.ndarray, "T 3"], step: float = CONTROL_STEP) -> float:
    """Minus the logarithm of the integrated squared jerk, times duration cubed over peak speed squared.

    No unit; higher is smoother. A minimum-jerk movement has -ln 204.8 = -5.32. From Balasubramanian et al.,
    "A robust and sensitive metric for quantifying movement smoothness" (2012). NaN for fewer than four
    positions, for a path that rests, and for one without any jerk.
    """
    if len(position) < 4:
        return float("nan")
    duration = (len(position) - 1) * step
    peak_speed = np.linalg.norm(np.diff(position, axis=0), axis=1).max() / step
    integral = np.square(jerk(position, step)).sum() * step
    if peak_speed == 0 or integral == 0:
        return float("nan")
    return float(-np.log(duration**3 / peak_speed**2 * integral))
