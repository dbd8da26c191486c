"""Premises: that states which are what their task says pass, and those that are not are named."""

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rlgen.libero.envs.reset_check import check_reset_states, unmet_reset_conditions
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.scenes.bundles import load_scene


@pytest.fixture(scope="module")
def settled(real_scene):
    return VectorEnv([real_scene] * 4, physics="exact").reset(real_scene.stored_states[:4]).physics


def joint_of(scene, name):
    """Address in a state of an object's position and quaternion."""
    body = scene.object_bodies[scene.object_names.index(name)]
    return 1 + scene.model.jnt_qposadr[scene.model.body_jntadr[body]]


def test_what_stands_where_it_was_put_is_what_the_task_says(real_scene, settled):
    assert len(real_scene.reset_conditions.atoms) == 7
    assert unmet_reset_conditions(real_scene, real_scene.stored_states[:4], settled) == {}


def test_what_fell_over_or_slid_away_is_named(real_scene, settled):
    changed, butter = settled.copy(), joint_of(real_scene, "butter_1")
    juice = joint_of(real_scene, "orange_juice_1")
    pose = Rotation.from_quat(np.roll(changed[1, juice + 3 : juice + 7], -1))
    changed[1, juice + 3 : juice + 7] = np.roll((Rotation.from_euler("x", 15, degrees=True) * pose).as_quat(), 1)
    changed[3, butter] += 0.06
    spun = Rotation.from_euler("z", 90, degrees=True) * pose
    changed[2, juice + 3 : juice + 7] = np.roll(spun.as_quat(), 1)
    broken = unmet_reset_conditions(real_scene, real_scene.stored_states[:4], changed)
    assert sorted(broken) == [1, 3]
    assert [atom.split()[1] for atom in broken[1]] == ["orange_juice_1"]
    assert [atom.split()[1] for atom in broken[3]] == ["butter_1"]


def test_every_stored_state_of_a_stacked_task_is_right_in_this_mujoco(real_assets, cache):
    """`libero_spatial` task 5, whose bowl lies tipped over before 3.4.0."""
    scene = load_scene("libero_spatial/5", real_assets, cache)
    broken = check_reset_states(scene, threads=2)
    upright = tuple(map(int, mujoco.__version__.split(".")[:2])) >= (3, 4)
    assert len(broken) == (0 if upright else 50)
