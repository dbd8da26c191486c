"""The world on MuJoCo Warp against the CPU's: motion, goals, resets, failures.

Kernels run on Warp's CPU device where there is no GPU.
"""

import time
from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from warp_device import needs_warp

from rlgen.core.errors import UserError
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.warp.controller import control, make_controller_constants, set_goal, start_controller
from rlgen.libero.warp.models import Room, count_room, reset_states, settle, settled_gripper
from rlgen.libero.warp.vector_env import WarpVectorEnv
from rlgen.libero.warp.world import DROPPED, WarpWorld

pytestmark = needs_warp
WORLDS, STEPS, TOLERANCE = 2, 3, 1e-5
# One task of each suite, in which nothing is touched within the steps.
SUITES = ("libero_spatial/0", "libero_object/0", "libero_goal/0", "libero_10/3", "libero_90/39")


def actions(seed: int = 0) -> np.ndarray:
    """Actions of one length for all tests, because a program is compiled for each."""
    chunk = np.clip(np.random.default_rng(seed).normal(0, 0.5, (WORLDS, STEPS, 7)), -1, 1)
    return chunk.astype(np.float32).astype(np.float64)


@pytest.fixture(scope="module")
def scene(placeholder_scene, tmp_path_factory):
    """The scene with few initial states, so that they settle at once."""
    train, stored = placeholder_scene.training_states[:6], placeholder_scene.stored_states[:2]
    folder = tmp_path_factory.mktemp("bundle")
    return replace(placeholder_scene, folder=folder, training_states=train, stored_states=stored)


@pytest.fixture(scope="module")
def env(scene):
    return WarpVectorEnv([scene] * WORLDS, horizon=5)


@pytest.fixture(scope="module")
def exact(scene):
    env = VectorEnv([scene] * WORLDS, physics="exact", horizon=5)
    yield env
    env.close()


def test_three_control_steps_are_those_of_the_exact_kernel(scene, env, exact):
    states = scene.training_states[:WORLDS]
    start, expected = env.reset(states), exact.reset(states)
    np.testing.assert_allclose(start.vector, expected.vector, atol=2e-6)
    found, reference = env.step(actions()), exact.step(actions())
    nq = scene.model.nq
    assert np.abs(found.states[:, :, 1 : 1 + nq] - reference.states[:, :, 1 : 1 + nq]).max() <= TOLERANCE
    # The arm has moved by a thousand times that.
    assert np.abs(found.states[:, -1, 1:8] - start.physics[:, 1:8]).max() > 1e-2
    np.testing.assert_allclose(found.states[:, :, 0], reference.states[:, :, 0], rtol=1e-6)
    np.testing.assert_allclose(found.observation.vector, reference.observation.vector, atol=1e-4)
    np.testing.assert_allclose(found.observation.robot.axis_angle, reference.observation.robot.axis_angle, atol=1e-4)
    assert not (found.failed | found.terminated | found.truncated).any() and (found.control_steps == STEPS).all()
    assert (found.observation.step == STEPS).all() and env.failures == []


def test_a_horizon_ends_an_episode_and_only_worlds_that_ended_are_reset(scene, env, exact):
    for vector in (env, exact):
        vector.reset(scene.training_states[:WORLDS])
        vector.step(actions(1), active=np.array([True, False]))
    found, reference = (vector.step(actions(2), reset_states=scene.training_states[4:6]) for vector in (env, exact))
    for name in ("terminated", "truncated", "failed", "control_steps", "reward"):
        np.testing.assert_array_equal(getattr(found, name), getattr(reference, name), err_msg=name)
    assert found.truncated.tolist() == [True, False] and found.control_steps.tolist() == [2, 3]
    assert found.final_observation.step.tolist() == [5, 3] and found.observation.step.tolist() == [0, 3]
    assert not found.states[0, 2:].any()
    nq = scene.model.nq
    for name in ("final_observation", "observation"):
        ours, theirs = getattr(found, name).physics, getattr(reference, name).physics
        np.testing.assert_allclose(ours[:, : 1 + nq], theirs[:, : 1 + nq], atol=TOLERANCE, err_msg=name)


def test_an_inactive_world_stays_where_it_is(scene, env):
    before = env.reset(scene.training_states[:WORLDS]).physics
    result = env.step(actions(), active=np.array([False, True]))
    assert result.control_steps.tolist() == [0, STEPS] and not result.states[0].any()
    np.testing.assert_array_equal(result.observation.physics[0], before[0])
    assert np.abs(result.observation.physics[1] - before[1]).max() > 1e-3


def test_a_state_that_is_not_the_scenes_own_is_settled_first(scene, env, exact):
    states = scene.training_states[:WORLDS].copy()
    states[:, 1 : 1 + 7] += 0.01  # the arm
    np.testing.assert_allclose(env.reset(states).vector, exact.reset(states).vector, atol=2e-6)


def test_a_goal_ends_the_episode_with_a_reward(scene, env):
    goal = scene.goal
    states = reset_states(scene).train[:WORLDS].astype(np.float32)
    data = mujoco.MjData(scene.model)
    data.qpos[:] = states[1, 1 : 1 + scene.model.nq]
    mujoco.mj_kinematics(scene.model, data)
    address = scene.model.jnt_qposadr[scene.model.body_jntadr[goal.bodies[0]]]
    states[1, 1 + address : 4 + address] = data.site_xpos[goal.targets[0]]
    env._state, _ = env._reset(jnp.asarray(states))
    result = env.step(np.zeros((WORLDS, STEPS, 7)))
    assert result.reward.tolist() == [0.0, 1.0] and result.terminated.tolist() == [False, True]
    assert result.control_steps.tolist() == [STEPS, 1] and not result.states[1, 1:].any()
    assert not result.failed.any() and not result.truncated.any()


def test_a_world_that_becomes_infinite_fails_alone(scene, env):
    env.reset(scene.training_states[:WORLDS])
    alone = env.step(actions()).states[1]
    env.reset(scene.training_states[:WORLDS])
    env._state = env._state.replace(data=env._state.data.replace(qvel=env._state.data.qvel.at[0].set(jnp.nan)))
    result = env.step(actions(), reset_states=scene.training_states[2:4])
    assert result.failed.tolist() == [True, False] == result.truncated.tolist()
    assert result.control_steps.tolist() == [0, STEPS] and not result.states[0].any()
    np.testing.assert_allclose(result.states[1], alone, atol=1e-6)
    assert np.isfinite(result.observation.vector).all() and "infinite" in env.failures[-1]
    fresh = env.reset(scene.training_states[[2, 1]]).physics
    np.testing.assert_array_equal(result.observation.physics[0], fresh[0])


def test_a_world_whose_buffers_overflow_fails(scene):
    small = WarpVectorEnv([scene] * WORLDS, room=Room(contacts=64, constraints=16))
    small.reset(scene.training_states[:WORLDS])
    result = small.step(actions())
    assert result.failed.all() and result.truncated.all() and not result.states.any()
    assert "overflowed" in small.failures[0] and int(small._state.overflow[0]) & DROPPED


def test_what_it_does_not_do_is_refused(scene, env, other_scene):
    with pytest.raises(UserError, match="several tasks"):
        WarpVectorEnv([scene, other_scene])
    with pytest.raises(UserError, match="fixtures"):
        env.reset(scene.training_states[:WORLDS], [np.zeros((1, 7)), None])
    with pytest.raises(UserError, match="2 parts"):
        env.split(2)
    with pytest.raises(UserError, match="without sleep"):
        WarpWorld(scene, WORLDS, awake=9)
    with pytest.raises(ValueError, match=r"environments \[0, 1\]"):
        env.step(np.full((WORLDS, 1, 7), np.nan))


def test_resting_objects_start_asleep_and_leave_the_arm_as_it_is(scene, exact):
    nq, robot = scene.model.nq, 9
    world = WarpWorld(scene, WORLDS, sleep=True, awake=robot + 12)
    settled = jnp.asarray(reset_states(scene).train[:WORLDS], jnp.float32)
    start, _ = jax.jit(world.reset)(settled)
    chunk = actions(3)
    after, step = jax.jit(world.step)(start, jnp.asarray(chunk[:, 0], jnp.float32))
    assert not np.asarray(step.failed).any()
    for state in (start, after):
        asleep = np.asarray(state.data._impl.tree_asleep) >= 0
        assert asleep.sum(1).tolist() == [scene.model.ntree - 1] * WORLDS
    # But for the length of quaternions, in the last digit.
    np.testing.assert_allclose(after.data.qpos[:, robot:nq], start.data.qpos[:, robot:nq], rtol=0, atol=2e-7)
    exact.reset(scene.training_states[:WORLDS])
    reference = exact.step(chunk[:, :1]).states[:, 0, 1 : 1 + robot]
    assert np.abs(np.asarray(after.data.qpos)[:, :robot] - reference).max() <= TOLERANCE
    assert np.abs(reference - np.asarray(start.data.qpos)[:, :robot]).max() > 1e-3


def move_in_mujoco(scene, start, actions):
    """Returns qpos after each control step by MuJoCo itself and the controller in JAX, and the geoms that touched.

    Args:
      scene: the task's scene.
      start: qpos and qvel, settled.
      actions: `[STEPS, 7]`.
    """
    model, constants, data = scene.model, make_controller_constants(scene), mujoco.MjData(scene.model)
    data.qpos[:], data.qvel[:] = np.split(start, [model.nq])
    goal_of_step, substep = jax.jit(set_goal), jax.jit(control)
    state = start_controller(constants).replace(gripper=jnp.asarray(settled_gripper(scene), jnp.float32))
    path, touching = [], []
    for action in actions:
        state = goal_of_step(constants, state, data.qpos.copy(), action)
        for _ in range(constants.substeps):
            state, data.ctrl[:] = substep(constants, state, data.qpos.copy(), data.qvel.copy())
            mujoco.mj_step(model, data)
            touching.append({tuple(sorted(pair)) for pair in np.reshape(data.contact.geom, (-1, 2)).tolist()})
        path.append(data.qpos.copy())
    return np.stack(path), touching


@pytest.mark.slow
@pytest.mark.parametrize("name", SUITES)
def test_a_task_of_each_suite_moves_as_on_the_cpu(name, real_assets, cache, record_property):
    """As the compiled control step, and as MuJoCo of the same version with the controller of this room."""
    scene = load_scene(name, real_assets, cache)
    states, nq, chunk = scene.training_states[:WORLDS], scene.model.nq, actions()
    env = VectorEnv([scene] * WORLDS, physics="exact")
    env.reset(states)
    exact = env.step(chunk).states[:, :, 1 : 1 + nq]
    env.close()
    settled = settle(scene, states)
    paths = [move_in_mujoco(scene, start[1:], taken) for start, taken in zip(settled, chunk, strict=True)]
    world = WarpWorld(scene, WORLDS, room=count_room(scene, states).with_head_room())
    state, _ = world.reset(jnp.asarray(settled))
    step, began, found = jax.jit(world.step), time.process_time(), []
    for k in range(STEPS):
        state, outcome = step(state, jnp.asarray(chunk[:, k], jnp.float32))
        found.append(np.asarray(state.data.qpos))
        if k == 0:
            record_property("processor seconds of the first step, all compiled", round(time.process_time() - began, 1))
    assert not outcome.failed.any()
    found = np.stack(found, axis=1)
    for reference, expected in {"the exact kernel": exact, "MuJoCo": np.stack([path for path, _ in paths])}.items():
        apart = np.abs(found - expected)
        record_property(f"largest difference from {reference} after each control step", apart.max((0, 2)).tolist())
        assert apart.max() <= TOLERANCE
    worst = np.flatnonzero(scene.model.jnt_qposadr <= apart.max((0, 1)).argmax())[-1]
    record_property("joint with the largest", scene.model.joint(int(worst)).name)
    assert all(one == other for _, seen in paths for one, other in pairwise(seen)), "other geoms touch"
    # The arm has moved by a thousand times that.
    assert np.abs(found[:, -1, :7] - settled[:, 1:8]).max() > 1e-2
