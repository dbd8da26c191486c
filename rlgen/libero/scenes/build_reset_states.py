"""Sampling of training reset states by the benchmark's own samplers, from the BDDL regions, and samplers of fixtures.

Part of the builder (`rlgen.libero.scenes.build`): reads objects of libero and robosuite but imports neither.
"""

from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np
from jaxtyping import Float

from rlgen.core.errors import UserError

# robosuite's `initialization_noise="default"`, with which the stored states were sampled.
JOINT_NOISE = 0.02
# Metres that two objects may overlap by, and by which settling may move one that overlaps with another. Those that
# overlap by more it throws apart, up to metres away; of the 150 stored states of the three tasks in which the samplers
# do that (every tenth draw) none overlaps by more, and one has an object that settling moves further.
MAX_OVERLAP, MAX_THROW = 0.0075, 0.1
# Simulated for that, seconds.
SETTLING = 0.5
# Draws for a state, of which the one that settling moves least is taken if all are moved further.
MAX_DRAWS = 20
# Root body -> position and quaternion (w, x, y, z).
Poses = dict[str, tuple[np.ndarray, np.ndarray]]
# A state, and the same draw with the fixtures where they stood before.
Pair = tuple[Float[np.ndarray, " D"], Float[np.ndarray, " D"]]


def fixture_poses(env: Any) -> Poses:
    """Returns the poses of the fixtures after the last reset of the benchmark's `ControlEnv`, by root body."""
    model = env.sim.model._model
    poses: Poses = {}
    for fixture in env.env.fixtures_dict.values():
        body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, fixture.root_body)
        if body >= 0:  # tables and floors are part of the arena
            poses[fixture.root_body] = model.body_pos[body].copy(), model.body_quat[body].copy()
    return poses


def fixture_samplers(env: Any) -> list[dict[str, Any]]:
    """Returns the samplers of the fixtures as `rlgen.libero.scenes.fixtures.FixtureSampler` reads them, in their order.

    Raises:
      UserError: a sampler does something that none of the benchmark's tasks has.
    """
    problem, placed = env.env, fixture_poses(env)
    described = []
    for sampler in problem.placement_initializer.samplers.values():
        fixture = sampler.mujoco_objects[0]
        if fixture.name not in problem.fixtures_dict or fixture.root_body not in placed:
            continue
        plain = not (sampler.ensure_object_boundary_in_range or sampler.ensure_valid_placement)
        if not plain or hasattr(fixture, "init_quat") or sampler.rotation_axis != "z" or len(sampler.rotation) != 2:
            raise UserError(f"{fixture.name} is placed in a way that is not known; check the version of hf-libero")
        x, y, z = (float(number) for number in sampler.reference_pos)
        # In the order of the benchmark, to the last bit.
        height = float(sampler.z_offset + z)
        height -= float(fixture.bottom_offset[-1])
        rectangles = zip(sampler.x_ranges, sampler.y_ranges, strict=True)
        yaw = [float(min(sampler.rotation)), float(max(sampler.rotation))]
        ranges = [[float(number) for number in (*across, *along)] for across, along in rectangles]
        described.append({"body": fixture.root_body, "origin": [x, y, height], "ranges": ranges, "yaw": yaw})
    return described


def sample_reset_states(env: Any, count: int, seed: int) -> tuple[Float[np.ndarray, "R D"], Float[np.ndarray, "R D"]]:
    """Samples initial states (time, qpos, qvel) as resets do, not settled.

    At each reset the benchmark draws the fixtures as well, and puts by them what stands on them or lies in them.

    Args:
      env: the benchmark's `ControlEnv` after a reset.
      count: number of states.
      seed: of the samplers, which use NumPy's global generator.

    Returns:
      The states, and the same draws as they would be if the fixtures had kept their poses.
    """
    np.random.seed(seed)
    fixtures = fixture_poses(env)
    # The benchmark reads the positions of its sites before the first reset moves the fixtures, and adds to these the
    # fixtures' sampled positions.
    _set_fixtures(env, _poses_as_loaded(env, fixtures))
    try:
        drawn, kept = zip(*(_sample_apart(env, fixtures) for _ in range(count)), strict=True)
    finally:
        _set_fixtures(env, fixtures)
    return np.stack(drawn), np.stack(kept)


def _sample_apart(env: Any, fixtures: Poses) -> Pair:
    """Draws until settling throws no object that overlaps with another further than `MAX_THROW`."""
    drawn: list[tuple[float, Pair]] = []
    while len(drawn) < MAX_DRAWS and (not drawn or drawn[-1][0] > MAX_THROW):
        before = np.random.get_state()
        kept = _sample_one(env, fixtures)
        np.random.set_state(before)
        state = _sample_one(env, {})
        drawn.append((_throw(env, state), (state, kept)))
    return min(drawn, key=lambda one: one[0])[1]


def _throw(env: Any, state: Float[np.ndarray, " D"]) -> float:
    """Returns how far settling moves an object that overlaps with another, seen from above, metres.

    What overlaps by more than `MAX_OVERLAP` is not simulated and counts as thrown far away, the further the deeper.
    """
    model, data = env.sim.model._model, env.sim.data._data
    mujoco.mj_fwdPosition(model, data)
    objects = env.env.objects_dict.values()
    bodies = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, one.root_body) for one in objects]
    roots = model.body_rootid[model.geom_bodyid[data.contact.geom]]
    between = np.isin(roots, bodies).all(axis=1) & (roots[:, 0] != roots[:, 1])
    overlap = float(-data.contact.dist[between].min(initial=0.0))
    if not 0 < overlap <= MAX_OVERLAP:
        return 1000 * overlap
    x = 1 + model.jnt_qposadr[model.body_jntadr[np.unique(roots[between])]]
    moved = (_settle(env, state) - state)[np.stack([x, x + 1], axis=-1)]
    return float(np.linalg.norm(moved, axis=-1).max())


def _settle(env: Any, state: Float[np.ndarray, " D"]) -> Float[np.ndarray, " D"]:
    """Returns a state after `SETTLING` seconds in which the robot stands still."""
    model, robot = env.sim.model._model, env.robots[0]
    data = mujoco.MjData(model)
    data.qpos[:] = state[1 : 1 + model.nq]
    joints = [*robot._ref_joint_pos_indexes, *robot._ref_gripper_joint_pos_indexes]
    speeds = [*robot._ref_joint_vel_indexes, *robot._ref_gripper_joint_vel_indexes]
    for _ in range(round(SETTLING / model.opt.timestep)):
        mujoco.mj_step(model, data)
        data.qpos[joints], data.qvel[speeds] = state[1:][joints], 0.0
    return np.concatenate([[data.time], data.qpos, data.qvel])


def _sample_one(env: Any, fixtures: Poses) -> Float[np.ndarray, " D"]:
    """Samples one state; fixtures that are given stand there instead of where they are drawn."""
    problem, sim, robot = env.env, env.sim, env.robots[0]
    sim.reset()
    noise = np.random.randn(len(robot.robot_model.init_qpos)) * JOINT_NOISE
    sim.data.qpos[robot._ref_joint_pos_indexes] = robot.robot_model.init_qpos + noise
    sim.data.qpos[robot._ref_gripper_joint_pos_indexes] = robot.gripper.init_qpos
    for initializer in _unique(problem.object_property_initializers):
        problem.object_states_dict[initializer.name].set_joint(initializer.sample())
    # Samplers that put objects on or into fixtures read the positions of their sites.
    mujoco.mj_kinematics(sim.model._model, sim.data._data)
    placed = problem.placement_initializer.sample()
    for name, (_, _, body) in placed.items():
        if body.name in problem.fixtures_dict and body.root_body in fixtures:
            placed[name] = (*fixtures[body.root_body], body)
    placed = problem.conditional_placement_initializer.sample(sim, placed)
    placed = problem.conditional_placement_on_objects_initializer.sample(placed)
    for position, quaternion, body in placed.values():
        if body.name not in problem.fixtures_dict:
            sim.data.set_joint_qpos(body.joints[-1], np.concatenate([position, quaternion]))
    return np.concatenate([[0.0], sim.data.qpos, sim.data.qvel])


def _poses_as_loaded(env: Any, fixtures: Poses) -> Poses:
    """Returns the poses of the same fixtures in the model's XML."""
    bodies = {body.get("name"): body for body in ElementTree.fromstring(env.env.model.get_xml()).iter("body")}
    return {
        name: (_parse_floats(bodies[name].get("pos", "0 0 0")), _parse_floats(bodies[name].get("quat", "1 0 0 0")))
        for name in fixtures
    }


def _parse_floats(text: str) -> np.ndarray:
    return np.array([float(word) for word in text.split()])


def _set_fixtures(env: Any, poses: Poses) -> None:
    model = env.sim.model._model
    for name, (position, quaternion) in poses.items():
        body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
        model.body_pos[body], model.body_quat[body] = position, quaternion


def _unique(initializers: list[Any]) -> list[Any]:
    """Drops repeated initializers; the benchmark adds the same ones again at every reset."""
    return list({initializer.name: initializer for initializer in initializers}.values())
