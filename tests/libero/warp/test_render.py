"""The renderer `warp` against the software renderer, and its batches; on Warp's CPU device where there is no GPU."""

from types import SimpleNamespace

import mujoco
import numpy as np
import pytest
from warp_device import REASON, needs_warp

from rlgen.core.errors import UserError
from rlgen.libero.envs.image_observer import make_observe
from rlgen.libero.envs.observations import Observer
from rlgen.libero.rendering.pool import RenderPool
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.warp import render

# Without gloss, which the fast renderer does not have.
XML = """<mujoco><asset><texture name="green" type="2d" builtin="flat" width="8" height="8" rgb1=".6 .7 .5"
  colorspace="sRGB"/><material name="matte" texture="green" specular="0" shininess="0"/></asset>
  <worldbody><light pos="0 0 3"/>
  <camera name="agentview" pos="0 -1 0" xyaxes="1 0 0 0 0 1"/><geom type="box" size="1 .1 1" pos="0 1 0"
  group="1" material="matte"/><geom type="box" size=".5 .1 .5" pos="0 .5 0" group="1" rgba="0 0 1 .05"/>
  <geom type="box" size=".5 .1 .5" pos="0 .5 0" group="0" rgba="0 0 1 1"/>
  <body pos="0 0 .2"><joint type="slide" axis="1 0 0"/><geom size=".1" group="1" rgba="1 0 0 1"/>
  <camera name="robot0_eye_in_hand" pos="0 0 .5"/></body></worldbody></mujoco>"""
SECOND = """<body pos="0 0 -.3"><joint type="slide" axis="1 0 0"/><geom size=".1" group="1"
  rgba="0 0 1 1"/></body></worldbody>"""
SIZE = 24


def make_scene(xml: str = XML) -> SimpleNamespace:
    """Returns as much of a scene as rendering needs."""
    model = mujoco.MjModel.from_xml_string(xml)
    nothing = {"fixture_samplers": None, "fixtures": None, "moved_bodies": lambda fixtures: {}}
    return SimpleNamespace(model=model, visual_model=model, **nothing)


@pytest.fixture(scope="module")
def scene() -> SimpleNamespace:
    return make_scene()


@pytest.fixture(scope="module")
def states() -> np.ndarray:
    """Time, position and velocity of the ball as it moves from left to right."""
    return np.stack([np.zeros(5), np.linspace(-0.4, 0.4, 5), np.zeros(5)], axis=1)


def similarity(images: np.ndarray, others: np.ndarray) -> float:
    return np.corrcoef(images.ravel(), others.ravel())[0, 1]


@pytest.mark.skipif(REASON is None, reason="MuJoCo Warp is here")
def test_without_mujoco_warp_the_renderer_says_what_to_install(scene):
    with pytest.raises(UserError, match=r"pip install --no-deps mujoco==3"):
        RenderPool(scene, "warp")


@needs_warp
def test_images_are_upright_and_show_what_the_fast_renderer_shows(scene, states):
    with RenderPool(scene, "warp", image_size=SIZE) as pool, RenderPool(scene, image_size=SIZE) as fast:
        images, expected = pool.render(states), fast.render(states)
    assert images.shape == expected.shape and images.dtype == np.uint8
    for camera in (0, 1):
        assert similarity(images[:, camera], expected[:, camera]) > 0.9
    # The wall's texture is of sRGB, which is decoded.
    wall = (slice(None), 0, slice(-2, None))
    np.testing.assert_allclose(images[wall].mean((0, 1, 2)), expected[wall].mean((0, 1, 2)), rtol=0, atol=4)
    red = images[:, 0, :, :, 0].astype(int) - images[:, 0, :, :, 1] > 60
    columns = [np.nonzero(image)[1].mean() for image in red]
    assert (np.diff(columns) > 0).all()
    # Row 0 is the bottom, and the ball is above the middle. Geoms of group 0 and transparent ones are not seen.
    assert np.nonzero(red[2])[0].mean() > SIZE / 2
    assert (images[:, 0, :, :, 2].astype(int) - images[:, 0, :, :, 1] < 60).all()


@needs_warp
def test_an_image_does_not_depend_on_the_batch(scene, states, monkeypatch):
    with RenderPool(scene, "warp", image_size=SIZE) as pool:
        whole = pool.render(states)
        np.testing.assert_array_equal(pool.render(states[3:4])[0], whole[3])
        assert pool.render(states[:0]).shape == (0, 2, SIZE, SIZE, 3)
    monkeypatch.setattr(render, "LARGEST_BATCH", 2)
    with RenderPool(scene, "warp", image_size=SIZE) as pool:
        np.testing.assert_array_equal(pool.render(states), whole)


@needs_warp
def test_states_of_several_scenes_are_drawn_in_their_own(scene, states):
    larger = make_scene(XML.replace("</worldbody>", SECOND))
    longer = np.stack([states[:, 0], states[:, 1], -states[:, 1], states[:, 2], states[:, 2]], axis=1)
    odd = np.arange(len(states)) % 2 == 1
    mixed = np.where(odd[:, None], longer, np.pad(states, ((0, 0), (0, 2))))
    with RenderPool([scene, larger], "warp", image_size=SIZE) as pool:
        images = pool.render(mixed, odd.astype(int))
    blue = images[:, 0, :, :, 2].astype(int) - images[:, 0, :, :, 1] > 60
    assert blue.any(axis=(1, 2)).tolist() == odd.tolist()


@needs_warp
def test_observations_with_images_take_it(placeholder_scene):
    scene = placeholder_scene
    observe = make_observe([scene] * 2, SIZE, renderer="warp")
    fast = make_observe([scene] * 2, SIZE)
    observation = Observer(scene)(scene.stored_states[:2])
    images, expected = observe(observation).images, fast(observation).images
    observe.close(), fast.close()
    for camera in (0, 1):
        assert similarity(images[:, camera], expected[:, camera]) > 0.9


@needs_warp
def test_fixtures_are_drawn_where_they_stand(placeholder_assets, cache):
    scene = load_scene("libero_goal/0", placeholder_assets, cache)
    poses, states = scene.draw_fixtures("redraw", 3), scene.stored_states[:1].repeat(2, axis=0)
    with RenderPool(scene, "warp", image_size=SIZE) as pool:
        own, moved = pool.render(states, None, [None, poses])
        again = pool.render(states[:1])[0]
    with RenderPool(scene.placed(poses), "warp", image_size=SIZE) as pool:
        np.testing.assert_array_equal(pool.render(states[:1])[0], moved)
    np.testing.assert_array_equal(again, own)
    assert (own != moved).any()
