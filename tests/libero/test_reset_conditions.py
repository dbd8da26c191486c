"""The reset-state check: states that meet the reset conditions pass, others are reported with the unmet atoms."""

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
    """Returns the address of an object's position and quaternion in a state."""
    body = scene.object_bodies[scene.object_names.index(name)]
    return 1 + scene.model.jnt_qposadr[scene.model.body_jntadr[body]]


def test_settled_stored_states_meet_the_reset_conditions(real_scene, settled):
    assert len(real_scene.reset_conditions.atoms) == 7
    assert unmet_reset_conditions(real_scene, real_scene.stored_states[:4], settled) == {}


def test_objects_that_fell_over_or_slid_away_are_reported(real_scene, settled):
    changed, butter = settled.copy(), joint_of(real_scene, "butter_1")
    juice = joint_of(real_scene, "orange_juice_1")
    pose = Rotation.from_quat(np.roll(changed[1, juice + 3 : juice + 7], -1))
    changed[1, juice + 3 : juice + 7] = np.roll((Rotation.from_euler("x", 15, degrees=True) * pose).as_quat(), 1)
    changed[3, butter] += 0.06
    spun = Rotation.from_euler("z", 90, degrees=True) * pose
    changed[2, juice + 3 : juice + 7] = np.roll(spun.as_quat(), 1)
    unmet = unmet_reset_conditions(real_scene, real_scene.stored_states[:4], changed)
    assert sorted(unmet) == [1, 3]
    assert [atom.split()[1] for atom in unmet[1]] == ["orange_juice_1"]
    assert [atom.split()[1] for atom in unmet[3]] == ["butter_1"]


def test_stored_states_of_a_stacked_task_meet_the_conditions_in_this_mujoco(real_assets, cache):
    """`libero_spatial` task 5, whose bowl lies tipped over before 3.4.0."""
    scene = load_scene("libero_spatial/5", real_assets, cache)
    unmet = check_reset_states(scene, threads=2)
    upright = tuple(map(int, mujoco.__version__.split(".")[:2])) >= (3, 4)
    assert len(unmet) == (0 if upright else 50)
