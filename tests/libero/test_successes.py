"""Goals of every kind along successes of the benchmark's own environment, and the step in which episodes end."""

import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest
from once import once

from rlgen.libero.envs.environment import Environment, Snapshot, model_for
from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.bundles import build_scene_bundles
from rlgen.libero.scenes.goals import contacts_hold
from rlgen.libero.scenes.scene import load_scene_bundle
from rlgen.libero.tasks.suites import find_task

# In a box; on a fixture's top, on a region of the table; on another object; opened, closed, on, off; several.
TASKS = (
    "libero_object/6",
    "libero_goal/4",
    "libero_goal/5",
    "libero_spatial/0",
    "libero_goal/0",
    "libero_90/0",
    "libero_goal/7",
    "libero_90/39",
    "libero_10/4",
)
STILL = np.array([0, 0, 0, 0, 0, 0, -1.0])


@pytest.fixture(scope="module")
def official(real_assets, together):
    """Episodes of the benchmark's environment, recorded by `record_successes.py`."""
    program = Path(__file__).with_name("record_successes.py")

    def record(out: Path) -> None:
        command = [sys.executable, str(program), "--assets", str(real_assets.path), "--out", str(out), *TASKS]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]

    out = once(together, "successes", record)
    return {task: dict(np.load(out / f"{task.replace('/', '-')}.npz")) for task in TASKS}


@pytest.fixture(scope="module")
def bundles(real_assets, cache):
    return dict(zip(TASKS, build_scene_bundles([find_task(task) for task in TASKS], real_assets, cache), strict=True))


@pytest.fixture(scope="module", params=TASKS)
def pair(request, official, bundles):
    return load_scene_bundle(bundles[request.param]), official[request.param]


def test_the_goal_holds_where_it_does_in_the_benchmark(pair):
    scene, recorded = pair
    data, goal = mujoco.MjData(scene.model), kernel_arrays.make_constants(scene).goal
    arrays, holds = kernel_arrays.make_data_arrays(scene.model, data), []
    for state in recorded["states"]:
        data.qpos[:] = state[1 : 1 + scene.model.nq]
        mujoco.mj_fwdPosition(scene.model, data)
        holds.append(bool(kernel.goal_reached(arrays, goal)) and contacts_hold(scene.goal, data))
    assert holds == recorded["afresh"].tolist()
    assert any(holds) and not holds[0]


@pytest.mark.parametrize("physics", ["exact", "fast"])
def test_an_episode_ends_in_the_same_step_as_in_the_benchmark(pair, physics):
    scene, recorded = pair
    kernel.link_mujoco()
    environment = Environment(scene, model_for(scene, physics))
    environment.restore(snapshot(scene, recorded["states"][0]))
    steps = len(recorded["reached"])
    rows = np.zeros((steps, recorded["states"].shape[1]))
    taken, reached = environment.step(np.tile(STILL, (steps, 1)), rows)
    assert reached and taken == 1 + int(np.argmax(recorded["reached"]))


def snapshot(scene, state: np.ndarray) -> Snapshot:
    """Returns a snapshot of an environment whose state has just been set, as in the benchmark."""
    data, kind = mujoco.MjData(scene.model), mujoco.mjtState.mjSTATE_INTEGRATION
    data.qpos[:], data.qvel[:] = state[1 : 1 + scene.model.nq], state[1 + scene.model.nq :]
    mujoco.mj_forward(scene.model, data)
    integration = np.empty(mujoco.mj_stateSize(scene.model, kind))
    mujoco.mj_getState(scene.model, data, integration, kind)
    return Snapshot(integration, state.copy(), tuple(kernel_arrays.make_controller_state(scene)), 0)
