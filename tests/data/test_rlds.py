"""The schema of RLDS, and episodes read by our reader and by tensorflow_datasets."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from dataset_tools import write_rlds
from shared import shared_dir

from rlgen.core.errors import UserError
from rlgen.data.formats.rlds.reader import read_rlds
from rlgen.data.formats.rlds.tfrecord import frame, read_records
from rlgen.data.images import EncodedFrames

NAME = "libero_object_no_noops"
OF_ALL_FORMATS = ("episodes.json", "dataset_statistics.json", "norm_stats.json")


@pytest.fixture
def dataset(tmp_path, dataset_episode_of):
    """Seven episodes in three shards."""
    episodes = [dataset_episode_of(seed, steps=3 + seed) for seed in range(7)]
    directory = write_rlds(tmp_path, NAME, episodes, size=16, description="Test.", shards=3)
    return directory, episodes


def _without_descriptions(value):
    if not isinstance(value, dict):
        return value
    return {key: _without_descriptions(item) for key, item in value.items() if key != "description"}


def test_the_schema_equals_the_public_one(tmp_path, dataset_episode_of):
    directory = write_rlds(tmp_path, NAME, [dataset_episode_of(0, size=256)], size=256, description="Test.", shards=1)
    golden = json.loads(shared_dir("golden/rlds/features.json").read_text())
    ours = json.loads((directory / "features.json").read_text())
    assert _without_descriptions(ours) == _without_descriptions(golden)


def test_folder_and_files_are_named_as_the_communitys(dataset, tmp_path):
    directory, _ = dataset
    assert directory == tmp_path / NAME / "1.0.0"
    shards = [f"{NAME}-train.tfrecord-0000{index}-of-00003" for index in range(3)]
    assert sorted(path.name for path in directory.glob("*")) == sorted(
        [*shards, "dataset_info.json", "features.json", "export.json", *OF_ALL_FORMATS]
    )
    info = json.loads((directory / "dataset_info.json").read_text())
    assert (info["name"], info["fileFormat"], info["version"]) == (NAME, "tfrecord", "1.0.0")
    assert info["splits"][0]["shardLengths"] == ["2", "2", "3"]
    assert str(tmp_path) not in (directory / "dataset_info.json").read_text()
    assert list(directory.parent.iterdir()) == [directory]


def test_our_reader_gives_the_same_numbers(dataset):
    directory, episodes = dataset
    read = read_rlds(directory)
    assert len(read) == 7
    for got, given in zip(read, episodes, strict=True):
        for name in ("state", "joint_state", "action"):
            assert getattr(got, name).dtype == np.float32
            np.testing.assert_array_equal(getattr(got, name), getattr(given, name))
        assert (got.language_instruction, got.file_path) == (given.language_instruction, given.file_path)
        assert set(got.action[:, 6]) == {-1, 1}
        assert got.image.shape == given.image.shape and isinstance(got.image, EncodedFrames)
    by_index = [read[index].file_path for index in (6, 0, 3)]
    assert by_index == [episodes[index].file_path for index in (6, 0, 3)]


def test_tensorflow_datasets_opens_it_and_decodes_it(dataset):
    directory, episodes = dataset
    builder = tfds.builder_from_directory(directory)
    assert builder.info.splits["train"].num_examples == 7
    record = next(read_records(builder.info.splits["train"].filepaths[0]))
    example = builder.info.features.deserialize_example_np(record)
    steps = list(example["steps"])
    given = episodes[0]
    ours = read_rlds(directory)[0]
    assert len(steps) == len(given)
    for index, step in enumerate(steps):
        np.testing.assert_array_equal(step["action"], given.action[index])
        np.testing.assert_array_equal(step["observation"]["image"], ours.image[index])
        np.testing.assert_array_equal(step["observation"]["wrist_image"], ours.wrist_image[index])
        last = index == len(given) - 1
        assert (step["is_first"], step["is_last"], step["is_terminal"]) == (index == 0, last, last)
        assert (step["reward"], step["discount"]) == (float(last), 1.0)
        assert step["language_instruction"] == given.language_instruction.encode()
    assert example["episode_metadata"]["file_path"] == given.file_path.encode()


def test_exporting_what_was_read_gives_the_same_bytes(dataset, tmp_path):
    directory, _ = dataset
    again = write_rlds(tmp_path / "b", NAME, read_rlds(directory), size=16, description="Test.", shards=3)
    for path in directory.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


def test_threads_do_not_change_the_bytes(dataset, tmp_path):
    directory, episodes = dataset
    options = {"size": 16, "description": "Test.", "shards": 3}
    with ThreadPoolExecutor(3) as executor:
        again = write_rlds(tmp_path / "b", NAME, iter(episodes), count=7, executor=executor, **options)
    for path in directory.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_dataset_of_another_schema_is_rejected():
    directory = shared_dir("golden/rlds/bridge_dataset/1.0.0")
    with pytest.raises(UserError, match=r"steps have no .*image"):
        read_rlds(directory)
    with pytest.raises(UserError, match="no split 'test'; it has train, val"):
        read_rlds(directory, "test")


def test_a_flipped_byte_names_file_and_record(dataset):
    directory, _ = dataset
    path = sorted(directory.glob("*tfrecord*"))[2]
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    read = read_rlds(directory)
    found = []
    with pytest.raises(UserError, match=r"00002-of-00003: record 1 is damaged \(episode episodes/0005\.npz\)"):
        found.extend(episode.file_path for episode in read)
    assert len(found) == 5
    with pytest.raises(UserError, match="record 1 is damaged"):
        read[5]
    assert len(read[6]) == 9


def test_a_foreign_record_is_named(dataset):
    directory, _ = dataset
    path = sorted(directory.glob("*tfrecord*"))[0]
    for content in (b"\xff not an example", b""):
        header, footer = frame(content)
        path.write_bytes((header + content + footer) * 2)
        with pytest.raises(UserError, match=r"00000-of-00003: record 0 .*does not fit"):
            next(iter(read_rlds(directory)))


def test_missing_shards_and_records_are_named(dataset):
    directory, _ = dataset
    first, second, _ = sorted(directory.glob("*tfrecord*"))
    record = next(read_records(second))
    header, footer = frame(record)
    second.write_bytes(header + record + footer)
    with pytest.raises(UserError, match=r"00001-of-00003: 1 records, dataset_info\.json says 2"):
        list(read_rlds(directory))
    first.unlink()
    with pytest.raises(UserError, match="00000-of-00003: cannot be read"):
        list(read_rlds(directory))


@pytest.mark.parametrize("damage", ["dataset_info.json", "features.json"])
def test_damaged_descriptions_are_one_line(dataset, damage):
    directory, _ = dataset
    (directory / damage).write_text("{")
    with pytest.raises(UserError) as caught:
        read_rlds(directory)
    assert str(directory) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_a_dataset_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no dataset_info\.json"):
        read_rlds(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": np.full((5, 7), 0.5, np.float32)}, "neither -1 nor 1"),
        ({"action": np.full((5, 7), -1.5, np.float32)}, "neither -1 nor 1"),
        ({"action": np.full((5, 6), -1, np.float32)}, "action has 6 numbers a step, expected 7"),
        ({"state": np.full((5, 8), np.nan, np.float32)}, "state: not finite at step 0, number 0 is nan"),
        ({"joint_state": np.zeros((4, 7), np.float32)}, r"joint_state of shape \(4, 7\)"),
        ({"joint_state": None}, "no joint_state, which what is written here has"),
        ({"wrist_image": None}, "no wrist_image, which what is written here has"),
        ({"image": np.full((5, 16, 16, 3), 0.5, np.float32)}, "image is of float32, expected uint8"),
        ({"image": np.zeros((5, 8, 8, 3), np.uint8)}, r"image has shape \(5, 8, 8, 3\)"),
        ({"wrist_image": np.zeros((4, 16, 16, 3), np.uint8)}, "wrist_image of 4 steps, actions of 5"),
        ({name: np.zeros((0, 7), np.float32) for name in ("action", "joint_state")}, "no steps"),
    ],
)
def test_episodes_that_do_not_fit_are_named(tmp_path, dataset_episode_of, change, message):
    bad = replace(dataset_episode_of(1), **change)
    with pytest.raises(UserError, match=rf"episodes/0001\.npz: .*{message}"):
        write_rlds(tmp_path, NAME, [dataset_episode_of(0), bad], size=16, description="Test.", shards=1)
    assert not (tmp_path / NAME / "1.0.0").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Libero-Object"}, "no dataset name"),
        ({"version": "1"}, "no version"),
        ({"episodes": []}, "no episodes"),
    ],
)
def test_bad_arguments_are_rejected(tmp_path, dataset_episode_of, change, message):
    values = {"name": NAME, "episodes": [dataset_episode_of(0)], "size": 16, "description": "", "shards": 1, **change}
    with pytest.raises(UserError, match=message):
        write_rlds(tmp_path, values.pop("name"), values.pop("episodes"), **values)
    assert list(tmp_path.iterdir()) == []
