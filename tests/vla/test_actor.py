import dataclasses

import jax
import numpy as np
import pytest
from vla.toy import CONFIG

from rlgen.core.types import Observation, RobotState
from rlgen.vla.data.normalize import NormStats, Statistics
from rlgen.vla.data.spec import InputSpec, make_pipeline
from rlgen.vla.model import pi0
from rlgen.vla.serving.actor import VlaActor, sample_chunks
from rlgen.vla.serving.policy import VlaPolicy

COUNT = 5
SIZES = dataclasses.replace(CONFIG, horizon=8, prompt_length=8)


def observe(state: np.ndarray) -> Observation:
    count = len(state)
    robot = RobotState(state[:, :3], state[:, 3:6], state[:, 6:], np.zeros((count, 7)))
    return Observation(np.zeros((count, 1)), np.zeros((count, 1)), robot, np.zeros(count, int))


@pytest.fixture(scope="module")
def policy():
    params = jax.tree.map(lambda x: 1.5 * x, pi0.init(SIZES, jax.random.key(0)))
    # Wide enough apart for the whole range of actions, so that clipping does not hide what changes.
    stats = [Statistics(*(np.full(size, x, np.float32) for x in (0, 0.1, -1, 1))) for size in (8, 7)]
    pipeline = make_pipeline(SIZES, InputSpec(), NormStats(*stats))
    return VlaPolicy(SIZES, params, pipeline, sampling_steps=2, batch=4)


@pytest.fixture(scope="module")
def scene():
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (COUNT, 2, 32, 32, 3), dtype=np.uint8)
    return random.normal(size=(COUNT, 8)), images, "pick up the butter", jax.random.key(4)


def test_actions_do_not_depend_on_how_environments_are_grouped(policy, scene):
    state, images, prompt, key = scene
    together = sample_chunks(policy, observe(state), images, prompt, key)
    assert together.shape == (COUNT, 8, 7)
    assert np.abs(together).max() <= 1 and set(np.unique(together[..., 6])) <= {-1.0, 1.0}
    other = dataclasses.replace(policy, batch=3)
    np.testing.assert_allclose(sample_chunks(other, observe(state), images, prompt, key), together, atol=1e-5)


def test_the_key_decides_the_noise(policy, scene):
    state, images, prompt, key = scene
    first, second = (sample_chunks(policy, observe(state), images, prompt, key) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.abs(sample_chunks(policy, observe(state), images, prompt, jax.random.key(5)) - first).max() > 1e-3


def test_seeds_decide_the_noise_one_by_one(policy):
    noise = policy.sample_noise([3, 9])
    np.testing.assert_array_equal(noise[1], policy.sample_noise([9])[0])
    assert np.abs(noise[0] - noise[1]).max() > 0.1


def test_prompt_state_and_both_images_matter(policy, scene):
    state, images, prompt, key = scene
    base = sample_chunks(policy, observe(state), images, prompt, key)
    other_base, other_wrist = images.copy(), images.copy()
    other_base[:, 0], other_wrist[:, 1] = 0, 0
    changed = [
        sample_chunks(policy, observe(state + 0.3), images, prompt, key),
        sample_chunks(policy, observe(state), other_base, prompt, key),
        sample_chunks(policy, observe(state), other_wrist, prompt, key),
        sample_chunks(policy, observe(state), images, "open the drawer", key),
    ]
    assert all(np.abs(x - base).max() > 1e-4 for x in changed)


class Renderers:
    """A pool whose images are those of the scene."""

    def __init__(self, images):
        self._images = images

    def render(self, physics, fixtures):
        return self._images[: len(physics)]


def test_an_actor_executes_the_beginning_of_a_chunk_and_repeats_it_for_the_same_seed(policy, scene):
    state, images, prompt, _ = scene
    actor = VlaActor(policy, prompt, Renderers(images), chunk=7)
    seeds = np.arange(COUNT)
    actor.reset(seeds)
    first, second = actor(observe(state)), actor(observe(state))
    assert first.shape == (COUNT, 7, 7) and np.abs(first - second).max() > 1e-3
    actor.reset(seeds)
    np.testing.assert_array_equal(actor(observe(state)), first)
    key = jax.random.fold_in(jax.random.PRNGKey(0), 0)
    np.testing.assert_array_equal(first, sample_chunks(policy, observe(state), images, prompt, key)[:, :7])


def test_a_chunk_beyond_the_horizon_is_refused(policy):
    with pytest.raises(ValueError, match="chunk 17"):
        VlaActor(policy, "pick up the butter", Renderers([]), chunk=17)
