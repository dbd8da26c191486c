"""Resized images compared with jax's own resize, which training uses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rlgen.core.compiled import compiled
from rlgen.data import resize
from rlgen.data.resize import fitted_size, height_and_width, resize_image, resize_with_pad
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


@pytest.mark.parametrize("shape", [(256, 256, 3), (48, 64, 3), (9, 12, 3), (30, 20, 3), (1, 1, 3), (7, 300, 3)])
@pytest.mark.parametrize("to", [224, 17, 1, (30, 70), (20, 9), (11, 64)])
def test_the_pillow_kernel_equals_pillow_to_the_bit(shape, to):
    """Whichever axis it begins with, and where an axis keeps its length, shrinks to one pixel or grows."""
    given = image(*shape[:2], True)
    for height, width in (height_and_width(to), fitted_size(*shape[:2], to)):
        expected = np.asarray(Image.fromarray(given).resize((width, height), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(resize_image(given, (height, width), "pillow"), expected)


@compiled(fastmath={"contract"})
def add_taps(source, first, weights, scale, offset, out):
    for row in range(len(first)):
        for column in range(source.shape[1]):
            value = np.float32(offset)
            for tap in range(weights.shape[1]):
                value += np.float32(weights[row, tap] * scale) * np.float32(source[first[row] + tap, column])
            out[row, column] = value


@pytest.mark.parametrize("taps", range(1, 9))
def test_rows_are_added_in_their_order(taps):
    """Values are the same bits as of a plain sum from the first row to the last, however many are added at once."""
    random = np.random.default_rng(taps)
    source, weights = random.integers(0, 65536, (20, 37)).astype(np.uint16), random.normal(size=(9, taps))
    weights, first = weights.astype(np.float32), np.sort(random.integers(0, 20 - taps, 9))
    out, expected = np.empty((9, 37), np.int32), np.empty((9, 37), np.float32)
    add_taps(source, first, weights, 1 / 64, 5000.5, expected)
    resize._blend_rows(source, first, weights, 1 / 64, 5000.5, 1 << 24, out)
    np.testing.assert_array_equal(out, np.maximum(expected, 0).astype(np.int32))


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
