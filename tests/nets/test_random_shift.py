import jax
import jax.numpy as jnp
import numpy as np
from dppo import load

from rlgen.nets.image_encoder import random_shift, shift_images


def test_shifts_match_golden():
    golden = load("07_random_shift")
    images = jnp.asarray(golden["img"].transpose(0, 2, 3, 1))
    # There columns come first.
    moved = shift_images(images, jnp.asarray(golden["shift_xy"][:, ::-1]), int(golden["pad"]))
    assert moved.dtype == jnp.uint8
    np.testing.assert_allclose(np.asarray(moved, np.float32), golden["out"].transpose(0, 2, 3, 1), atol=5e-4)


def test_every_image_has_its_own_shift_and_none_moves_further_than_pad():
    coordinates = np.stack(np.meshgrid(np.arange(20), np.arange(20), indexing="ij"), axis=-1).astype(np.uint8)
    images = jnp.asarray(np.broadcast_to(coordinates, (40, 3, 20, 20, 2)))
    moved = np.asarray(random_shift(jax.random.key(0), images, 3)).astype(int)
    by = moved[:, :, 10, 10] - 10
    assert np.abs(by).max() == 3 and len(np.unique(by.reshape(-1, 2), axis=0)) > 30
    # Away from the edge a whole image moves as one.
    inner = moved[:, :, 5:15, 5:15] - coordinates[5:15, 5:15].astype(int)
    np.testing.assert_array_equal(inner, np.broadcast_to(by[:, :, None, None], inner.shape))
    np.testing.assert_array_equal(random_shift(jax.random.key(0), images, 0), images)
