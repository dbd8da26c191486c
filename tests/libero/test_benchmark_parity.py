"""Tasks against the benchmark's own environment: one control step, twenty, and the goal. All 130 are `slow`."""

import os
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest
from once import once
from sampling import sample, sampled, selected

from rlgen.libero.envs.benchmark_observations import BenchmarkObserver, SensorReading
from rlgen.libero.envs.observations import Observer
from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.bundles import build_scene_bundles
from rlgen.libero.scenes.goals import CONTAIN, JOINT, STACKED, UNDER, contacts_hold
from rlgen.libero.scenes.scene import Scene, load_scene_bundle
from rlgen.libero.tasks.suites import Task, all_tasks


@pytest.fixture(scope="module")
def bundles(request, real_assets, cache) -> dict[Task, Path]:
    """The bundles of the selected tasks from the benchmark's own assets."""
    tasks = sorted(selected(request, sample()), key=all_tasks().index)
    return dict(zip(tasks, build_scene_bundles(tasks, real_assets, cache, workers=workers(tasks)), strict=True))


def workers(tasks: list[Task]) -> int:
    """Returns how many processes are worth their start."""
    return min(os.cpu_count() or 1, 1 + len(tasks) // 20)


@pytest.fixture(scope="module")
def official(bundles, real_assets, together) -> Path:
    """What the benchmark's environment does in the selected tasks, by `record_official.py`."""
    program, tasks = Path(__file__).with_name("record_official.py"), list(bundles)

    def record(out: Path) -> None:
        command = [sys.executable, str(program), "--assets", str(real_assets.path), "--out", str(out)]
        names, count = [f"{task.suite}/{task.index}" for task in tasks], workers(tasks)
        running = [
            subprocess.Popen([*command, *names[worker::count]], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for worker in range(count)
        ]
        for process in running:
            _, errors = process.communicate()
            assert process.returncode == 0, errors.decode()[-2000:]

    return once(together, "official", record)


@pytest.fixture
def pair(task, bundles, official) -> tuple[Scene, dict[str, np.ndarray]]:
    kernel.link_mujoco()
    with np.load(official / f"{task.suite}-{task.index}.npz") as arrays:
        return load_scene_bundle(bundles[task]), dict(arrays)


def goal_holds(scene: Scene, data: mujoco.MjData, state: np.ndarray) -> bool:
    nq = scene.model.nq
    data.qpos[:], data.qvel[:] = state[1 : 1 + nq], state[1 + nq :]
    mujoco.mj_fwdPosition(scene.model, data)
    goal = kernel_arrays.make_constants(scene).goal
    return kernel.goal_reached(kernel_arrays.make_data_arrays(scene.model, data), goal) and contacts_hold(
        scene.goal, data
    )


@pytest.mark.parametrize("task", sampled())
def test_a_task_is_the_benchmarks(pair):
    scene, seen = pair
    model, data = scene.model, mujoco.MjData(scene.model)
    assert [goal_holds(scene, data, state) for state in scene.stored_states] == seen["success"].tolist()
    assert [goal_holds(scene, data, state) for state in seen["perturbed"]] == seen["perturbed_success"].tolist()

    start = scene.stored_states[int(seen["start"])]
    mujoco.mj_resetData(model, data)
    data.qpos[:], data.qvel[:] = start[1 : 1 + model.nq], start[1 + model.nq :]
    mujoco.mj_forward(model, data)
    rows, controller = np.zeros_like(seen["states"]), kernel_arrays.make_controller_state(scene)
    arrays, constants = kernel_arrays.make_data_arrays(model, data), kernel_arrays.make_constants(scene)
    kernel.run_chunk(arrays, constants, controller, seen["actions"], False, start[0], rows)
    qpos = slice(1, 1 + model.nq)
    np.testing.assert_allclose(rows[0, qpos], seen["states"][0, qpos], rtol=0, atol=1e-9)
    np.testing.assert_allclose(rows[:, qpos], seen["states"][:, qpos], rtol=0, atol=1e-6)


@pytest.mark.parametrize("task", sampled())
def test_observations_are_the_benchmarks(pair):
    """Every name and number but the images, after each of twenty steps."""
    scene, seen = pair
    model, data = scene.model, mujoco.MjData(scene.model)
    start = scene.stored_states[int(seen["start"])]
    data.qpos[:], data.qvel[:] = start[1 : 1 + model.nq], start[1 + model.nq :]
    mujoco.mj_forward(model, data)
    controller, observer = kernel_arrays.make_controller_state(scene), BenchmarkObserver(scene)
    arrays, constants = kernel_arrays.make_data_arrays(model, data), kernel_arrays.make_constants(scene)
    robot = Observer(scene)(start[None]).robot
    np.testing.assert_allclose(robot.position[0], seen["first_position"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(robot.axis_angle[0], seen["first_axis_angle"], rtol=0, atol=1e-9)
    wanted = {name.removeprefix("seen."): values for name, values in seen.items() if name.startswith("seen.")}
    for step, action in enumerate(seen["actions"]):
        kernel.run_chunk(arrays, constants, controller, action[None], False, 0.0, np.zeros((1, len(start))))
        ours = observer(SensorReading(controller.sensed_pose, controller.sensed_qpos, controller.sensed_qvel))
        assert set(ours) == set(wanted)
        for name, values in ours.items():
            # Poses relative to the hand are single precision there: a last bit may fall on the other side.
            tolerance = 1e-6 if "_to_" in name else 1e-9
            np.testing.assert_allclose(values, wanted[name][step], rtol=0, atol=tolerance, err_msg=name)


def test_the_perturbed_states_lie_on_both_sides_of_every_kind_of_goal(bundles, official):
    """Otherwise the comparison above would say nothing."""
    outcomes: dict[int, list[bool]] = {CONTAIN: [], UNDER: [], STACKED: [], JOINT: []}
    for task, folder in bundles.items():
        kinds = set(load_scene_bundle(folder).goal.kinds.tolist())
        if len(kinds) == 1:
            with np.load(official / f"{task.suite}-{task.index}.npz") as arrays:
                outcomes[kinds.pop()] += arrays["perturbed_success"].tolist()
    for kind, held in outcomes.items():
        assert 0.05 < np.mean(held) < 0.95, (kind, np.mean(held))
