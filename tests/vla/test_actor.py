import dataclasses

import jax
import numpy as np
import pytest

from rlgen.types import Observation, RobotState
from rlgen.vla import model
from rlgen.vla.actor import VlaActor
from rlgen.vla.presets import tiny
from rlgen.vla.transforms import NormStats, Statistics

CONFIG = dataclasses.replace(tiny(), image_size=64, unroll=False)
COUNT = 5


def observe(state: np.ndarray) -> Observation:
    count = len(state)
    robot = RobotState(state[:, :3], state[:, 3:6], state[:, 6:], np.zeros((count, 7)))
    return Observation(np.zeros((count, 1)), np.zeros((count, 1)), robot, np.zeros(count, int))


@pytest.fixture(scope="module")
def actor():
    params = jax.tree.map(lambda x: 1.5 * x, model.init(CONFIG, jax.random.key(0)))
    # Wide enough apart for the whole range of actions, so that clipping does not hide what changes.
    stats = Statistics(*(np.full(8, x, np.float32) for x in (0, 0.1, -1, 1)))
    return VlaActor(CONFIG, params, NormStats(stats, stats), chunk=8, steps=2, batch=4)


@pytest.fixture(scope="module")
def scene():
    random = np.random.default_rng(0)
    pictures = random.integers(0, 255, (COUNT, 2, 64, 64, 3), dtype=np.uint8)
    return random.normal(size=(COUNT, 8)), pictures, "pick up the butter", jax.random.key(4)


def test_actions_do_not_depend_on_how_environments_are_grouped(actor, scene):
    state, pictures, prompt, key = scene
    together = actor(observe(state), pictures, prompt, key)
    assert together.shape == (COUNT, 8, 7)
    assert np.abs(together).max() <= 1 and set(np.unique(together[..., 6])) <= {-1.0, 1.0}
    reversed_noise = np.asarray(jax.random.normal(key, (COUNT, CONFIG.horizon, CONFIG.action_size)))[::-1]
    backwards = actor.act(pictures[::-1][:4], state[::-1][:4].astype(np.float32), prompt, reversed_noise[:4])
    np.testing.assert_allclose(backwards, together[::-1][:4], atol=1e-5)


def test_the_key_decides_the_noise(actor, scene):
    state, pictures, prompt, key = scene
    first, second = (actor(observe(state), pictures, prompt, key) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.abs(actor(observe(state), pictures, prompt, jax.random.key(5)) - first).max() > 1e-3


def test_pictures_are_turned_upright_and_cameras_keep_their_order(actor, scene, monkeypatch):
    state, pictures, prompt, key = scene
    seen = {}

    def spy(config, stats, named, *rest):
        seen.update(named)
        raise InterruptedError

    monkeypatch.setattr("rlgen.vla.actor.model_inputs", spy)
    with pytest.raises(InterruptedError):
        actor(observe(state), pictures, prompt, key)
    np.testing.assert_array_equal(seen["base_0_rgb"][1], pictures[1, 0, ::-1, ::-1])
    np.testing.assert_array_equal(seen["left_wrist_0_rgb"][1], pictures[1, 1, ::-1, ::-1])


def test_prompt_state_and_both_pictures_matter(actor, scene):
    state, pictures, prompt, key = scene
    base = actor(observe(state), pictures, prompt, key)
    other_state = state + 0.3
    other_base, other_wrist = pictures.copy(), pictures.copy()
    other_base[:, 0], other_wrist[:, 1] = 0, 0
    changed = [
        actor(observe(other_state), pictures, prompt, key),
        actor(observe(state), other_base, prompt, key),
        actor(observe(state), other_wrist, prompt, key),
        actor(observe(state), pictures, "open the drawer", key),
    ]
    assert all(np.abs(x - base).max() > 1e-4 for x in changed)


def test_a_chunk_beyond_the_horizon_is_refused(actor):
    with pytest.raises(ValueError, match="chunk 17"):
        dataclasses.replace(actor, chunk=17)
