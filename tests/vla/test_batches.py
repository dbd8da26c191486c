import dataclasses

import numpy as np

from rlgen.vla.batches import batch_indices, make_batch, shift
from rlgen.vla.presets import tiny
from rlgen.vla.dataset import VlaData
from rlgen.vla.transforms import NormStats, statistics


def frames(count: int) -> VlaData:
    """Frame i has pictures of value i."""
    numbers = np.arange(count)
    picture = np.tile(numbers[:, None, None, None], (1, 8, 8, 3)).astype(np.uint8)
    stats = statistics(np.eye(8))
    ids = np.zeros((count, 4), np.int32)
    return VlaData(
        image=picture,
        wrist_image=picture + 100,
        state=numbers[:, None].repeat(8, 1),
        action_chunks=np.zeros((count, 16, 7)),
        chunk_mask=np.ones((count, 16), bool),
        prompt=ids,
        prompt_mask=ids == 0,
        stats=NormStats(stats, stats),
    )


def test_every_epoch_sees_every_frame_once_and_step_is_the_place():
    seen = np.concatenate([batch_indices(10, 4, 7, step) for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()
    assert batch_indices(10, 4, 7, 3).tolist() == seen[12:16].tolist()
    assert batch_indices(10, 4, 8, 3).tolist() != seen[12:16].tolist()
    assert sorted(batch_indices(3, 9, 0, 0)) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_columns_of_a_batch_belong_to_the_same_frames():
    batch = make_batch(tiny(), frames(20), 3, batch=6, draws=2, seed=1)
    np.testing.assert_array_equal(batch.pictures["base_0_rgb"][:, 0, 0, 0], batch.state[:, 0])
    np.testing.assert_array_equal(batch.pictures["left_wrist_0_rgb"][:, 0, 0, 0], batch.state[:, 0] + 100)


def test_no_two_steps_seeds_or_draws_share_their_noise():
    given = {"batch": 4, "draws": 2}
    batches = [make_batch(tiny(), frames(20), step, seed=seed, **given) for step in (0, 1) for seed in (0, 1)]
    noise = np.concatenate([b.noise.reshape(8, -1) for b in batches] + [b.state_noise.repeat(16, 1) for b in batches])
    assert len(np.unique(noise[:, 0])) == len(noise)
    assert len(np.unique([b.time for b in batches])) == 32
    again = make_batch(tiny(), frames(20), 0, seed=0, **given)
    np.testing.assert_array_equal(again.noise, batches[0].noise)


def test_a_camera_that_the_model_lacks_is_not_even_copied():
    one = dataclasses.replace(tiny(), cameras=("base_0_rgb",))
    assert list(make_batch(one, frames(5), 0, batch=2, draws=1, seed=0).pictures) == ["base_0_rgb"]


def test_shifting_moves_pictures_and_repeats_their_border():
    picture = np.arange(36, dtype=np.uint8).reshape(6, 6, 1).repeat(3, -1)
    out = shift(np.stack([picture] * 2), np.array([[2, -1], [0, 0]]))
    assert out[0, :, :, 0].tolist()[0] == [12, 12, 13, 14, 15, 16]
    assert out[0, :, :, 0].tolist()[5] == [30, 30, 31, 32, 33, 34]
    np.testing.assert_array_equal(out[1], picture)


def test_cameras_are_shifted_each_by_itself():
    data = frames(64)
    ramp = np.arange(8, dtype=np.uint8)[None, :, None, None].repeat(64, 0).repeat(8, 2).repeat(3, 3)
    data = dataclasses.replace(data, image=ramp, wrist_image=ramp)
    pictures = make_batch(tiny(), data, 0, batch=64, draws=1, seed=0, most=2).pictures
    base, wrist = (pictures[name][:, 4, 4, 0].astype(int) - 4 for name in tiny().cameras)
    assert set(base) == set(wrist) == {-2, -1, 0, 1, 2}
    assert 0.05 < np.mean(base == wrist) < 0.4
