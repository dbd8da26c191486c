"""The LIBERO community's rule for actions that do nothing."""

import numpy as np
from jaxtyping import Bool, Float

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
