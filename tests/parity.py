"""Comparisons of a scene with what `record_official.py` recorded of the benchmark's own environment."""

import mujoco
import numpy as np

from rlgen.libero.envs.benchmark_observations import BenchmarkObserver, SensorReading
from rlgen.libero.envs.observations import Observer
from rlgen.libero.physics import kernel, kernel_arrays
from rlgen.libero.scenes.goals import contacts_hold
from rlgen.libero.scenes.scene import Scene

Recorded = dict[str, np.ndarray]


def goal_holds(scene: Scene, data: mujoco.MjData, state: np.ndarray) -> bool:
    """Returns whether a scene's goal holds in a state, contacts included."""
    nq = scene.model.nq
    data.qpos[:], data.qvel[:] = state[1 : 1 + nq], state[1 + nq :]
    mujoco.mj_fwdPosition(scene.model, data)
    goal = kernel_arrays.make_constants(scene).goal
    return kernel.goal_reached(kernel_arrays.make_data_arrays(scene.model, data), goal) and contacts_hold(
        scene.goal, data
    )


def check_goals_and_steps(scene: Scene, seen: Recorded) -> None:
    """Compares the goal in stored and perturbed states, one control step, and twenty."""
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


def check_observations(scene: Scene, seen: Recorded) -> None:
    """Compares every name and number but the images, after each of twenty steps."""
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
