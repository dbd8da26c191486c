"""Encoding ahead of the writer: the same episodes, and no more of them in memory than allowed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.data import images as images_module
from rlgen.data.episode import DatasetEpisode
from rlgen.data.images import EncodedFrames, encode_frames
from rlgen.data.writer import AHEAD, encode_ahead

SIZE = 16


def episode(index: int, steps: int = 20) -> DatasetEpisode:
    noise = np.random.default_rng(index)
    images = noise.integers(0, 256, (2, steps, SIZE, SIZE, 3), np.uint8)
    state, joints = noise.normal(size=(steps, 8)), noise.normal(size=(steps, 7))
    action = np.ones((steps, 7))
    arrays = (values.astype(np.float32) for values in (state, joints, action))
    return DatasetEpisode(*images, *arrays, "push", f"made/{index}")


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_the_same_episodes_in_the_same_order(threads):
    given = [episode(index, steps) for index, steps in enumerate([20, 1, 33, 16, 5])]
    pool = None if threads is None else ThreadPoolExecutor(threads)
    got = list(encode_ahead(iter(given), SIZE, pool))
    assert [one.file_path for one in got] == [one.file_path for one in given]
    for one, other in zip(got, given, strict=True):
        assert one.image.data == encode_frames(other.image).data
        assert one.wrist_image.data == encode_frames(other.wrist_image).data
        assert one.action is other.action


def test_encoded_images_pass_through():
    given = episode(0)
    given = replace(given, image=encode_frames(given.image), wrist_image=encode_frames(given.wrist_image))
    with ThreadPoolExecutor(1) as pool:
        [got] = encode_ahead([given], SIZE, pool)
    assert got.image == given.image and isinstance(got.wrist_image, EncodedFrames)


def test_only_the_next_images_are_encoded_ahead(monkeypatch):
    taken, encoded = [], threading.Semaphore(0)

    def source():
        for index in range(10):
            taken.append(index)
            yield episode(index, 1)

    def counted(images):
        encoded.release()
        return encode_frames(images)

    monkeypatch.setattr(images_module, "encode_frames", counted)
    with ThreadPoolExecutor(2) as pool:
        stream = encode_ahead(source(), SIZE, pool)
        next(stream)
        # The second episode is not requested yet, and its images are encoded.
        assert all(encoded.acquire(timeout=60) for _ in range(2 * (1 + AHEAD)))
        assert taken == list(range(1 + AHEAD))
        assert len(list(stream)) == 9


@pytest.mark.parametrize("threads", [None, 2])
def test_an_episode_that_does_not_fit_is_named(threads):
    bad = replace(episode(1), wrist_image=np.zeros((20, 8, 8, 3), np.uint8))
    pool = None if threads is None else ThreadPoolExecutor(threads)
    with pytest.raises(UserError, match="made/1: wrist_image"):
        list(encode_ahead([episode(0), bad], SIZE, pool))
