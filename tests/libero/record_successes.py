"""Records short successes of the benchmark's own environment, for the tests that compare goals with ours.

Objects of the goal are let go a little above where they belong, parts with joints are pushed over the threshold; what
follows is the environment's own physics, step by step. A program of its own:
python tests/libero/record_successes.py --assets DIR --out DIR TASK...
"""

import numpy as np
from official_programs import record_tasks

from rlgen.libero.scenes.build import official_environment
from rlgen.libero.scenes.build_goal import resolve_atom
from rlgen.libero.tasks.initial_states import read_initial_states
from rlgen.libero.tasks.suites import Task

STEPS = 30
# Metres that an object is let go from above what it shall lie on, above the top of a region, and more than a region of
# a table reaches; how far before its threshold a joint starts, in radians or metres, and how fast.
ABOVE, REGION_HEIGHT, BEFORE, SPEED = 0.02, 0.11, 0.01, 1.5
STILL = np.array([0, 0, 0, 0, 0, 0, -1.0])


def record(task: Task) -> dict[str, np.ndarray]:
    """The state at the start and after each step, whether the running environment was at its goal after each step,
    and whether every one of the states is when it is looked at afresh.
    """
    env = official_environment(task)
    env.set_init_state(read_initial_states(task.initial_states_file)[0])
    atoms = [resolve_atom(env, words) for words in env.env.parsed_problem["goal_state"]]
    for atom in sorted(atoms, key=lambda atom: atom["kind"] != "joint"):
        _push(env, atom) if atom["kind"] == "joint" else _let_go(env, atom)
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


def _let_go(env, atom: dict) -> None:
    problem, data = env.env, env.sim.data
    thing = problem.get_object(atom["words"][1])
    joint = thing.joints[-1]
    place = data.get_site_xpos(atom["site"]) if "site" in atom else data.get_body_xpos(atom["below"])
    height = {"stacked": ABOVE, "contain": ABOVE + max(atom.get("size", [0])), "under": REGION_HEIGHT}[atom["kind"]]
    position = np.add(place, (0, 0, height - thing.bottom_offset[2]))
    upright = data.get_joint_qpos(joint)[3:]
    data.set_joint_qpos(joint, np.concatenate([position, upright]))
    data.set_joint_qvel(joint, np.zeros(6))


if __name__ == "__main__":
    record_tasks(record)
