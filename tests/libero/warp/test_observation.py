"""Observations in JAX against those of the CPU, in all initial states and along successful episodes."""

import dataclasses

import jax
import numpy as np
import pytest
from warp_worlds import FEW, few, scripted_success

from rlgen.libero.envs.observations import Observer
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.warp.kinematics import forward_kinematics
from rlgen.libero.warp.observation import make_constants, observe, to_observation

TOLERANCE = 2e-6


@jax.jit
def observe_all(constants, qpos, qvel):
    def one(qpos, qvel):
        return observe(constants, forward_kinematics(constants.tree, qpos), qpos, qvel)

    return jax.vmap(one)(qpos, qvel)


def check_observations(scene, states, constants=None):
    """Compares all fields of the observations of some states; returns the vectors, and how far they are apart."""
    nq, steps = scene.model.nq, np.arange(len(states))
    constants = make_constants(scene) if constants is None else constants
    seen = observe_all(constants, states[:, 1 : 1 + nq], states[:, 1 + nq :])
    ours, theirs = to_observation(seen, states, steps), Observer(scene)(states, steps)
    size = theirs.vector.shape[1]
    apart = np.abs(ours.vector[:, :size] - theirs.vector)
    assert apart.max() <= TOLERANCE
    assert not ours.vector[:, size:].any()
    for field in dataclasses.fields(theirs.robot):
        name = field.name
        np.testing.assert_allclose(
            getattr(ours.robot, name), getattr(theirs.robot, name), rtol=0, atol=TOLERANCE, err_msg=name
        )
    for name in ("physics", "step"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    return ours.vector, float(apart.max())


@pytest.mark.parametrize("task", few(2))
def test_initial_states_look_as_on_the_cpu(task, real_assets, cache, record_property):
    """Velocities are zero in stored states, and are drawn here."""
    scene = dataclasses.replace(load_scene(task, real_assets, cache), observed="all")
    states = scene.stored_states.copy()
    states[:, 1 + scene.model.nq :] = np.random.default_rng(0).normal(0, 0.3, (len(states), scene.model.nv))
    _, apart = check_observations(scene, states)
    record_property("initial states", len(states))
    record_property("largest difference", apart)


def test_a_padded_goal_only_adds_zeros(placeholder_scene):
    constants = make_constants(placeholder_scene, atoms=3, joints=2)
    vector, _ = check_observations(placeholder_scene, placeholder_scene.stored_states[:3], constants)
    assert vector.shape == (3, 13 + 3 * 18)
    with pytest.raises(ValueError, match="negative"):
        make_constants(placeholder_scene, atoms=0)


def test_a_successful_episode_looks_as_on_the_cpu(placeholder_scene):
    scene = dataclasses.replace(placeholder_scene, observed="all")
    check_observations(scene, scripted_success(placeholder_scene).states)


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_successes_of_every_kind_of_goal_look_as_on_the_cpu(name, real_assets, cache, record_property):
    scene = load_scene(name, real_assets, cache)
    _, apart = check_observations(scene, scripted_success(scene).states)
    record_property("largest difference", apart)
