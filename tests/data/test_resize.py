"""Resized images compared with jax's own resize, which training uses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgen.data.resize import height_and_width, resize_image, resize_with_pad
from rlgen.vla.data.images import resize_on_device

JAX = {"linear": "linear", "lanczos3": "lanczos3"}


def image(height: int, width: int, hard: bool) -> np.ndarray:
    noise = np.random.default_rng(height * width).integers(0, 256, (height, width, 3))
    return (np.where(noise > 128, 255, 0) if hard else noise).astype(np.uint8)


@pytest.mark.parametrize("kernel", JAX)
@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(256, 256, 224), (64, 48, 97), (50, 90, 20), (8, 8, 1), (64, 48, (30, 70)), (20, 30, (20, 9))],
)
@pytest.mark.parametrize("hard", [False, True])
def test_it_equals_jaxs_up_to_rounding(kernel, height, width, size, hard):
    given, shape = image(height, width, hard), (*height_and_width(size), 3)
    exact = np.asarray(jax.image.resize(jnp.asarray(given, jnp.float32), shape, JAX[kernel]))
    got = resize_image(given, size, kernel)
    assert got.dtype == np.uint8 and got.shape == shape
    assert np.abs(got - np.clip(exact, 0, 255)).max() <= 0.53
    assert (got == np.clip(np.round(exact), 0, 255)).mean() > 0.8  # the others are ties and their neighbors


@pytest.mark.parametrize(
    ("size", "to"), [((256, 256), 224), ((40, 40), 17), ((12, 12), 30), ((40, 20), (20, 10)), ((9, 12), (15, 20))]
)
def test_the_pillow_kernel_equals_the_resize_of_evaluation(size, to):
    given = image(*size, False)
    np.testing.assert_array_equal(resize_image(given, to, "pillow"), resize_with_pad(given, to))


@pytest.mark.parametrize(("size", "to", "inside"), [
    ((20, 10), (10, 40), (slice(None), slice(17, 22))),
    ((20, 10), (60, 10), (slice(20, 40), slice(None))),
])  # fmt: skip
def test_what_is_beside_an_image_of_another_shape_is_black(size, to, inside):
    white = np.full((*size, 3), 255, np.uint8)
    want = np.zeros((*to, 3), np.uint8)
    want[inside] = 255
    np.testing.assert_array_equal(resize_with_pad(white, to), want)
    np.testing.assert_array_equal(resize_on_device(jnp.asarray(white)[None], to)[0], want)


def test_an_image_of_the_right_size_is_returned():
    given = image(12, 12, False)
    assert resize_image(given, 12) is given


def test_a_rotated_view_gives_the_same_as_its_copy():
    given = image(40, 30, False)[::-1, ::-1]
    np.testing.assert_array_equal(resize_image(given, 17), resize_image(given.copy(), 17))


@pytest.mark.parametrize("size", [17, 40, (40, 30)])
def test_the_given_array_is_filled(size):
    given, images = image(40, 40, False), np.zeros((3, *height_and_width(size), 3), np.uint8)
    assert np.shares_memory(resize_image(given, size, out=images[1]), images)
    np.testing.assert_array_equal(images[1], resize_image(given, size))
    assert not images[[0, 2]].any()
