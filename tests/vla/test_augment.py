import jax.numpy as jnp
import numpy as np
import pytest

from rlgen.vla.data.images import Augmentation, augment

NEUTRAL = jnp.array([[0.5, 0.5, 0.5, 0.5, 0.5, 0.5]])


def ramp(side: int = 21) -> jnp.ndarray:
    """Returns an image that grows to the right and down, by different amounts."""
    x = jnp.linspace(-0.4, 0.4, side)
    return jnp.broadcast_to((x[None, :] + 0.5 * x[:, None])[None, :, :, None], (1, side, side, 3))


def changed(image, options=None, fixed=True, **at):
    names = ("down", "right", "angle", "brightness", "contrast", "saturation")
    uniform = NEUTRAL.at[0, jnp.array([names.index(name) for name in at], int)].set(jnp.array(list(at.values()), float))
    return np.asarray(augment(image, uniform, options or Augmentation(crop=1.0), fixed_camera=fixed))[0]


def test_neutral_values_change_nothing_but_the_crop():
    np.testing.assert_allclose(changed(ramp()), ramp()[0], atol=1e-6)
    cropped = changed(ramp(), Augmentation(crop=0.5))
    np.testing.assert_allclose(cropped, 0.5 * ramp()[0], atol=1e-5)


def test_the_crop_moves_down_and_right():
    options = Augmentation(crop=0.5)
    slope = 0.8 / 20
    moved = changed(ramp(), options, right=1.0) - changed(ramp(), options)
    # A quarter of 21 pixels along a slope, inside the image.
    np.testing.assert_allclose(moved[8:13, 3:17], slope * 0.25 * 21, atol=1e-4)
    down = changed(ramp(), options, down=1.0) - changed(ramp(), options)
    np.testing.assert_allclose(down[3:17, 8:13], 0.5 * slope * 0.25 * 21, atol=1e-4)


def test_a_rotation_by_a_quarter_is_exact():
    turned = changed(ramp(), Augmentation(crop=1.0, angle=np.pi / 2), angle=1.0)
    np.testing.assert_allclose(turned, np.rot90(ramp()[0], -1), atol=1e-5)


def test_a_camera_at_the_gripper_is_only_recolored():
    options = Augmentation()
    same = changed(ramp(), options, fixed=False, down=1.0, right=0.0, angle=1.0)
    np.testing.assert_allclose(same, ramp()[0], atol=1e-6)
    assert np.abs(changed(ramp(), options, fixed=False, brightness=1.0) - ramp()[0]).max() > 0.05


def test_colors_change_as_named():
    light = lambda x: (np.asarray(x) + 1) / 2  # noqa: E731
    image = jnp.stack([jnp.full((4, 4), v) for v in (-0.5, 0.0, 0.2)], -1)[None]
    np.testing.assert_allclose(light(changed(image, brightness=1.0)), 1.3 * light(image[0]), rtol=1e-5)
    mean = light(image).mean()
    wanted = mean + 0.6 * (light(image[0]) - mean)
    np.testing.assert_allclose(light(changed(image, contrast=0.0)), wanted, rtol=1e-5)
    gray = light(image[0]) @ np.array([0.299, 0.587, 0.114])
    wanted = gray[..., None] + 1.5 * (light(image[0]) - gray[..., None])
    np.testing.assert_allclose(light(changed(image, saturation=1.0)), wanted, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_images_stay_in_their_range(value):
    noise = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 9, 9, 3)))
    out = augment(noise, jnp.full((2, 6), value), Augmentation(), fixed_camera=True)
    assert float(jnp.abs(out).max()) <= 1 and bool(jnp.isfinite(out).all())
