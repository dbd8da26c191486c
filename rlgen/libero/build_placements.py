"""Fresh initial states, drawn by the benchmark's own samplers from the BDDL regions.

Part of the builder (`rlgen.libero.build`): it reads objects of libero and robosuite but imports neither.
"""

from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float

# robosuite's `initialization_noise="default"`, with which the stored states were drawn.
JOINT_NOISE = 0.02


def fixture_poses(env: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Where the last reset put the fixtures: root body -> position and quaternion (w, x, y, z)."""
    model = env.sim.model._model
    poses = {}
    for fixture in env.env.fixtures_dict.values():
        body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, fixture.root_body)
        if body >= 0:  # tables and floors are part of the arena
            poses[fixture.root_body] = model.body_pos[body].copy(), model.body_quat[body].copy()
    return poses


def sample_placements(env: Any, count: int, seed: int) -> Float[np.ndarray, "P D"]:
    """Initial states as a reset draws them, not settled; the fixtures stay where they are.

    Args:
      env: the benchmark's `ControlEnv` after a reset.
      count: states.
      seed: of the samplers, which draw from NumPy's global generator.
    """
    np.random.seed(seed)
    return np.stack([_sample_one(env) for _ in range(count)])


def _sample_one(env: Any) -> Float[np.ndarray, " D"]:
    problem, sim, robot = env.env, env.sim, env.robots[0]
    sim.reset()
    noise = np.random.randn(len(robot.robot_model.init_qpos)) * JOINT_NOISE
    sim.data.qpos[robot._ref_joint_pos_indexes] = robot.robot_model.init_qpos + noise
    sim.data.qpos[robot._ref_gripper_joint_pos_indexes] = robot.gripper.init_qpos
    for initializer in _unique(problem.object_property_initializers):
        problem.object_states_dict[initializer.name].set_joint(initializer.sample())
    # Samplers that put objects on or into fixtures look at their sites.
    mujoco.mj_kinematics(sim.model._model, sim.data._data)
    placed = problem.placement_initializer.sample()
    placed = problem.conditional_placement_initializer.sample(sim, placed)
    placed = problem.conditional_placement_on_objects_initializer.sample(placed)
    for position, quaternion, body in placed.values():
        if body.name not in problem.fixtures_dict:
            sim.data.set_joint_qpos(body.joints[-1], np.concatenate([position, quaternion]))
    return np.concatenate([[0.0], sim.data.qpos, sim.data.qvel])


def _unique(initializers: list[Any]) -> list[Any]:
    """The benchmark adds the same ones again at every reset."""
    return list({initializer.name: initializer for initializer in initializers}.values())
