"""States in which the functions of the accelerator's world are compared with those of the CPU."""

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from rlgen.core.types import Episode
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.libero.envs.rollouts import make_trials, run_episodes
from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.goals import JOINT, STACKED, UNDER, contacts_hold
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.tasks.suites import all_tasks, find_task

# On another object; into a drawer that is closed then; on a fixture's top; a stove turned off.
FEW = ("libero_spatial/0", "libero_10/3", "libero_goal/4", "libero_90/39")
ROBOT = 9  # joints of arm and fingers, the first of qpos and qvel


def few(count: int = len(FEW)) -> list:
    """Returns all tasks as parameters of a test, those outside of the first of `FEW` marked `slow`."""
    chosen = [find_task(name) for name in FEW[:count]]
    return [
        pytest.param(task, id=f"{task.suite}-{task.index}", marks=() if task in chosen else pytest.mark.slow)
        for task in all_tasks()
    ]


def single(array: np.ndarray) -> np.ndarray:
    """Returns double precision numbers that single precision holds as well."""
    return array.astype(np.float32).astype(np.float64)


def random_robots(scene: Scene, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns positions in the joints' ranges, and velocities, of arm and fingers, `[count, 9]` each."""
    random, (low, high) = np.random.default_rng(seed), scene.model.jnt_range[:ROBOT].T
    speeds = np.array([1.0] * 7 + [0.05] * 2)
    return single(random.uniform(low, high, (count, ROBOT))), single(random.normal(0, 1, (count, ROBOT)) * speeds)


def states_about_the_goal(scene: Scene, count: int, seed: int) -> Iterator[np.ndarray]:
    """Yields qpos with the goal's objects and joints near to where its atoms hold, on both sides."""
    random, model, goal = np.random.default_rng(seed), scene.model, scene.goal
    data = mujoco.MjData(model)
    for start in random.integers(len(scene.stored_states), size=count):
        data.qpos[:] = scene.stored_states[start, 1 : 1 + model.nq]
        # Joints first, because regions move with them.
        for atom in np.argsort(goal.kinds != JOINT, kind="stable"):
            mujoco.mj_kinematics(model, data)
            if goal.kinds[atom] == JOINT:
                used = goal.joints[atom][goal.joints[atom] >= 0]
                data.qpos[used] = goal.thresholds[atom] + random.normal(0, 0.01, len(used))
                continue
            address = model.jnt_qposadr[model.body_jntadr[goal.bodies[atom]]]
            target = goal.targets[atom]
            center = data.xpos[target] if goal.kinds[atom] == STACKED else data.site_xpos[target]
            above = random.uniform(-0.02, 0.06) + (goal.sizes[atom, 2] if goal.kinds[atom] == UNDER else 0.0)
            data.qpos[address : address + 3] = center + random.normal(0, 0.02, 3) + (0.0, 0.0, above)
        yield single(data.qpos)


def scripted_success(scene: Scene) -> Episode:
    """Returns an episode in which the scripted expert reaches the goal, of the first trials until one succeeds."""
    for trial in make_trials(5, len(scene.stored_states), seed=0):
        expert = ScriptedExpert(scene, clean=True)
        [[episode]] = run_episodes(scene, expert, [trial], split="heldout", source="scripted", width=1)
        if episode.success:
            return episode
    raise AssertionError(f"no success in {scene.task.id}")


class CpuGoal:
    """A goal as the CPU's environment checks it, of one `MjData` after its last physics pass."""

    def __init__(self, scene: Scene, data: mujoco.MjData):
        self._scene, self._data = scene, data
        self._arrays, self._goal = kernel_arrays.make_data_arrays(scene.model, data), kernel_arrays.goal_arrays

    def __call__(self) -> list[bool]:
        """Returns for each atom whether it holds, its contacts included."""
        parts = [self._scene.goal[atom] for atom in range(len(self._scene.goal.atoms))]
        return [
            bool(kernel.goal_reached(self._arrays, self._goal(part))) and contacts_hold(part, self._data)
            for part in parts
        ]
