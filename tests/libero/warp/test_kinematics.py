"""Poses of all bodies and sites in JAX against MuJoCo's."""

from types import SimpleNamespace

import jax
import mujoco
import numpy as np
import pytest
from warp_worlds import few, single

from rlgen.core.errors import UserError
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.warp.kinematics import forward_kinematics, make_tree, with_fixtures

all_poses = jax.jit(jax.vmap(forward_kinematics, (None, 0)))


def check_poses(model, poses, qpos):
    data = mujoco.MjData(model)
    for row, position in enumerate(qpos):
        data.qpos[:] = position
        mujoco.mj_kinematics(model, data)
        for name in ("xpos", "xquat", "site_xpos"):
            np.testing.assert_allclose(getattr(poses, name)[row], getattr(data, name), rtol=0, atol=2e-6, err_msg=name)
        np.testing.assert_allclose(poses.site_xmat[row], data.site_xmat.reshape(-1, 3, 3), rtol=0, atol=2e-6)


@pytest.mark.parametrize("task", few(1))
def test_poses_are_mujocos(task, real_assets, cache):
    """At perturbed joints, with quaternions that are not normalized."""
    scene = load_scene(task, real_assets, cache)
    qpos = scene.stored_states[:5, 1 : 1 + scene.model.nq]
    qpos = single(qpos + np.random.default_rng(task.index).normal(0, 0.2, qpos.shape))
    check_poses(scene.model, all_poses(make_tree(scene), qpos), qpos)


def test_fixtures_stand_elsewhere_in_each_world(placeholder_assets, cache):
    scene = load_scene("libero_goal/0", placeholder_assets, cache)
    tree, qpos = make_tree(scene), scene.stored_states[:2, 1 : 1 + scene.model.nq]
    draws = [scene.draw_fixtures("redraw", seed) for seed in range(2)]
    moved = jax.jit(jax.vmap(lambda fixtures, q: forward_kinematics(with_fixtures(tree, fixtures), q)))
    found = moved(np.stack(draws), qpos)
    for row, draw in enumerate(draws):
        one = jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], found)
        check_poses(scene.placed(draw).model, one, qpos[row : row + 1])
    assert np.abs(found.xpos[0] - found.xpos[1])[scene.fixture_bodies].max() > 1e-3


CHAIN = """
<mujoco><worldbody>
  <body name="a" pos="0.1 0.2 0.3" euler="10 20 30">
    <joint type="hinge" axis="1 2 3" pos="0.1 -0.2 0.3" ref="20"/><geom size="0.1"/>
    <body pos="0.3 0 0" euler="0 40 0">
      <joint type="slide" axis="1 1 0" pos="0.2 0 0" ref="0.1"/><geom size="0.1"/>
      <body pos="0 0.1 0"><geom size="0.1"/>
        <body pos="0 0.1 0.2"><joint type="hinge" axis="0 1 1" pos="0 0.1 0"/><geom size="0.1"/>
          <site name="s" pos="0.1 0 0" euler="30 0 0"/>
        </body>
      </body>
    </body>
  </body>
  <body name="b" pos="1 2 3"><freejoint/><geom size="0.1"/><site pos="0 0.1 0"/></body>
</worldbody></mujoco>
"""


def scene_of(xml):
    """The part of a scene that the tree is made from."""
    return SimpleNamespace(model=mujoco.MjModel.from_xml_string(xml), fixture_samplers=None)


def test_anchors_and_references_of_joints_count():
    scene = scene_of(CHAIN)
    qpos = single(np.random.default_rng(0).normal(0, 1, (10, scene.model.nq)))
    check_poses(scene.model, all_poses(make_tree(scene), qpos), qpos)


@pytest.mark.parametrize(
    ("joints", "message"),
    [('<joint type="ball"/>', "ball joints"), ('<joint type="slide"/><joint axis="1 0 0"/>', "body a has several")],
)
def test_joints_that_no_task_has_are_refused(joints, message):
    xml = f'<mujoco><worldbody><body name="a">{joints}<geom size="1"/></body></worldbody></mujoco>'
    with pytest.raises(UserError, match=message):
        make_tree(scene_of(xml))
