import numpy as np
from scipy.spatial.transform import Rotation

from rlgen.libero.envs.observations import Observer, axis_angle, observation_size


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
    np.testing.assert_allclose(observation.vector[:, 13:16], butter, atol=1e-12)
    np.testing.assert_allclose(observation.vector[:, 22:25], butter - observation.robot.position, atol=1e-12)
    np.testing.assert_allclose(observation.vector[:, 28:31], observation.vector[:, 25:28] - butter, atol=1e-12)
    np.testing.assert_array_equal(observation.vector[:, 9:11], observation.robot.gripper)
