"""Smoothness of a path from its third finite difference."""

import numpy as np
from jaxtyping import Bool, Float

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


THRESHOLD = 1e-4


def noop_mask(actions: Float[np.ndarray, "T 7"]) -> Bool[np.ndarray, " T"]:
    """Which actions a `*_no_noops` dataset drops.

    An action is a no-op if the norm of its first six numbers is below 1e-4 and its gripper command equals
    that of the last action kept. While nothing has been kept, the norm alone decides.
    """
    actions = np.asarray(actions)
    small = np.linalg.norm(actions[:, :-1], axis=1) < THRESHOLD
    mask = np.zeros(len(actions), dtype=bool)
    gripper = None
    for step, (still, command) in enumerate(zip(small, actions[:, -1], strict=True)):
        mask[step] = still and (gripper is None or command == gripper)
        if not mask[step]:
            gripper = command
    return mask


def idle_mask(
    actions: Float[np.ndarray, "T 7"], fingers: Float[np.ndarray, "T+1 2"], still: float = 2e-4
) -> Bool[np.ndarray, " T"]:
    """Which steps are pauses: no-ops during which the fingers did not move either.

    A policy that sees no history cannot learn how long to pause, only to stop. While the fingers close, a hand that
    waits is at work.

    Args:
      actions: what was commanded.
      fingers: finger joint positions before each action and after the last, metres.
      still: fingers that move less than this in a step stand still, metres.
    """
    moves = np.abs(np.diff(np.asarray(fingers), axis=0)).max(axis=1)
    return noop_mask(actions) & (moves <= still)
