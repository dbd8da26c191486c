"""Smoothness of end-effector paths, from their third finite difference, and no-ops among actions."""

import numpy as np
from jaxtyping import Bool, Float

CONTROL_STEP = 0.05  # seconds; LIBERO's control rate is 20 Hz
NOOP_NORM = 1e-4


def jerk(position: Float[np.ndarray, "T 3"], step: float = CONTROL_STEP) -> Float[np.ndarray, "T-3 3"]:
    """Returns the third difference of a path (metres) divided by `step` (seconds) cubed: m/s³."""
    return np.diff(position, 3, axis=0) / step**3


def mean_squared_jerk(position: Float[np.ndarray, "T 3"], step: float = CONTROL_STEP) -> float:
    """Returns the mean over time of the squared norm of the jerk, m²/s⁶; NaN for fewer than four positions."""
    if len(position) < 4:
        return float("nan")
    return float(np.square(jerk(position, step)).sum(axis=1).mean())


def log_dimensionless_jerk(position: Float[np.ndarray, "T 3"], step: float = CONTROL_STEP) -> float:
    """Returns `-ln(D³ / v² * integral of |jerk|² dt)`, with the duration D and the peak speed v.

    It has no unit; higher is smoother. A minimum-jerk movement has -ln 204.8 = -5.32.

    Source: S. Balasubramanian et al., A robust and sensitive metric for quantifying movement smoothness, 2012.

    Args:
      position: of the end effector, metres.
      step: between two positions, seconds.

    Returns:
      NaN for fewer than four positions, for a path without movement, and for one without any jerk.
    """
    if len(position) < 4:
        return float("nan")
    duration = (len(position) - 1) * step
    peak_speed = np.linalg.norm(np.diff(position, axis=0), axis=1).max() / step
    integral = np.square(jerk(position, step)).sum() * step
    if peak_speed == 0 or integral == 0:
        return float("nan")
    return float(-np.log(duration**3 / peak_speed**2 * integral))


def noop_mask(actions: Float[np.ndarray, "T 7"]) -> Bool[np.ndarray, " T"]:
    """Returns True for the actions that a `*_no_noops` dataset drops.

    An action is a no-op if the norm of its first six numbers is below 1e-4 and its gripper command equals that of the
    last action that is kept. Before any action is kept, only the norm counts.
    """
    actions = np.asarray(actions)
    small = np.linalg.norm(actions[:, :-1], axis=1) < NOOP_NORM
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
    """Returns True for the steps that are pauses: no-ops during which the fingers did not move either.

    A policy without history cannot learn how long to pause, only to stop. A hand that waits for its fingers to close
    is not pausing.

    Args:
      actions: as commanded.
      fingers: positions of the finger joints before each action and after the last one, metres.
      still: fingers that move less than this in a step count as still, metres.
    """
    moves = np.abs(np.diff(np.asarray(fingers), axis=0)).max(axis=1)
    return noop_mask(actions) & (moves <= still)
