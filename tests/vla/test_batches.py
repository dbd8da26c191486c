import dataclasses

import jax
import numpy as np
import pytest
from vla.toy import CONFIG, numbered_frames, pipeline_for

from rlgen.data.loader import Mixture, Subset, hold_out, mix
from rlgen.vla.data.batches import BatchOptions, batch_loader, shift_images
from rlgen.vla.data.normalize import mixture_statistics, unnormalize

SIDE8 = dataclasses.replace(CONFIG, image_size=8, vision=dataclasses.replace(CONFIG.vision, patch=8))


@pytest.fixture(scope="module")
def data():
    mixture = mix([numbered_frames([5, 9, 6])])
    return mixture, pipeline_for(SIDE8, mixture)


def make(data, step, **options):
    options = BatchOptions(**{"batch": 6, "horizon": SIDE8.horizon, "draws": 2, "seed": 1} | options)
    return batch_loader(SIDE8, *data, options).read(step)


def frames_of(data, batch):
    """Returns the frames of a batch, by its states."""
    stats = data[1].transforms[1].stats
    return np.round(unnormalize(stats.state, batch.state[:, :8])[:, 0]).astype(int)


def test_columns_of_a_batch_belong_to_the_same_frames(data):
    batch = make(data, 3)
    frames = frames_of(data, batch)
    np.testing.assert_array_equal(batch.images["base_0_rgb"][:, 0, 0, 0], frames)
    np.testing.assert_array_equal(batch.images["left_wrist_0_rgb"][:, 0, 0, 0], frames + 100)
    actions = unnormalize(data[1].transforms[1].stats.actions, batch.actions[..., :7])
    np.testing.assert_allclose(actions[:, 0, 0], frames, atol=1e-3)


def test_a_camera_that_a_dataset_lacks_is_masked_in_its_rows():
    """One of two datasets of a mixture has no camera at the hand."""
    frames = numbered_frames([5, 9, 6])
    mixture = mix([frames, dataclasses.replace(frames, wrist_image=None)])
    batch = make((mixture, pipeline_for(SIDE8, mixture)), 0, batch=16)
    lacking = ~batch.image_mask["left_wrist_0_rgb"]
    assert 0 < lacking.sum() < 16 and batch.image_mask["base_0_rgb"].all()
    np.testing.assert_array_equal(batch.images["left_wrist_0_rgb"].any(axis=(1, 2, 3)), ~lacking)


def test_no_two_steps_seeds_or_draws_share_their_noise(data):
    made = [make(data, step, batch=4, seed=seed) for step in (0, 1) for seed in (0, 1)]
    noise = np.concatenate([b.noise[..., 0, 0].ravel() for b in made] + [b.state_noise[:, 0] for b in made])
    assert len(np.unique(noise)) == len(noise) == 48
    assert len(np.unique([b.time for b in made])) == 32
    np.testing.assert_array_equal(make(data, 0, batch=4, seed=0).noise, made[0].noise)


def test_processes_make_the_rows_of_one_batch(data):
    options = {"shift": 2, "augment": True}
    together = make(data, 5, **options)
    apart = [make(data, 5, process=p, processes=3, **options) for p in range(3)]
    jax.tree.map(lambda whole, *parts: np.testing.assert_array_equal(whole, np.concatenate(parts)), together, *apart)


def test_batches_made_ahead_are_those_of_their_steps(data):
    loader = batch_loader(SIDE8, *data, BatchOptions(batch=6, horizon=SIDE8.horizon, seed=2, steps=7))
    loader.seek(4)
    batches = list(loader)
    for index, batch in enumerate(batches):
        jax.tree.map(np.testing.assert_array_equal, batch, loader.read(4 + index))
    assert len(batches) == 3


def test_shifting_moves_images_and_repeats_their_border():
    image = np.arange(36, dtype=np.uint8).reshape(6, 6, 1).repeat(3, -1)
    images = np.stack([image] * 2)
    out = shift_images(images, np.array([[2, -1], [0, 0]]), np.empty_like(images))
    assert out[0, :, :, 0].tolist()[0] == [12, 12, 13, 14, 15, 16]
    assert out[0, :, :, 0].tolist()[5] == [30, 30, 31, 32, 33, 34]
    np.testing.assert_array_equal(out[1], image)


@pytest.mark.parametrize(("height", "width", "most"), [(6, 9, 3), (4, 4, 7)])
def test_shifting_is_what_its_definition_says(height, width, most):
    random = np.random.default_rng(most)
    images = random.integers(0, 256, (30, height, width, 3), np.uint8)
    moves = random.integers(-most, most + 1, (30, 2))
    rows = np.clip(np.arange(height) + moves[:, :1], 0, height - 1)
    columns = np.clip(np.arange(width) + moves[:, 1:], 0, width - 1)
    expected = images[np.arange(30)[:, None, None], rows[:, :, None], columns[:, None, :]]
    np.testing.assert_array_equal(shift_images(images, moves, np.empty_like(images)), expected)


def test_cameras_are_shifted_each_by_itself():
    frames = numbered_frames([64])
    ramp = np.arange(8, dtype=np.uint8)[None, :, None, None].repeat(64, 0).repeat(8, 2).repeat(3, 3)
    mixture = mix([dataclasses.replace(frames, image=ramp, wrist_image=ramp)])
    images = make((mixture, pipeline_for(SIDE8, mixture)), 0, batch=64, shift=2).images
    base, wrist = (images[name][:, 4, 4, 0].astype(int) - 4 for name in CONFIG.cameras)
    assert set(base) == set(wrist) == {-2, -1, 0, 1, 2}
    assert 0.05 < np.mean(base == wrist) < 0.4


def test_cameras_have_their_own_random_values(data):
    augment = make(data, 0, augment=True).augment
    base, wrist = (augment[name] for name in CONFIG.cameras)
    assert base.shape == (6, 6) and not np.isin(base, wrist).any()
    assert not make(data, 0).augment


def test_statistics_are_of_what_is_trained_on():
    frames = numbered_frames([4] * 10)
    kept, _ = hold_out(frames, 0.3, seed=0)
    stats = mixture_statistics(Mixture((kept,)), 2, delta=False)
    assert stats.state.mean[0] == pytest.approx(kept.index.mean(), rel=1e-6)
    # State and action of a step are the same number here: differences are how far the chunk is ahead.
    delta = mixture_statistics(mix([frames]), 2, delta=True)
    assert delta.actions.mean[0] == pytest.approx((0 + 0.75) / 2, rel=1e-5)
    assert delta.actions.mean[6] == pytest.approx(np.arange(40).mean() + 0.375, rel=1e-5)


def test_statistics_of_a_mixture_follow_the_weights():
    parts = tuple(Subset(numbered_frames([9], first=f), np.arange(9), w) for f, w in ((0, 3.0), (100, 1.0)))
    stats = mixture_statistics(Mixture(parts), 2, delta=False)
    rows = np.r_[np.tile(np.arange(9.0), 3), 100 + np.arange(9.0)]
    assert stats.state.mean[0] == pytest.approx(rows.mean(), rel=1e-6)
    assert stats.state.std[0] == pytest.approx(rows.std(), rel=1e-6)
