"""Batches for training: chunks of actions, order, shares of processes, weights, and the position in the stream."""

import json
from collections import Counter

import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.data.dataset import open_dataset
from rlgen.data.formats.array_record.format import ArrayRecordFormat
from rlgen.data.frames import MemoryFrames, RecordFrames, frame_table, frames_from_episodes, open_frames, read_frames
from rlgen.data.index import read_index
from rlgen.data.loader import PERIOD, Loader, LoaderOptions, Mixture, Subset, hold_out, mix
from rlgen.data.resize import resize_image
from rlgen.data.writer import write_dataset

SIZE, HORIZON = 16, 4
LENGTHS = (5, 3, 9, 2, 6)


def write(folder, dataset_episode_of, numbers, lengths=(2, 3)):
    """Writes a dataset whose states differ in all frames."""
    episodes = [dataset_episode_of(number, LENGTHS[index], SIZE) for index, number in enumerate(numbers)]
    return write_dataset(folder, "noise_no_noops", episodes, ArrayRecordFormat(), lengths=lengths, size=SIZE)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, dataset_episode_of):
    return write(tmp_path_factory.mktemp("loader"), dataset_episode_of, range(5))


@pytest.fixture
def frames(dataset):
    return open_frames(dataset)


def options(batch=5, **changes):
    return LoaderOptions(batch, HORIZON, **changes)


def frame_of(source, state: np.ndarray) -> int:
    """Returns the frame that has this state."""
    [frame] = np.flatnonzero((source.table.state == state).all(axis=1))
    return int(frame)


def numbered_frames(lengths: list[int], first: int = 0) -> MemoryFrames:
    """Makes episodes of these lengths; frame i has images, state and action of value `first` + i."""
    values = first + np.arange(sum(lengths))
    image = np.tile(values[:, None, None, None] % 100, (1, 8, 8, 3)).astype(np.uint8)
    state, action = (values[:, None].repeat(width, 1).astype(np.float32) for width in (8, 7))
    return MemoryFrames(frame_table(state, action, lengths, ["count"] * len(lengths)), image, image + 100)


def test_a_frame_is_what_the_episode_has_there(dataset, frames):
    batch = read_frames(frames, np.arange(sum(LENGTHS)), HORIZON)
    frame = 0
    for episode in open_dataset(dataset):
        steps = len(episode)
        for step in range(steps):
            np.testing.assert_array_equal(batch["image"][frame], episode.image[step])
            np.testing.assert_array_equal(batch["wrist_image"][frame], episode.wrist_image[step])
            np.testing.assert_array_equal(batch["state"][frame], episode.state[step])
            for ahead in range(HORIZON):
                there = step + ahead < steps
                assert batch["chunk_mask"][frame, ahead] == there
                np.testing.assert_array_equal(
                    batch["action_chunks"][frame, ahead], episode.action[step + ahead if there else steps - 1]
                )
            assert batch["prompt"][frame] == episode.language_instruction
            frame += 1
    assert frame == len(frames.table) == sum(LENGTHS)


def test_chunks_repeat_the_last_action_and_say_so():
    chunk, mask = numbered_frames([3, 4]).table.chunks(np.array([0, 1, 2, 3]), 3)
    assert chunk[:, :, 0].tolist() == [[0, 1, 2], [1, 2, 2], [2, 2, 2], [3, 4, 5]]
    assert mask.tolist() == [[True] * 3, [True, True, False], [True, False, False], [True] * 3]


def test_images_are_of_the_requested_size_and_the_same_from_the_cache(dataset, frames):
    every = np.arange(len(frames.table))
    small, without = (RecordFrames(dataset, size=7, cache=budget) for budget in (1 << 20, 0))
    half = RecordFrames(dataset, size=7, cache=10 * 2 * 7 * 7 * 3)
    expected = np.stack([resize_image(image, 7) for image in frames.images(every)["image"]])
    for _ in range(2):
        for source in (small, half, without):
            np.testing.assert_array_equal(source.images(every)["image"], expected)


def test_an_empty_dataset_is_refused():
    with pytest.raises(UserError, match="no episode"):
        frames_from_episodes([], size=32)


def test_every_epoch_has_every_frame_once_in_an_order_of_the_seed(frames):
    orders = []
    for seed in (0, 0, 1):
        batches = list(Loader(frames, options(seed=seed, steps=10)))
        assert [len(batch["state"]) for batch in batches] == [5] * 10
        orders.append([frame_of(frames, state) for batch in batches for state in batch["state"]])
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0][:25]) == sorted(orders[0][25:]) == list(range(25))
    assert orders[0][:25] != orders[0][25:] and orders[0][:25] != list(range(25))


def test_the_step_alone_decides_the_frames():
    mixture = mix([numbered_frames([10])])
    selected = np.concatenate([frames_of(mixture, 4, 7, step) for step in range(5)])
    assert sorted(selected[:10]) == sorted(selected[10:]) == list(range(10))
    assert selected[:10].tolist() != selected[10:].tolist()
    assert frames_of(mixture, 4, 7, 3).tolist() == selected[12:16].tolist()
    assert frames_of(mixture, 4, 8, 3).tolist() != selected[12:16].tolist()


def frames_of(mixture, batch, seed, step):
    return np.array([frame for _, frame in mixture.select(batch, seed, step)])


@pytest.mark.parametrize("consumed", [0, 1, 4, 11])
@pytest.mark.parametrize("workers", [1, 3])
def test_the_position_is_restored_to_the_last_bit(frames, consumed, workers):
    """Also what is read ahead of it, through JSON, and with another number of workers."""
    first = Loader(frames, options(3, seed=7, workers=workers))
    for _ in range(consumed):
        next(first)
    state = json.loads(json.dumps(first.state()))
    second = Loader(frames, options(3, seed=7, workers=2))
    next(second)
    second.restore(state)
    for _ in range(6):
        one, two = next(first), next(second)
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])


def test_a_position_in_other_data_is_refused(frames):
    state = Loader(frames, options(3, seed=7)).state()
    with pytest.raises(UserError, match=r"another batch, seed.*\[3, 7\], not \[4, 8\]"):
        Loader(frames, options(4, seed=8)).restore(state)
    with pytest.raises(UserError, match="another frames"):
        Loader(numbered_frames([4]), options(3, seed=7)).restore(state)


def test_processes_share_a_batch_without_a_frame_twice(frames):
    counts, together = Counter(), list(Loader(frames, options(6, seed=1, steps=4)))
    for process in range(3):
        batches = list(Loader(frames, options(6, seed=1, steps=4, process=process, processes=3)))
        assert [len(batch["state"]) for batch in batches] == [2] * 4
        for part, batch in zip(batches, together, strict=True):
            np.testing.assert_array_equal(part["state"], batch["state"][2 * process : 2 * process + 2])
        counts.update(frame_of(frames, state) for batch in batches for state in batch["state"])
    assert len(counts) == 24 and set(counts.values()) == {1}


def test_a_mixed_batch_is_put_together_frame_by_frame(tmp_path, frames, dataset_episode_of):
    other = open_frames(write(tmp_path, dataset_episode_of, range(50, 55)))
    for batch in Loader(mix([frames, other]), options(10, seed=3, steps=5)):
        for row, state in enumerate(batch["state"]):
            [mine] = [one for one in (frames, other) if (one.table.state == state).all(axis=1).any()]
            expected = read_frames(mine, np.array([frame_of(mine, state)]), HORIZON)
            for name in ("image", "wrist_image", "action_chunks", "chunk_mask"):
                np.testing.assert_array_equal(batch[name][row], expected[name][0])
            assert batch["prompt"][row] == expected["prompt"][0]


def test_weights_say_how_often_a_dataset_is_drawn_from(tmp_path, frames, dataset_episode_of):
    other = open_frames(write(tmp_path, dataset_episode_of, range(50, 55)))
    loader = Loader(mix([frames, other], weights=(3, 1)), options(10))
    rows = np.concatenate([next(loader)["state"] for _ in range(PERIOD // 10)])
    mine = sum((frames.table.state == row).all(axis=1).any() for row in rows)
    assert mine == 750
    assert [subset.weight for subset in mix([frames, other]).subsets] == [25, 25]
    with pytest.raises(UserError, match="1 weights for 2 datasets"):
        mix([frames, other], weights=(1,))
    for weights in ((1, 0), (1, float("nan"))):
        with pytest.raises(UserError, match="both must be above 0"):
            mix([frames, other], weights=weights)


def test_subsets_come_as_often_as_they_weigh_and_each_goes_through_all_its_frames():
    subsets = tuple(Subset(numbered_frames([n], first=f), np.arange(n), w) for n, f, w in ((7, 0, 3.0), (50, 40, 1.0)))
    mixture = Mixture(subsets)
    selected = [row for step in range(PERIOD // 8) for row in mixture.select(8, 3, step)]
    assert len(selected) == PERIOD
    first, second = ([frame for subset, frame in selected if subset == s] for s in (0, 1))
    assert (len(first), len(second)) == (750, 250)
    assert set(np.bincount(first)) <= {107, 108} and set(np.bincount(second)) == {5}
    # Nothing is remembered: a later step alone is what it was in the sequence.
    assert mixture.select(8, 3, 77) == selected[77 * 8 : 78 * 8]
    owners = [subset for subset, _ in selected]
    assert 0.6 < np.mean(owners[: PERIOD // 4]) / 0.25 < 1.4


def test_rows_of_several_datasets_stay_in_their_order():
    mixture = Mixture(tuple(Subset(numbered_frames([20], first=f), np.arange(20), 1.0) for f in (0, 40)))
    rows = mixture.select(16, 0, 0)
    batch = mixture.read(rows, 3)
    assert batch["state"][:, 0].tolist() == [40 * subset + frame for subset, frame in rows]
    assert batch["image"][:, 0, 0, 0].tolist() == [40 * subset + frame for subset, frame in rows]
    assert {subset for subset, _ in rows} == {0, 1} and len(batch["prompt"]) == 16


def test_weights_that_cannot_be_kept_are_refused():
    frames = numbered_frames([5])
    with pytest.raises(UserError, match="dataset 0 has 0 frames"):
        Mixture((Subset(frames, np.arange(0), 1.0),))
    with pytest.raises(UserError, match=r"weight -1\.0"):
        Mixture((Subset(frames, np.arange(5), -1.0),))
    with pytest.raises(UserError, match="below a thousandth"):
        mix([frames, frames], weights=(1.0, 1e-5)).select(4, 0, 0)


def test_held_out_episodes_are_whole_and_nothing_else_is_trained_on():
    frames = numbered_frames([3] * 20)
    kept, held = hold_out(frames, 0.2, seed=4)
    episodes = [set(frames.table.episode[subset.index]) for subset in (kept, held)]
    assert len(episodes[1]) == 4 and not episodes[0] & episodes[1] and len(kept) + len(held) == 60
    assert (kept.weight, held.weight) == (48, 12)
    assert set(hold_out(frames, 0.2, seed=5)[1].index) != set(held.index)
    assert hold_out(frames, 0.0, seed=4)[1] is None
    with pytest.raises(UserError, match="none to train on"):
        hold_out(numbered_frames([3]), 0.5, seed=0)


def test_a_damaged_record_is_named_by_file_and_episode(tmp_path, dataset_episode_of):
    directory = write(tmp_path, dataset_episode_of, range(5))
    entry = read_index(directory)[3]
    path = directory / entry.file
    frame = sum(LENGTHS[:3])
    image = open_dataset(directory)[3].image.data[0]
    content = bytearray(path.read_bytes())
    content[content.index(image) + len(image) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path.name}.*episode {entry.name}"):
        RecordFrames(directory, cache=0).images(np.array([frame]))
    loader = Loader(open_frames(directory), options(1, steps=sum(LENGTHS)))
    with pytest.raises(UserError, match=f"{path.name}.*episode {entry.name}"):
        list(loader)
    # It does not pass over the batch that cannot be read.
    with pytest.raises(UserError, match=f"{path.name}.*episode {entry.name}"):
        next(loader)


def test_what_makes_no_sense_is_one_line(tmp_path):
    with pytest.raises(UserError, match="not an array_record dataset"):
        RecordFrames(tmp_path)
    with pytest.raises(UserError, match="chunks of 0 actions"):
        LoaderOptions(1, 0)
    with pytest.raises(UserError, match="process 2 of 2"):
        options(2, process=2, processes=2)
    with pytest.raises(UserError, match="a batch of 5 frames in process 0 of 2"):
        options(5, processes=2)


def test_batches_that_are_held_keep_their_images(frames):
    """The memory of images is used again, but only once their batch is let go."""
    for source in (frames, mix([numbered_frames([30]), numbered_frames([20], first=40)])):
        held = []
        for batch in Loader(source, options(4, seed=2, steps=20)):
            held = [*held, (batch, batch["image"].copy())][-6:]
            assert all((each["image"] == image).all() for each, image in held)
