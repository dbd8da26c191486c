"""Goals of other tasks that a failed episode reached: a policy that ignores the prompt does what it has seen most."""

from collections.abc import Sequence

import mujoco
import numpy as np
from jaxtyping import Float

from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.goals import contacts_hold
from rlgen.libero.scenes.scene import Scene


def comparable(scene: Scene, other: Scene) -> bool:
    """Returns whether two tasks have the same objects and fixtures, so that a goal of one has a meaning in the other.

    Args:
      scene: of the task that was tried.
      other: of the task whose goal is to be checked; the same task is not comparable with itself.
    """
    return scene.task.id != other.task.id and _names(scene.model) == _names(other.model)


def _names(model: mujoco.MjModel) -> tuple:
    return model.nq, model.ngeom, model.names


def goal_holds(scene: Scene, other: Scene, state: Float[np.ndarray, " D"]) -> bool:
    """Returns whether another task's goal holds in a state of a scene.

    Args:
      scene: of the state.
      other: whose goal is checked; comparable with `scene`.
      state: time, qpos, qvel.
    """
    data = mujoco.MjData(scene.model)
    data.qpos[:] = state[1 : 1 + scene.model.nq]
    mujoco.mj_fwdPosition(scene.model, data)
    arrays = kernel_arrays.make_data_arrays(scene.model, data)
    reached = kernel.goal_reached(arrays, kernel_arrays.goal_arrays(other.goal))
    return bool(reached) and contacts_hold(other.goal, data)


def reached_instead(
    scene: Scene, others: Sequence[Scene], first: Float[np.ndarray, " D"], last: Float[np.ndarray, " D"]
) -> tuple[str, ...]:
    """Returns the tasks whose goal holds in the last state of an episode and did not hold in its first.

    Args:
      scene: of the episode.
      others: scenes of the tasks to check; those that are not comparable are left out.
      first: time, qpos, qvel at the start.
      last: time, qpos, qvel at the end.
    """
    return tuple(
        other.task.id
        for other in others
        if comparable(scene, other) and goal_holds(scene, other, last) and not goal_holds(scene, other, first)
    )
