"""Rendering of recorded states: the same for any number of workers, and refused when it cannot be right."""

from types import SimpleNamespace

import mujoco
import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.libero.rendering.opengl import OpenGLRenderer, find_gl
from rlgen.libero.rendering.pool import RenderPool
from rlgen.libero.rendering.software import SoftwareRenderer

XML = """<mujoco><worldbody><light pos="0 0 3"/>
  <camera name="agentview" pos="0 -1 0" xyaxes="1 0 0 0 0 1"/><geom type="box" size="1 .1 1" pos="0 1 0"
  group="1" rgba=".3 .5 .2 1"/>
  <body><joint type="slide" axis="1 0 0"/><geom size=".1" group="1" rgba="1 0 0 1"/>
  <camera name="robot0_eye_in_hand" pos="0 0 .5"/></body></worldbody></mujoco>"""
SECOND_BALL = """<body pos="0 0 .3"><joint type="slide" axis="1 0 0"/><geom size=".1" group="1"
  rgba="0 0 1 1"/></body></worldbody>"""


def make_scene(model: mujoco.MjModel) -> SimpleNamespace:
    """Returns as much of a scene as rendering needs."""
    return SimpleNamespace(visual_model=model, moved_bodies=lambda fixtures: {})


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(XML)


@pytest.fixture(scope="module")
def scene(model) -> SimpleNamespace:
    return make_scene(model)


@pytest.fixture(scope="module")
def states() -> np.ndarray:
    """Time, position and velocity of the ball as it moves from left to right."""
    count = 41
    return np.stack([np.arange(count) / 20, np.linspace(-0.4, 0.4, count), np.ones(count)], axis=1)


def test_images_follow_the_states_for_any_number_of_workers(model, scene, states):
    renderer = SoftwareRenderer(model, image_size=32)
    expected = np.stack([renderer.render(state[1:2]) for state in states])
    for workers in (1, 3):
        with RenderPool(scene, image_size=32, workers=workers) as pool:
            assert np.array_equal(pool.render(states), expected)
    red = expected[:, 0, :, :, 0].astype(int) - expected[:, 0, :, :, 1] > 60
    columns = [np.nonzero(image)[1].mean() for image in red]
    assert (np.diff(columns) > 0).all()


def test_a_pool_renders_one_episode_after_the_other(scene, states):
    with RenderPool(scene, image_size=16, workers=2) as pool:
        rendered = [pool.render(states), pool.render(states[:5])]
    assert [len(images) for images in rendered] == [41, 5]
    assert np.array_equal(rendered[0][:5], rendered[1])


def test_states_of_several_scenes_are_rendered_in_their_own(model, scene, states):
    larger = make_scene(mujoco.MjModel.from_xml_string(XML.replace("</worldbody>", SECOND_BALL)))
    longer = np.stack([states[:, 0], states[:, 1], -states[:, 1], states[:, 2], states[:, 2]], axis=1)
    mixed = np.where(np.arange(len(states))[:, None] % 3 == 1, longer, np.pad(states, ((0, 0), (0, 2))))
    with RenderPool([scene, larger, scene], image_size=16, workers=2) as pool:
        images = pool.render(mixed, np.arange(len(states)) % 3)
    with RenderPool(scene, image_size=16) as first, RenderPool(larger, image_size=16) as second:
        expected = first.render(states)
        expected[1::3] = second.render(longer[1::3])
        assert not np.array_equal(first.render(states[1::3]), expected[1::3])
    assert np.array_equal(images, expected)


def test_what_cannot_be_rendered_is_refused(scene, states):
    with RenderPool(scene, image_size=16) as pool:
        for wrong in (states[:, :2], states[0], np.zeros((3, 9))):
            with pytest.raises(UserError, match="rows of 3 numbers"):
                pool.render(wrong)
        assert pool.render(states[:0]).shape == (0, 2, 16, 16, 3)
    with pytest.raises(UserError, match="fast, benchmark or warp"):
        RenderPool(scene, "pretty")
    with pytest.raises(UserError, match="at least 1"):
        RenderPool(scene, workers=0)


def test_an_error_while_rendering_reaches_the_caller(scene, states, monkeypatch):
    def fail(self, qpos, moved):
        raise RuntimeError("lens cap on")

    monkeypatch.setattr(SoftwareRenderer, "render", fail)
    with RenderPool(scene, image_size=16, workers=2) as pool, pytest.raises(RuntimeError, match="lens cap"):
        pool.render(states)


def test_the_benchmark_renderer_gives_the_same_images_in_threads(model, scene, states):
    if find_gl() == "none":
        with pytest.raises(UserError, match="needs a GL library"):
            RenderPool(scene, "benchmark")
        return
    with OpenGLRenderer(model, image_size=32) as renderer:
        expected = np.stack([renderer.render(state[1:2]) for state in states[:20]])
    for workers in (1, 2):
        with RenderPool(scene, "benchmark", image_size=32, workers=workers) as pool:
            assert np.array_equal(pool.render(states[:20]), expected)
