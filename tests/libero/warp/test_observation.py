"""Observations in JAX against those of the CPU, in all initial states and along successful episodes."""

import dataclasses

import jax
import numpy as np
import pytest
from warp_worlds import few

from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.rollouts import make_trials, run_episodes
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.warp.kinematics import forward_kinematics
from rlgen.libero.warp.observation import make_constants, observe, to_observation


@jax.jit
def observe_all(constants, qpos, qvel):
    def one(qpos, qvel):
        return observe(constants.robot, constants.goal, forward_kinematics(constants.tree, qpos), qpos, qvel)

    return jax.vmap(one)(qpos, qvel)


def check_observations(scene, states, constants=None):
    """Compares all fields of the observations of some states; returns the vectors."""
    nq, steps = scene.model.nq, np.arange(len(states))
    constants = make_constants(scene) if constants is None else constants
    seen = observe_all(constants, states[:, 1 : 1 + nq], states[:, 1 + nq :])
    ours, theirs = to_observation(seen, states, steps), Observer(scene)(states, steps)
    size = theirs.vector.shape[1]
    np.testing.assert_allclose(ours.vector[:, :size], theirs.vector, rtol=0, atol=2e-6)
    assert not ours.vector[:, size:].any()
    for field in dataclasses.fields(theirs.robot):
        name = field.name
        np.testing.assert_allclose(
            getattr(ours.robot, name), getattr(theirs.robot, name), rtol=0, atol=2e-6, err_msg=name
        )
    for name in ("physics", "step"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    return ours.vector


@pytest.mark.parametrize("task", few(2))
def test_initial_states_look_as_on_the_cpu(task, real_assets, cache):
    """Velocities are zero in stored states, and are drawn here."""
    scene = load_scene(task, real_assets, cache)
    states = scene.stored_states.copy()
    states[:, 1 + scene.model.nq :] = np.random.default_rng(0).normal(0, 0.3, (len(states), scene.model.nv))
    check_observations(scene, states)


def test_a_padded_goal_only_adds_zeros(placeholder_scene):
    constants = make_constants(placeholder_scene, atoms=3, joints=2)
    vector = check_observations(placeholder_scene, placeholder_scene.stored_states[:3], constants)
    assert vector.shape == (3, 13 + 3 * 18)
    with pytest.raises(ValueError, match="negative"):
        make_constants(placeholder_scene, atoms=0)


def test_a_successful_episode_looks_as_on_the_cpu(placeholder_scene):
    expert, trials = ScriptedExpert(placeholder_scene, clean=True), make_trials(1, 50, seed=0)
    options = {"split": "heldout", "source": "scripted", "width": 1}
    [[episode]] = run_episodes(placeholder_scene, expert, trials, **options)
    assert episode.success
    check_observations(placeholder_scene, episode.states)
