"""The action of one control step: six numbers for the arm and one for the gripper, each in [-1, 1].

The arm's numbers change the position (x, y, z) and the orientation (axis-angle) of the end effector. Of the gripper's
number the environment reads the sign alone.
"""

import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError

ACTION_SIZE = 7
# Gripper commands.
OPEN, CLOSE = -1.0, 1.0


def binarize_gripper(actions: Float[np.ndarray, "*B T A"]) -> Float[np.ndarray, "*B T A"]:
    """Returns actions whose gripper command, the last number, is exactly OPEN or CLOSE.

    A control step moves the gripper's internal command by `speed * sign(command)` (robosuite's
    `PandaGripper.format_action`, and `_set_gripper` of `libero.physics.kernel`): negative commands open, positive ones
    close, and exactly 0 leaves the fingers as they are. A command of 0 therefore repeats the one before it; at the
    beginning it opens, because that is the command that an episode settles with.

    Args:
      actions: along consecutive control steps; at least one.

    Raises:
      UserError: an action is not finite.
    """
    if not np.isfinite(actions).all():
        raise UserError("actions are not finite; are the parameters of the policy that gave them damaged?")
    sign = np.sign(actions[..., -1])
    steps = np.arange(sign.shape[-1])
    latest = np.maximum.accumulate(np.where(sign == 0, 0, steps), axis=-1)
    held = np.take_along_axis(sign, latest, axis=-1)
    return np.concatenate([actions[..., :-1], np.where(held == 0, OPEN, held)[..., None]], axis=-1, dtype=actions.dtype)
