"""Records short successes of the benchmark's own environment, for tests that compare goals with ours.

Objects of the goal are dropped from a little above their targets, parts with joints are pushed over the threshold; then
the environment's own physics runs, step by step. A program of its own:
python tests/libero/record_successes.py --assets DIR --out DIR TASK...
"""

import numpy as np
from official_programs import record_tasks

from rlgen.libero.scenes.build import official_environment
from rlgen.libero.scenes.build_goal import resolve_atom
from rlgen.libero.tasks.initial_states import read_initial_states
from rlgen.libero.tasks.suites import Task

STEPS = 30
# Metres above an object or a box, and above the top of a region (more than the height of a region of a table), from
# which objects are dropped; distance from its threshold at which a joint starts, radians or metres, and its speed.
ABOVE, REGION_HEIGHT, BEFORE, SPEED = 0.02, 0.11, 0.01, 1.5
STILL = np.array([0, 0, 0, 0, 0, 0, -1.0])


def record(task: Task) -> dict[str, np.ndarray]:
    """Returns states at the start and after each step, and success: in the running environment after each step, and of
    each state set afresh.
    """
    env = official_environment(task)
    env.set_init_state(read_initial_states(task.initial_states_file)[0])
    atoms = [resolve_atom(env, words) for words in env.env.parsed_problem["goal_state"]]
    for atom in sorted(atoms, key=lambda atom: atom["kind"] != "joint"):
        _push(env, atom) if atom["kind"] == "joint" else _drop(env, atom)
        env.sim.forward()
    start = env.get_sim_state()
    env.set_init_state(start)
    env.robots[0].controller.update(force=True)
    states, reached = [], []
    for _ in range(STEPS):
        env.env.timestep, env.env.done = 0, False
        reached.append(bool(env.step(STILL)[2]))
        states.append(env.get_sim_state())
    afresh = [_check(env, state) for state in [start, *states]]
    env.close()
    return {"states": np.stack([start, *states]), "reached": np.array(reached), "afresh": np.array(afresh)}


def _check(env, state: np.ndarray) -> bool:
    env.set_state(state)
    env.sim.forward()
    return bool(env.check_success())


def _push(env, atom: dict) -> None:
    sign = 1.0 if atom["above"] else -1.0
    for joint in atom["joints"]:
        env.sim.data.set_joint_qpos(joint, atom["threshold"] - sign * BEFORE)
        env.sim.data.set_joint_qvel(joint, sign * SPEED)


def _drop(env, atom: dict) -> None:
    problem, data = env.env, env.sim.data
    movable = problem.get_object(atom["words"][1])
    joint = movable.joints[-1]
    target = data.get_site_xpos(atom["site"]) if "site" in atom else data.get_body_xpos(atom["below"])
    height = {"stacked": ABOVE, "contain": ABOVE + max(atom.get("size", [0])), "under": REGION_HEIGHT}[atom["kind"]]
    position = np.add(target, (0, 0, height - movable.bottom_offset[2]))
    upright = data.get_joint_qpos(joint)[3:]
    data.set_joint_qpos(joint, np.concatenate([position, upright]))
    data.set_joint_qvel(joint, np.zeros(6))


if __name__ == "__main__":
    record_tasks(record)
