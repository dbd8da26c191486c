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
