"""Records the behavior of the benchmark's own environment, for tests that compare it with ours.

A program of its own, because importing the benchmark edits the environment and draws from NumPy's global
generator:  python tests/libero/record_official.py --assets DIR --out DIR TASK...
"""

import numpy as np
from official_programs import record_tasks

from rlgen.libero.scenes.build import official_environment
from rlgen.libero.tasks.initial_states import read_initial_states
from rlgen.libero.tasks.suites import Task

STEPS = 20
PERTURBED = 40


def record(task: Task) -> dict[str, np.ndarray]:
    """Returns what `record_environment` does of an environment as scene bundles have it."""
    return record_environment(official_environment(task), task)


def record_environment(env, task: Task) -> dict[str, np.ndarray]:
    """Returns arrays by name; their names are at the end.

    Args:
      env: the benchmark's `ControlEnv`, after a reset; closed afterwards.
      task: its task.
    """
    from robosuite.utils.transform_utils import quat2axisangle

    stored = read_initial_states(task.initial_states_file)
    random = np.random.default_rng([task.index, len(task.suite)])
    success = [_check(env, state) for state in stored]
    perturbed = np.stack([_perturb(env, stored[i % len(stored)], random) for i in range(PERTURBED)])
    perturbed_success = [_check(env, state) for state in perturbed]

    start = task.index % len(stored)
    actions = _free_actions(random)
    first = env.set_init_state(stored[start])
    # The controller still has the pose before the state was set, and would compute its first goal from it.
    env.robots[0].controller.update(force=True)
    states, observations = [], []
    for action in actions:
        observation, *_ = env.step(action)
        states.append(env.get_sim_state())
        observations.append(observation)
    env.close()
    names = sorted(name for name in observations[0] if not name.endswith("-state"))
    return {
        "success": np.array(success),
        "perturbed": perturbed,
        "perturbed_success": np.array(perturbed_success),
        "start": np.array(start),
        "actions": actions,
        "states": np.stack(states),
        "first_position": first["robot0_eef_pos"],
        "first_axis_angle": quat2axisangle(first["robot0_eef_quat"]),
        **{f"seen.{name}": np.stack([observation[name] for observation in observations]) for name in names},
    }


def _check(env, state: np.ndarray) -> bool:
    env.set_state(state)
    env.sim.forward()
    return bool(env.check_success())


def _free_actions(random: np.random.Generator) -> np.ndarray:
    """Returns small random actions away from the table."""
    actions = np.clip(random.normal(0, 0.15, (STEPS, 7)), -1, 1)
    actions[:, 2] = np.abs(actions[:, 2])
    actions[:, 6] = random.choice([-1.0, 1.0], STEPS)
    return actions


def _perturb(env, state: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns a stored state with all objects of the goal moved to near their targets."""
    env.set_state(state)
    env.sim.forward()
    for atom in env.env.parsed_problem["goal_state"]:
        if len(atom) == 2:
            _turn_joints(env, atom[1], random)
    env.sim.forward()
    for atom in env.env.parsed_problem["goal_state"]:
        if len(atom) == 3:
            _put_near(env, atom[1], atom[2], random)
            env.sim.forward()
    return env.get_sim_state()


def _turn_joints(env, name: str, random: np.random.Generator) -> None:
    problem, model = env.env, env.sim.model
    site = problem.object_sites_dict.get(name)
    for joint in site.joints if site is not None else problem.get_object(name).joints:
        low, high = model.jnt_range[model.joint_name2id(joint)]
        slack = 0.05 * (high - low)
        env.sim.data.set_joint_qpos(joint, random.uniform(low - slack, high + slack))


def _put_near(env, name: str, target: str, random: np.random.Generator) -> None:
    problem, data = env.env, env.sim.data
    site = problem.object_sites_dict.get(target)
    if site is not None:
        center = np.array(data.get_site_xpos(target))
        extent = np.abs(data.get_site_xmat(target) @ np.array(site.size))
    else:
        center = np.array(data.body_xpos[problem.obj_body_id[target]])
        extent = np.array([0.02, 0.02, 0.02])
    position = center + random.uniform(-1.1, 1.1, 3) * extent + [0, 0, random.choice([0.0, 0.01, 0.03])]
    turn = random.normal(0, 1, 4) if random.random() < 0.5 else np.array([1.0, 0, 0, 0])
    movable = problem.get_object(name)
    data.set_joint_qpos(movable.joints[-1], np.concatenate([position, turn / np.linalg.norm(turn)]))


if __name__ == "__main__":
    record_tasks(record)
