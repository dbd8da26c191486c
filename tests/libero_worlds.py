"""Worlds of the benchmark: settled, checked, and moved into states that satisfy a goal."""

from collections.abc import Iterator
from itertools import product
from types import SimpleNamespace

import mujoco
import numpy as np

from rlgen.libero.envs.reset_check import unmet_reset_conditions
from rlgen.libero.scenes.build_goal import goal_atoms, reset_condition_atoms
from rlgen.libero.scenes.goals import compile_goal

ARM = slice(0, 9)  # the robot's joints come first in qpos and in qvel

# Where joints are put for a goal: inside what counts as open, closed, on and off.
SETTINGS = {
    "open": {"slide": -0.15, "hinge": -1.7},
    "close": {"slide": 0.005, "hinge": 0.0},
    "turnon": 1.0,
    "turnoff": -0.003,
}

# Poses in which an object is put down: as at the start, upright, or on either side, each rotated by quarters.
ABOUT_X = (None, 0.0, 90.0, -90.0)
YAWS = (0.0, 90.0, 180.0, 270.0)
# Distances along x, metres, of two objects with one target, where they cannot lie on each other.
SPREADS = (0.0, 0.09)
OFFSETS = ((0.0, 0.0), (0.03, 0.0), (-0.03, 0.0), (0.0, 0.03), (0.0, -0.03))


def place(model: mujoco.MjModel, state: np.ndarray) -> mujoco.MjData:
    """Returns the world at a stored state."""
    data = mujoco.MjData(model)
    data.time, data.qpos, data.qvel = state[0], state[1 : 1 + model.nq], state[1 + model.nq :]
    mujoco.mj_forward(model, data)
    return data


def rest(model: mujoco.MjModel, data: mujoco.MjData, steps: int) -> mujoco.MjData:
    """Lets objects settle while the robot is held in place."""
    held = data.qpos[ARM].copy()
    for _ in range(steps):
        data.qpos[ARM], data.qvel[ARM] = held, 0.0
        mujoco.mj_step(model, data)
    mujoco.mj_forward(model, data)
    return data


def succeeds(env, data: mujoco.MjData) -> bool:
    """Returns whether the benchmark itself counts a state as a success, contacts included."""
    env.sim.set_state_from_flattened(np.concatenate([[data.time], data.qpos, data.qvel]))
    env.sim.forward()
    return bool(env.check_success())


def unmet_conditions(env, state: np.ndarray, settled: mujoco.MjData) -> tuple[str, ...]:
    """Returns the reset conditions that do not hold once a stored state has settled."""
    model = env.sim.model._model
    # The part of a scene that the check reads.
    scene = SimpleNamespace(model=model, reset_conditions=compile_goal(model, reset_condition_atoms(env)))
    after = np.concatenate([[settled.time], settled.qpos, settled.qvel])
    return unmet_reset_conditions(scene, state[None], after[None]).get(0, ())


def solve(env, start: mujoco.MjData) -> bool:
    """Returns whether the goal's objects can be put in a state that satisfies the goal for a second."""
    model = env.sim.model._model
    arrangements = _arrangements(model, start, goal_atoms(env))
    # Also checked early, because most arrangements that fail do so at once.
    return any(all(succeeds(env, rest(model, data, steps)) for steps in (100, 150, 250)) for data in arrangements)


# Joints first, because a drawer's region moves with it; stacked objects last, because those below move as well.
ORDER = ("joint", "contain", "under", "stacked")


def _arrangements(model: mujoco.MjModel, start: mujoco.MjData, atoms: list[dict]) -> Iterator[mujoco.MjData]:
    atoms = sorted(atoms, key=lambda atom: ORDER.index(atom["kind"]))
    spots = [atom.get("site", atom.get("below")) for atom in atoms]
    crowded = any(spots.count(spot) > 1 for spot in spots if spot)
    for spread, offset, about_x, yaw in product(SPREADS if crowded else SPREADS[:1], OFFSETS, ABOUT_X, YAWS):
        data = mujoco.MjData(model)
        data.qpos[:] = start.qpos
        for index, atom in enumerate(atoms):
            mujoco.mj_forward(model, data)
            if atom["kind"] == "joint":
                _set_joints(model, data, atom)
            else:
                share = spread * (spots[:index].count(spots[index]) - 0.5)
                _put(model, data, atom, about_x, yaw, (offset[0] + share, offset[1]))
        yield data


def _set_joints(model: mujoco.MjModel, data: mujoco.MjData, atom: dict) -> None:
    value = SETTINGS[atom["words"][0].lower()]
    for name in atom["joints"]:
        joint = model.joint(name)
        kind = "slide" if joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE else "hinge"
        data.qpos[joint.qposadr[0]] = value[kind] if isinstance(value, dict) else value


def _put(model: mujoco.MjModel, data: mujoco.MjData, atom: dict, about_x, yaw: float, offset) -> None:
    """Puts a body a millimetre above what is below the middle of a region or of another body."""
    body = model.body(atom["body"]).id
    address = model.jnt_qposadr[model.body_jntadr[body]]
    turn = np.zeros(4)
    mujoco.mju_mulQuat(turn, quaternion("z", yaw), data.qpos[address + 3 : address + 7])
    if about_x is not None:
        mujoco.mju_mulQuat(turn, quaternion("z", yaw), quaternion("x", about_x))
    if "site" in atom:
        x, y, z = data.site(atom["site"]).xpos
        z += 0.0 if atom["kind"] == "contain" else 0.03
    else:
        x, y, z = data.body(atom["below"]).xpos
        z += 0.2
    above = np.array([x + offset[0], y + offset[1], z])
    hit = np.zeros(1, np.int32)
    groups = np.array([1, 0, 0, 0, 0, 0], np.uint8)
    down = mujoco.mj_ray(model, data, above, np.array([0.0, 0.0, -1.0]), groups, 1, body, hit)
    surface = above[2] - max(down, 0.0)
    data.qpos[address : address + 3] = *above[:2], surface + 0.001 - lowest(model, body, turn)
    data.qpos[address + 3 : address + 7] = turn


def quaternion(axis: str, degrees: float) -> np.ndarray:
    half = np.radians(degrees) / 2
    return np.array([np.cos(half), *(np.sin(half) * (axis == other) for other in "xyz")])


def lowest(model: mujoco.MjModel, body: int, turn: np.ndarray) -> float:
    """Returns the height of a rotated body's lowest point relative to its origin, metres, negative."""
    frame, low = np.zeros(9), np.inf
    mujoco.mju_quat2Mat(frame, turn)
    frame = frame.reshape(3, 3)
    for index in np.flatnonzero((model.body_rootid[model.geom_bodyid] == body) & (model.geom_contype > 0)):
        own = np.zeros(9)
        mujoco.mju_quat2Mat(own, model.geom_quat[index])
        reach = np.abs(frame @ own.reshape(3, 3)) @ model.geom_size[index]
        low = min(low, (frame @ model.geom_pos[index])[2] - reach[2])
    return low
