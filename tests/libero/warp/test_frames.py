"""Frames for the ray tracer: where MuJoCo has geoms, cameras and lights."""

import jax
import mujoco
import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.libero.rendering.software import CAMERAS
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.indicators import read_indicators
from rlgen.libero.warp.frames import make_view, place
from rlgen.libero.warp.kinematics import make_tree, with_fixtures

compiled_place = jax.jit(place)


@pytest.fixture(scope="module")
def kitchen(placeholder_assets, cache):
    """A scene with a stove, whose indicator is lit or not, a cabinet and a rack."""
    return load_scene("libero_goal/0", placeholder_assets, cache)


def expected(scene, qpos: np.ndarray) -> mujoco.MjData:
    data = mujoco.MjData(scene.visual_model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(scene.visual_model, data)
    mujoco.mj_camlight(scene.visual_model, data)
    return data


@pytest.mark.parametrize("lit", [True, False])
def test_frames_are_mujocos_and_unlit_indicators_are_out_of_view(kitchen, lit):
    model = kitchen.visual_model
    [(indicator, address, threshold)] = read_indicators(model)
    qpos = kitchen.training_states[3, 1 : 1 + model.nq].copy()
    qpos[address] = threshold + (0.01 if lit else -0.01)
    frames = compiled_place(make_tree(kitchen), make_view(model, CAMERAS), qpos.astype(np.float32))
    data = expected(kitchen, qpos)
    shown = np.arange(model.ngeom) != (-1 if lit else indicator)
    for name in ("geom_xpos", "geom_xmat", "cam_xpos", "cam_xmat", "light_xpos", "light_xdir"):
        found, reference = np.asarray(getattr(frames, name)), getattr(data, name)
        rows = shown if name.startswith("geom") else slice(None)
        np.testing.assert_allclose(found[rows], reference.reshape(found.shape)[rows], atol=2e-6, err_msg=name)
    assert (np.asarray(frames.geom_xpos)[indicator, 2] < -100) == (not lit)


def test_fixtures_and_what_stands_in_them_are_moved_as_in_a_placed_scene(kitchen):
    poses = kitchen.draw_fixtures("redraw", 5)
    model, qpos = kitchen.visual_model, kitchen.training_states[0, 1 : 1 + kitchen.model.nq].astype(np.float32)
    view = make_view(model, CAMERAS)
    moved = compiled_place(with_fixtures(make_tree(kitchen), poses.astype(np.float32)), view, qpos)
    placed = compiled_place(make_tree(kitchen.placed(poses)), view, qpos)
    np.testing.assert_allclose(moved.geom_xpos, placed.geom_xpos, atol=1e-6)
    still = compiled_place(make_tree(kitchen), view, qpos)
    distances = np.abs(np.asarray(moved.geom_xpos) - np.asarray(still.geom_xpos)).max(axis=1)
    assert (distances > 1e-4).any() and (distances < 1e-6).any()


def test_what_cannot_be_placed_is_refused():
    following = """<mujoco><worldbody><camera name="eye" mode="targetbody" target="a" pos="1 1 1"/>
      <body name="a"><geom size=".1"/></body></worldbody></mujoco>"""
    model = mujoco.MjModel.from_xml_string(following)
    with pytest.raises(UserError, match="follows a body"):
        make_view(model, ("eye",))
    with pytest.raises(UserError, match="no camera named 'ear'"):
        make_view(model, ("ear",))
