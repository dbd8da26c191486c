"""Whether a settled initial state is what its task file says.

Stored states hang in the air and fall, and where they come to rest depends on the version of MuJoCo: in
`libero_spatial` task 5 the bowl on the ramekin stands upright since 3.4.0 and lies tipped over before.
"""

from collections.abc import Iterator

import mujoco
import numpy as np
from jaxtyping import Float

from rlgen.libero.envs.environment import SETTLE_ACTION
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.goals import STACKED, UNDER, Goal, contacts_hold
from rlgen.libero.scenes.scene import Scene

# What was put on something still stands on it: tilted by less than this, and no further away seen from above. The
# goal predicates will not do: regions of tables are smaller than what settling moves an object by, and they are
# blind to a bowl that lies in a ramekin at 16 degrees.
UPRIGHT = np.cos(np.deg2rad(10.0))
DRIFT = 0.05
# After the ten control steps that every evaluation waits a bowl may still rock.
REST = np.tile(SETTLE_ACTION, (20, 1))


def check_reset_states(scene: Scene, *, threads: int = 1) -> dict[int, tuple[str, ...]]:
    """The stored states that are not what the task file says once they have come to rest (30 control steps).

    Args:
      scene: the task.
      threads: of the machine's cores.

    Returns:
      By the state's number, the atoms that do not hold, e.g. `On akita_black_bowl_1 glazed_rim_porcelain_ramekin_1`.
    """
    pool = VectorEnv([scene] * len(scene.stored_states), threads=threads, physics="exact")
    pool.reset(scene.stored_states)
    settled = pool.step(np.tile(REST, (pool.num_envs, 1, 1))).observation.physics
    pool.close()
    return unmet_reset_conditions(scene, scene.stored_states, settled)


def unmet_reset_conditions(
    scene: Scene, placed: Float[np.ndarray, "S D"], settled: Float[np.ndarray, "S D"]
) -> dict[int, tuple[str, ...]]:
    """The states, by row, that are not what the task file says, with the atoms that do not hold.

    Args:
      scene: the task.
      placed: time, qpos, qvel a row, as objects were put.
      settled: the same, after they came to rest.
    """
    broken = {}
    for row, (before, after) in enumerate(zip(placed, settled, strict=True)):
        missing = tuple(_broken_atoms(scene, _posed(scene, before), _posed(scene, after)))
        if missing:
            broken[row] = missing
    return broken


def _posed(scene: Scene, state: np.ndarray) -> mujoco.MjData:
    data = mujoco.MjData(scene.model)
    data.qpos[:] = state[1 : 1 + scene.model.nq]
    mujoco.mj_fwdPosition(scene.model, data)
    return data


def _broken_atoms(scene: Scene, before: mujoco.MjData, after: mujoco.MjData) -> Iterator[str]:
    views = kernel_arrays.make_data_arrays(scene.model, after)
    for number, words in enumerate(scene.reset_conditions.atoms):
        atom = scene.reset_conditions[number]
        if atom.kinds[0] in (UNDER, STACKED):
            holds = _stands(atom, before, after)
        else:
            holds = bool(kernel.goal_reached(views, kernel_arrays.goal_arrays(atom)))
        if not (holds and contacts_hold(atom, after)):
            yield " ".join(words)


def _stands(atom: Goal, before: mujoco.MjData, after: mujoco.MjData) -> bool:
    """Upright as it was put, and where it was put seen from what it stands on."""
    body, place, kind = atom.bodies[0], atom.targets[0], atom.kinds[0]
    turned = after.xmat[body].reshape(3, 3) @ before.xmat[body].reshape(3, 3).T
    offsets = [
        data.xpos[body, :2] - (data.xpos if kind == STACKED else data.site_xpos)[place, :2] for data in (before, after)
    ]
    return bool(turned[2, 2] > UPRIGHT and np.linalg.norm(offsets[1] - offsets[0]) < DRIFT)
