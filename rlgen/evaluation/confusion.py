"""Which other task's goal a failed episode reached: a policy that does not listen does what it has seen most."""

from collections.abc import Sequence

import mujoco
import numpy as np
from jaxtyping import Float

from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.goals import contacts_hold
from rlgen.libero.scenes.scene import Scene


def comparable(scene: Scene, other: Scene) -> bool:
    """Whether two tasks have the same objects and fixtures, so that one's goal can be asked in the other's scene."""
    return scene.task.id != other.task.id and _names(scene.model) == _names(other.model)


def _names(model: mujoco.MjModel) -> tuple:
    return model.nq, model.ngeom, model.names


def goal_holds(scene: Scene, of: Scene, state: Float[np.ndarray, " D"]) -> bool:
    """Whether the goal of `of` holds in a state of `scene`."""
    data = mujoco.MjData(scene.model)
    data.qpos[:] = state[1 : 1 + scene.model.nq]
    mujoco.mj_fwdPosition(scene.model, data)
    views = kernel_arrays.make_views(scene.model, data)
    return bool(kernel.goal_reached(views, kernel_arrays.goal_arrays(of.goal))) and contacts_hold(of.goal, data)


def reached_instead(
    scene: Scene, others: Sequence[Scene], before: Float[np.ndarray, " D"], after: Float[np.ndarray, " D"]
) -> tuple[str, ...]:
    """Tasks whose goal holds in the last state and did not hold in the first."""
    return tuple(
        other.task.id
        for other in others
        if comparable(scene, other) and goal_holds(scene, other, after) and not goal_holds(scene, other, before)
    )
