"""GIFs: their frames, durations and sizes."""

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from rlgen.core.errors import UserError
from rlgen.report.video import BORDER, MISSED, REACHED, clip_name, episode_gif, write_gif


def flat_frames(length):
    """Frame i is a flat gray of 2 i, with a bright upper left corner."""
    frames = np.repeat(2 * np.arange(length, dtype=np.uint8), 32 * 48 * 3).reshape(length, 32, 48, 3)
    frames[:, :8, :8] = 250
    return frames


def opened(data):
    return Image.open(io.BytesIO(data))


def middle_greys(data):
    return [
        frame.convert("RGB").getpixel((frame.width // 2, frame.height // 3))[0]
        for frame in ImageSequence.Iterator(opened(data))
    ]


def test_frames_come_in_order_with_the_first_and_the_last():
    data = episode_gif(flat_frames(10), caption="x", success=True, every=3)
    np.testing.assert_allclose(middle_greys(data), [0, 6, 12, 18], atol=2)
    data = episode_gif(flat_frames(9), caption="x", success=True, every=3)
    np.testing.assert_allclose(middle_greys(data), [0, 6, 12, 16], atol=2)


def test_it_has_the_speed_of_the_episode_and_shows_the_end_for_a_second():
    image = opened(episode_gif(flat_frames(7), caption="x", success=True, every=2, control_hz=20))
    times = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert times == [100, 100, 100, 1000]
    assert image.info["loop"] == 0


def test_it_is_upright_and_scaled_in_proportion():
    image = opened(episode_gif(flat_frames(1), caption="x", success=None, size=96))
    assert image.width == 96 + 2 * BORDER
    image = image.convert("RGB")
    assert min(image.getpixel((BORDER + 4, BORDER + 4))) > 240
    assert max(image.getpixel((BORDER + 4, BORDER + 60))) < 10


@pytest.mark.parametrize(("success", "color"), [(True, REACHED), (False, MISSED)])
def test_the_border_shows_the_outcome(success, color):
    image = opened(episode_gif(flat_frames(3), caption="x", success=success)).convert("RGB")
    assert image.getpixel((0, 0)) == color
    strip = np.asarray(image)[-18:-4, -20:]
    assert (strip > 240).all(axis=-1).any(), "a white tick or cross"


def test_a_still_episode_is_small_and_noise_is_reduced_to_fit():
    still = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), dtype=np.uint8).repeat(60, axis=0)
    still[:, 10:20, 10:20] = np.arange(60, dtype=np.uint8)[:, None, None, None]
    assert len(episode_gif(still, caption="x", success=True)) < 90_000
    noise = np.random.default_rng(0).integers(0, 255, (12, 64, 64, 3), dtype=np.uint8)
    assert len(episode_gif(noise, caption="x", success=True, max_bytes=200_000)) < 200_000


def test_a_long_caption_is_cut_and_unusual_characters_are_accepted():
    data = episode_gif(flat_frames(2), caption="very long words " * 6 + "\n\0é漢", success=False)
    assert opened(data).width == 192 + 2 * BORDER


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = write_gif(tmp_path / "a.gif", flat_frames(2), caption="x", success=True)
    before = path.read_bytes()
    with pytest.raises(UserError, match="uint8"):
        write_gif(path, flat_frames(2).astype(float), caption="x", success=True)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (4, 8, 8), (4, 8, 8, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(UserError, match=r"\[T, h, w, 3\]"):
        episode_gif(np.zeros(shape, np.uint8), caption="x", success=True)


def test_the_name_says_actor_task_seed_and_outcome_and_stays_in_its_folder():
    assert clip_name("ppo", "libero_object/pick up", 3, True) == "ppo-libero_object-pick_up-seed3-success.gif"
    assert "/" not in clip_name("a/../b", "../../x", 0, False)
