"""Quaternions, small vectors and matrices in JAX against SciPy's and NumPy's."""

import numpy as np
from scipy.spatial.transform import Rotation

from rlgen.libero.warp.rotations import axis_angle, cross, dot, multiply, product, rotate, to_matrix


def test_rotations_are_scipys():
    first, second = (Rotation.random(50, random_state=np.random.RandomState(seed)) for seed in (0, 1))
    one, other = (np.roll(rotation.as_quat(), 1, axis=1).astype(np.float32) for rotation in (first, second))
    vector = np.random.default_rng(2).normal(size=(50, 3)).astype(np.float32)
    product = (first * second).as_matrix()
    np.testing.assert_allclose(to_matrix(multiply(one, other)), product, atol=1e-6)
    np.testing.assert_allclose(rotate(one, vector), first.apply(vector), atol=2e-6)
    # The vector's length is the angle of this quaternion, up to a whole turn.
    found = np.asarray(axis_angle(one))
    np.testing.assert_allclose(Rotation.from_rotvec(found).as_matrix(), first.as_matrix(), atol=2e-6)


def test_small_angles_keep_their_digits():
    """The inverse cosine of single precision would give 0 or 3.5e-4."""
    quaternion = np.array([[np.cos(5e-5), np.sin(5e-5), 0, 0], [1, 0, 0, 0]], np.float32)
    np.testing.assert_allclose(axis_angle(quaternion), [[1e-4, 0, 0], [0, 0, 0]], rtol=1e-6, atol=0)


def test_products_are_numpys():
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 5, 3)).astype(np.float32)
    left, right = (random.normal(size=(5, *shape)).astype(np.float32) for shape in ((2, 3), (3, 4)))
    np.testing.assert_allclose(dot(first, second), np.sum(first * second, axis=-1), atol=1e-6)
    np.testing.assert_allclose(cross(first, second), np.cross(first, second), atol=1e-6)
    np.testing.assert_allclose(product(left, right), left @ right, atol=1e-6)
