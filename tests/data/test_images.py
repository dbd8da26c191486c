"""Images: their orientation, what encoding them loses, and unreadable ones."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from rlgen.core.errors import UserError
from rlgen.data.images import EncodedFrames, decode_image, encode_frames, encode_image, flip_vertical, rotate_180


def _smooth(count: int, size: int = 32) -> np.ndarray:
    ramp = np.linspace(0, 255, size)
    image = np.stack([ramp[:, None] + 0 * ramp, 0 * ramp[:, None] + ramp, np.full((size, size), 40.0)], axis=-1)
    return np.stack([np.roll(image, 3 * index, axis=0) for index in range(count)]).astype(np.uint8)


def test_rotating_and_flipping_reorder_pixels_and_undo_themselves():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    images = np.stack([image, image + 100])
    for change, first in ((rotate_180, image[1, 2]), (flip_vertical, image[1, 0])):
        changed = change(images)
        assert changed.flags.c_contiguous and changed.shape == images.shape
        np.testing.assert_array_equal(changed[0, 0, 0], first)
        np.testing.assert_array_equal(changed[1], change(image) + 100)
        np.testing.assert_array_equal(change(changed), images)


def test_colors_and_orientation_survive():
    images = _smooth(3)
    frames = encode_frames(images)
    assert frames.shape == images.shape
    decoded = np.asarray(frames)
    assert np.abs(decoded[0].astype(int) - images[0]).mean() < 3
    np.testing.assert_array_equal(frames[1], decoded[1])
    np.testing.assert_array_equal(np.asarray(frames[1:]), decoded[1:])


def test_the_bytes_are_a_common_jpeg(tmp_path):
    (tmp_path / "x.jpg").write_bytes(encode_image(_smooth(1)[0]))
    with Image.open(tmp_path / "x.jpg") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 32))
        assert np.abs(np.asarray(image).astype(int) - _smooth(1)[0]).mean() < 3


def test_encoded_images_pass_through_unchanged():
    frames = encode_frames(_smooth(2))
    assert encode_frames(frames) is frames


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 3  # held upside down
    return exif


@pytest.mark.parametrize("options", [
    {}, {"subsampling": "4:4:4"}, {"subsampling": "4:2:2"}, {"progressive": True}, {"optimize": True},
    {"mode": "L"}, {"mode": "CMYK"}, {"exif": _turned()}, {"format": "PNG"}, {"cut": 0.6},
], ids=lambda options: "-".join(options) or "plain")  # fmt: skip
def test_decoded_images_are_the_same_as_opencvs(options):
    """Whatever the JPEG, an image is what it was before another library decoded most of them, also of damaged ones."""
    options = {"format": "JPEG", "quality": 90, **options}
    noise = np.random.default_rng(0).integers(0, 40, (32, 32, 3), np.uint8)
    image, file = Image.fromarray(_smooth(1)[0] // 2 + noise).convert(options.pop("mode", "RGB")), io.BytesIO()
    kept = options.pop("cut", 1)
    image.save(file, **options)
    data = file.getvalue()[: int(kept * file.tell())]
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    memory = np.full((3, 32, 32, 3), 7, np.uint8)
    if expected is None:
        with pytest.raises(UserError, match="cannot be decoded"):
            decode_image(data, (32, 32), memory[1])
        return
    np.testing.assert_array_equal(decode_image(data, (32, 32), memory[1]), expected)
    np.testing.assert_array_equal(decode_image(data, (32, 32)), expected)
    assert (memory[[0, 2]] == 7).all()


@pytest.mark.parametrize("data", [b"", b"no image"])
def test_unreadable_images_are_reported(data):
    with pytest.raises(UserError, match="cannot be decoded"):
        EncodedFrames((data,), (32, 32))[0]


def test_images_of_another_size_are_reported():
    with pytest.raises(UserError, match="expected"):
        EncodedFrames((encode_image(_smooth(1)[0]),), (16, 16))[0]


def test_other_arrays_are_rejected():
    with pytest.raises(ValueError, match="expected uint8"):
        encode_frames(np.zeros((2, 8, 8, 3)))
