"""The reset-state check: do a task's reset conditions hold once its stored initial states have settled?

Objects of stored states hang in the air and fall, and where they come to rest depends on the version of MuJoCo: in
`libero_spatial` task 5 the bowl on the ramekin stands upright since 3.4.0 and lies tipped over before.
"""

from collections.abc import Iterator, Sequence

import mujoco
import numpy as np
from jaxtyping import Float

from rlgen.core.types import FixturePoses
from rlgen.libero.envs.environment import SETTLE_ACTION, Physics
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.goals import STACKED, UNDER, Goal, contacts_hold
from rlgen.libero.scenes.scene import Scene

# An object that was put on something is still there if it is tilted by less than 10 degrees and has moved by less
# than 5 cm, seen from above. The goal predicates are no substitute: regions of tables are smaller than what settling
# moves an object by, and the predicates accept a bowl that lies in a ramekin at 16 degrees.
MIN_UPRIGHT = np.cos(np.deg2rad(10.0))
MAX_DRIFT = 0.05  # metres
# After the ten control steps that every evaluation waits a bowl may still rock.
REST = np.tile(SETTLE_ACTION, (20, 1))


def check_reset_states(scene: Scene, *, threads: int = 1) -> dict[int, tuple[str, ...]]:
    """Checks the reset conditions in the stored states of a task, after 30 control steps.

    Args:
      scene: the task's scene.
      threads: threads that step the environments.

    Returns:
      For each stored state that violates a condition, by its index, the atoms that do not hold, e.g.
      `On akita_black_bowl_1 glazed_rim_porcelain_ramekin_1`.
    """
    settled = at_rest(scene, scene.stored_states, physics="exact", threads=threads)
    return unmet_reset_conditions(scene, scene.stored_states, settled)


def at_rest(
    scene: Scene,
    states: Float[np.ndarray, "S D"],
    fixtures: Sequence[FixturePoses | None] | None = None,
    *,
    physics: Physics,
    threads: int = 1,
) -> Float[np.ndarray, "S D"]:
    """Returns states after 30 control steps.

    Args:
      scene: the task's scene.
      states: time, qpos, qvel of each.
      fixtures: where they stand in each, as of `VectorEnv.reset`.
      physics: simulation mode.
      threads: threads that step the environments.
    """
    env = VectorEnv([scene] * len(states), threads=threads, physics=physics)
    env.reset(states, fixtures)
    settled = env.step(np.tile(REST, (env.num_envs, 1, 1))).observation.physics
    env.close()
    return settled


def unmet_reset_conditions(
    scene: Scene, initial: Float[np.ndarray, "S D"], settled: Float[np.ndarray, "S D"]
) -> dict[int, tuple[str, ...]]:
    """Returns the atoms of the reset conditions that do not hold, by row, for the rows that have any.

    Args:
      scene: the task's scene.
      initial: time, qpos, qvel of each state before settling.
      settled: the same states at rest.
    """
    unmet = {}
    for row, (before, after) in enumerate(zip(initial, settled, strict=True)):
        atoms = tuple(_unmet_atoms(scene, _data_at(scene, before), _data_at(scene, after)))
        if atoms:
            unmet[row] = atoms
    return unmet


def _data_at(scene: Scene, state: np.ndarray) -> mujoco.MjData:
    data = mujoco.MjData(scene.model)
    data.qpos[:] = state[1 : 1 + scene.model.nq]
    mujoco.mj_fwdPosition(scene.model, data)
    return data


def _unmet_atoms(scene: Scene, before: mujoco.MjData, after: mujoco.MjData) -> Iterator[str]:
    arrays = kernel_arrays.make_data_arrays(scene.model, after)
    conditions = scene.reset_conditions
    for index, text in enumerate(conditions.atoms):
        atom = conditions[index]
        if atom.kinds[0] in (UNDER, STACKED):
            holds = _stands(atom, before, after)
        else:
            holds = bool(kernel.goal_reached(arrays, kernel_arrays.goal_arrays(atom)))
        if not (holds and contacts_hold(atom, after)):
            yield " ".join(text)


def _stands(atom: Goal, before: mujoco.MjData, after: mujoco.MjData) -> bool:
    """Returns whether an object is as upright as it was put, and has not moved away from what it stands on."""
    body, target, kind = atom.bodies[0], atom.targets[0], atom.kinds[0]
    rotation = after.xmat[body].reshape(3, 3) @ before.xmat[body].reshape(3, 3).T
    offsets = [
        data.xpos[body, :2] - (data.xpos if kind == STACKED else data.site_xpos)[target, :2] for data in (before, after)
    ]
    return bool(rotation[2, 2] > MIN_UPRIGHT and np.linalg.norm(offsets[1] - offsets[0]) < MAX_DRIFT)
