"""What training is given: chunks, order, shares, weights, and the place in it."""

import json
import pickle
from collections import Counter

import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.data.dataset import open_dataset
from rlgen.data.formats.array_record.format import ArrayRecordFormat
from rlgen.data.frames import FrameSource
from rlgen.data.index import read_index
from rlgen.data.loader import Loader, LoaderOptions
from rlgen.data.resize import resize_image
from rlgen.data.writer import write_dataset

SIZE, HORIZON = 16, 4
LENGTHS = (5, 3, 9, 2, 6)


def write(folder, dataset_episode_of, numbers, lengths=(2, 3)):
    """A dataset whose states are unlike in all frames."""
    episodes = [dataset_episode_of(number, LENGTHS[index], SIZE) for index, number in enumerate(numbers)]
    return write_dataset(folder, "noise_no_noops", episodes, ArrayRecordFormat(), lengths=lengths, size=SIZE)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, dataset_episode_of):
    return write(tmp_path_factory.mktemp("loader"), dataset_episode_of, range(5))


@pytest.fixture
def source(dataset):
    return FrameSource(dataset, horizon=HORIZON)


def frame_of(source, state: np.ndarray) -> int:
    """The frame that has this state."""
    [frame] = np.flatnonzero((source.table.state == state).all(axis=1))
    return int(frame)


def test_a_frame_is_what_the_episode_has_there(dataset, source):
    frame = 0
    for episode in open_dataset(dataset):
        steps = len(episode)
        for step in range(steps):
            item = source[frame]
            np.testing.assert_array_equal(item["image"], episode.image[step])
            np.testing.assert_array_equal(item["wrist_image"], episode.wrist_image[step])
            np.testing.assert_array_equal(item["state"], episode.state[step])
            for ahead in range(HORIZON):
                there = step + ahead < steps
                assert item["chunk_mask"][ahead] == there
                np.testing.assert_array_equal(
                    item["action_chunks"][ahead], episode.action[step + ahead if there else steps - 1]
                )
            assert source.prompts[item["prompt"]] == episode.language_instruction
            frame += 1
    assert frame == len(source) == sum(LENGTHS)


def test_images_are_of_the_wanted_size_and_the_same_from_the_cache(dataset, source):
    small, without = (FrameSource(dataset, horizon=1, size=7, cache=budget) for budget in (1 << 20, 0))
    half = FrameSource(dataset, horizon=1, size=7, cache=10 * 2 * 7 * 7 * 3)
    for _ in range(2):
        for frame in range(len(small)):
            expected = resize_image(np.asarray(source[frame]["image"]), 7)
            for one in (small, half, without):
                np.testing.assert_array_equal(one[frame]["image"], expected)


def test_an_epoch_has_every_frame_once_in_an_order_of_the_seed(source):
    orders = []
    for seed in (0, 0, 1):
        batches = list(Loader(source, LoaderOptions(batch=5, seed=seed, epochs=1)))
        assert [len(batch["state"]) for batch in batches] == [5] * 5
        orders.append([frame_of(source, state) for batch in batches for state in batch["state"]])
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(25)) != orders[0]


def test_epochs_are_in_different_orders(source):
    frames = [
        frame_of(source, state) for batch in Loader(source, LoaderOptions(5, epochs=2)) for state in batch["state"]
    ]
    assert sorted(frames[:25]) == sorted(frames[25:]) == list(range(25))
    assert frames[:25] != frames[25:]


@pytest.mark.parametrize("consumed", [0, 1, 4, 11])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_place_is_restored_to_the_last_bit(source, consumed, threads):
    """Also what lies ahead of it in the queues, through JSON, and with another number of threads."""
    first = Loader(source, LoaderOptions(3, seed=7, threads=threads))
    for _ in range(consumed):
        next(first)
    state = json.loads(json.dumps(first.state()))
    second = Loader(source, LoaderOptions(3, seed=7, threads=2))
    next(second)
    second.restore(state)
    for _ in range(6):
        one, two = next(first), next(second)
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])


def test_a_place_in_other_data_is_refused(source):
    state = Loader(source, LoaderOptions(3, seed=7)).state()
    with pytest.raises(UserError, match=r"another seed, process.*\[7, 0\], not \[8, 1\]"):
        Loader(source, LoaderOptions(3, seed=8, process=1, processes=2)).restore({**state, "processes": 2})


def test_processes_share_an_epoch_without_a_frame_twice(source):
    seen = Counter()
    for process in range(3):
        options = LoaderOptions(4, seed=1, epochs=1, process=process, processes=3)
        batches = list(Loader(source, options))
        assert len(batches) == 2
        seen.update(frame_of(source, state) for batch in batches for state in batch["state"])
    assert len(seen) == 24 and set(seen.values()) == {1}


def test_a_mixed_batch_is_put_together_frame_by_frame(tmp_path, source, dataset_episode_of):
    other = FrameSource(write(tmp_path, dataset_episode_of, range(50, 55)), horizon=HORIZON)
    for batch in Loader([source, other], LoaderOptions(10, seed=3, epochs=1)):
        for row, state in enumerate(batch["state"]):
            [mine] = [one for one in (source, other) if (one.table.state == state).all(axis=1).any()]
            expected = mine[frame_of(mine, state)]
            for name in ("image", "wrist_image", "action_chunks", "chunk_mask"):
                np.testing.assert_array_equal(batch[name][row], expected[name])


def test_weights_say_how_often_a_dataset_is_drawn_from(tmp_path, source, dataset_episode_of):
    other = FrameSource(write(tmp_path, dataset_episode_of, range(50, 55)), horizon=HORIZON)
    loader = Loader([source, other], LoaderOptions(10, seed=0), weights=(3, 1))
    rows = np.concatenate([next(loader)["state"] for _ in range(20)])
    mine = sum((source.table.state == row).all(axis=1).any() for row in rows)
    assert mine == 150
    assert loader.prompts == ("pick up the butter and place it in the basket",)
    for weights in ((1,), (1, 0), (1, float("nan"))):
        with pytest.raises(UserError, match="expected a positive one for each"):
            Loader([source, other], LoaderOptions(10), weights=weights)


def test_a_damaged_record_is_named_by_file_and_episode(tmp_path, dataset_episode_of):
    directory = write(tmp_path, dataset_episode_of, range(5))
    entry = read_index(directory)[3]
    path = directory / entry.file
    data = FrameSource(directory, horizon=1, cache=0)
    frame = sum(LENGTHS[:3])
    image = open_dataset(directory)[3].image.data[0]
    content = bytearray(path.read_bytes())
    content[content.index(image) + len(image) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path.name}.*episode {entry.name}"):
        data[frame]
    with pytest.raises(Exception, match=f"{path.name}.*episode {entry.name}"):
        list(Loader(FrameSource(directory, horizon=1), LoaderOptions(1, epochs=1)))


def test_a_source_goes_to_another_process_without_its_open_files(source):
    source[0]
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[3]["image"], source[3]["image"])


def test_what_makes_no_sense_is_one_line(tmp_path, dataset, source):
    with pytest.raises(UserError, match="not an array_record dataset"):
        FrameSource(tmp_path, horizon=1)
    with pytest.raises(UserError, match="chunks of 0 actions"):
        FrameSource(dataset, horizon=0)
    with pytest.raises(UserError, match="fewer than a batch of 26"):
        Loader(source, LoaderOptions(26, epochs=1))
    with pytest.raises(UserError, match="process 2 of 2"):
        LoaderOptions(1, process=2, processes=2)
