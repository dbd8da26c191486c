import dataclasses

import jax
import numpy as np
import pytest
from vla.toy import CONFIG, numbered_frames, pipeline_for, whole

from rlgen.core.errors import UserError
from rlgen.vla.data.batches import BatchOptions, batches, make_batch, shift
from rlgen.vla.data.frames import ItemFrames, take
from rlgen.vla.data.mixture import PERIOD, Mixture, Part, hold_out, mixture_statistics
from rlgen.vla.data.normalize import unnormalize

SIDE8 = dataclasses.replace(CONFIG, image_size=8, vision=dataclasses.replace(CONFIG.vision, patch=8))


@pytest.fixture(scope="module")
def data():
    mixture = whole(numbered_frames([5, 9, 6]))
    return mixture, pipeline_for(SIDE8, mixture)


def make(data, step, **options):
    options = BatchOptions(**{"batch": 6, "draws": 2, "seed": 1} | options)
    return make_batch(SIDE8, *data, options, step)


def numbers(data, batch):
    """Which frames a batch has, by its states."""
    stats = data[1].transforms[1].stats
    return np.round(unnormalize(stats.state, batch.state[:, :8])[:, 0]).astype(int)


def steps_of(mixture, batch, seed, step):
    return np.array([number for _, number in mixture.draw(batch, seed, step)])


def test_every_epoch_sees_every_frame_once_and_step_is_the_place():
    mixture = whole(numbered_frames([10]))
    seen = np.concatenate([steps_of(mixture, 4, 7, step) for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()
    assert steps_of(mixture, 4, 7, 3).tolist() == seen[12:16].tolist()
    assert steps_of(mixture, 4, 8, 3).tolist() != seen[12:16].tolist()


def test_parts_come_as_often_as_they_weigh_and_each_goes_through_all_its_steps():
    parts = tuple(Part(numbered_frames([n], first=f), np.arange(n), w) for n, f, w in ((7, 0, 3.0), (50, 40, 1.0)))
    mixture = Mixture(parts)
    drawn = [row for step in range(PERIOD // 8) for row in mixture.draw(8, 3, step)]
    assert len(drawn) == PERIOD
    first, second = ([number for part, number in drawn if part == p] for p in (0, 1))
    assert (len(first), len(second)) == (750, 250)
    assert set(np.bincount(first)) <= {107, 108} and set(np.bincount(second)) == {5}
    # Nothing is remembered: a later step alone is what it was in the row.
    assert mixture.draw(8, 3, 77) == drawn[77 * 8 : 78 * 8]
    owners = [part for part, _ in drawn]
    assert 0.6 < np.mean(owners[: PERIOD // 4]) / 0.25 < 1.4


def test_rows_of_several_datasets_stay_in_their_order():
    parts = tuple(Part(numbered_frames([20], first=f), np.arange(20), 1.0) for f in (0, 40))
    rows = Mixture(parts).draw(16, 0, 0)
    sample = Mixture(parts).sample(rows, 3)
    assert sample["observation/state"][:, 0].tolist() == [40 * part + number for part, number in rows]
    assert sample["observation/image"][:, 0, 0, 0].tolist() == [40 * part + number for part, number in rows]
    assert {part for part, _ in rows} == {0, 1} and len(sample["prompt"]) == 16


def test_weights_that_cannot_be_kept_are_refused():
    frames = numbered_frames([5])
    with pytest.raises(UserError, match="dataset 0 has 0 steps"):
        Mixture((Part(frames, np.arange(0), 1.0),))
    with pytest.raises(UserError, match="weight -1"):
        Mixture((Part(frames, np.arange(5), -1.0),))
    with pytest.raises(UserError, match="below a thousandth"):
        Mixture((Part(frames, np.arange(5), 1.0), Part(frames, np.arange(5), 1e-5))).draw(4, 0, 0)


def test_held_out_episodes_are_whole_and_nothing_else_is_trained_on():
    frames = numbered_frames([3] * 20)
    kept, held = hold_out(frames, 0.2, seed=4)
    episodes = [set(frames.table.episode[part.index]) for part in (kept, held)]
    assert len(episodes[1]) == 4 and not episodes[0] & episodes[1] and len(kept) + len(held) == 60
    assert set(hold_out(frames, 0.2, seed=5)[1].index) != set(held.index)
    assert hold_out(frames, 0.0, seed=4)[1] is None
    with pytest.raises(UserError, match="none to train on"):
        hold_out(numbered_frames([3]), 0.5, seed=0)


def test_chunks_repeat_the_last_action_and_say_so():
    chunk, mask = numbered_frames([3, 4]).table.chunks(np.array([0, 1, 2, 3]), 3)
    assert chunk[:, :, 0].tolist() == [[0, 1, 2], [1, 2, 2], [2, 2, 2], [3, 4, 5]]
    assert mask.tolist() == [[True] * 3, [True, True, False], [True, False, False], [True] * 3]


def test_columns_of_a_batch_belong_to_the_same_frames(data):
    batch = make(data, 3)
    seen = numbers(data, batch)
    np.testing.assert_array_equal(batch.images["base_0_rgb"][:, 0, 0, 0], seen)
    np.testing.assert_array_equal(batch.images["left_wrist_0_rgb"][:, 0, 0, 0], seen + 100)
    actions = unnormalize(data[1].transforms[1].stats.actions, batch.actions[..., :7])
    np.testing.assert_allclose(actions[:, 0, 0], seen, atol=1e-3)


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
    options = BatchOptions(batch=6, draws=1, seed=2)
    stream = list(batches(SIDE8, *data, options, 4, 3))
    for number, batch in enumerate(stream):
        jax.tree.map(np.testing.assert_array_equal, batch, make_batch(SIDE8, *data, options, 4 + number))
    assert len(stream) == 3


def test_shifting_moves_images_and_repeats_their_border():
    image = np.arange(36, dtype=np.uint8).reshape(6, 6, 1).repeat(3, -1)
    out = shift(np.stack([image] * 2), np.array([[2, -1], [0, 0]]))
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
    np.testing.assert_array_equal(shift(images, moves), expected)


def test_cameras_are_shifted_each_by_itself():
    frames = numbered_frames([64])
    ramp = np.arange(8, dtype=np.uint8)[None, :, None, None].repeat(64, 0).repeat(8, 2).repeat(3, 3)
    mixture = whole(dataclasses.replace(frames, image=ramp, wrist_image=ramp))
    images = make((mixture, pipeline_for(SIDE8, mixture)), 0, batch=64, shift=2).images
    base, wrist = (images[name][:, 4, 4, 0].astype(int) - 4 for name in CONFIG.cameras)
    assert set(base) == set(wrist) == {-2, -1, 0, 1, 2}
    assert 0.05 < np.mean(base == wrist) < 0.4


def test_cameras_have_their_own_random_numbers(data):
    augment = make(data, 0, augment=True).augment
    base, wrist = (augment[name] for name in CONFIG.cameras)
    assert base.shape == (6, 6) and not np.isin(base, wrist).any()
    assert not make(data, 0).augment


def test_a_source_of_items_is_a_dataset(data):
    from concurrent.futures import ThreadPoolExecutor

    frames = numbered_frames([5, 9, 6])

    class Source:
        table = frames.table

        def __getitem__(self, step):
            return {name: getattr(frames, name)[step] for name in ("image", "wrist_image")}

    index = np.array([7, 0, 19])
    with ThreadPoolExecutor(2) as pool:
        ours = take(ItemFrames(Source(), pool), index, 3)
    jax.tree.map(np.testing.assert_array_equal, ours, take(frames, index, 3))


def test_statistics_are_of_what_is_trained_on():
    frames = numbered_frames([4] * 10)
    kept, _ = hold_out(frames, 0.3, seed=0)
    stats = mixture_statistics(Mixture((kept,)), 2, delta=False)
    assert stats.state.mean[0] == pytest.approx(kept.index.mean(), rel=1e-6)
    # State and action of a step are the same number here: differences are how far the chunk is ahead.
    delta = mixture_statistics(whole(frames), 2, delta=True)
    assert delta.actions.mean[0] == pytest.approx((0 + 0.75) / 2, rel=1e-5)
    assert delta.actions.mean[6] == pytest.approx(np.arange(40).mean() + 0.375, rel=1e-5)


def test_statistics_of_a_mixture_follow_the_weights():
    parts = tuple(Part(numbered_frames([9], first=f), np.arange(9), w) for f, w in ((0, 3.0), (100, 1.0)))
    stats = mixture_statistics(Mixture(parts), 2, delta=False)
    rows = np.r_[np.tile(np.arange(9.0), 3), 100 + np.arange(9.0)]
    assert stats.state.mean[0] == pytest.approx(rows.mean(), rel=1e-6)
    assert stats.state.std[0] == pytest.approx(rows.std(), rel=1e-6)
