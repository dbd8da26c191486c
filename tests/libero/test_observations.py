from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from rlgen.libero.envs.observations import Observer, axis_angle, bystanders, observation_size
from rlgen.libero.scenes.goals import STACKED


def test_axis_angle_is_the_rotation_vector_up_to_a_turn():
    rotations = Rotation.random(200, random_state=np.random.RandomState(0))
    x, y, z, w = rotations.as_quat().T
    found = axis_angle(np.stack([w, x, y, z], axis=1))
    np.testing.assert_allclose(Rotation.from_rotvec(found).as_matrix(), rotations.as_matrix(), atol=1e-7)
    assert np.abs(axis_angle(np.array([[1.0, 0, 0, 0]]))).max() == 0


def test_the_vector_holds_hand_object_and_region(placeholder_scene):
    scene = placeholder_scene
    observation = Observer(scene)(scene.stored_states[:4])
    assert observation.vector.shape == (4, observation_size(scene))
    nq_start = 1
    butter = scene.stored_states[:4, nq_start + 9 : nq_start + 12]
    atom = observation.vector[:, -18:]
    np.testing.assert_allclose(atom[:, :3], butter, atol=1e-12)
    np.testing.assert_allclose(atom[:, 9:12], butter - observation.robot.position, atol=1e-12)
    np.testing.assert_allclose(atom[:, 15:], atom[:, 12:15] - butter, atol=1e-12)
    np.testing.assert_array_equal(observation.vector[:, 9:11], observation.robot.gripper)


def test_the_vector_holds_where_the_other_objects_are(placeholder_scene):
    scene = replace(placeholder_scene, observed="all")
    states = scene.training_states[:4]
    observation = Observer(scene)(states)
    named = {scene.object_names[index] for index in np.flatnonzero(np.isin(scene.object_bodies, scene.goal.bodies))}
    names = [name for name in scene.object_names if name not in named]
    assert names and observation_size(scene) == 13 + 3 * (len(names) + len(scene.fixture_bodies)) + 18
    for index, name in enumerate(names):
        body = scene.object_bodies[scene.object_names.index(name)]
        address = 1 + scene.model.jnt_qposadr[scene.model.body_jntadr[body]]
        way = observation.vector[:, 13 + 3 * index : 16 + 3 * index]
        np.testing.assert_allclose(way, states[:, address : address + 3] - observation.robot.position, atol=1e-12)


def test_the_object_below_is_of_the_goal(placeholder_scene):
    scene = replace(placeholder_scene, observed="all")
    below = bystanders(scene)[0]
    goal = replace(scene.goal, kinds=np.array([STACKED]), targets=np.array([below]))
    np.testing.assert_array_equal(bystanders(replace(scene, goal=goal)), bystanders(scene)[1:])
    assert bystanders(placeholder_scene).size == 0
