"""The same episodes in every format, and what each format guarantees to its own readers."""

import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from rlgen.core.errors import UserError
from rlgen.data.dataset import ENCODED_FORMATS, FORMATS, dataset_folders, dataset_format, encoded_format, open_dataset
from rlgen.data.episode import pair_episode
from rlgen.data.formats.hdf5.format import Hdf5Format, episode_name
from rlgen.data.formats.hdf5.layout import Demo, DemoFileInfo, DemoImages
from rlgen.data.index import read_index
from rlgen.data.shards import read_manifest
from rlgen.data.statistics import dataset_statistics
from rlgen.data.writer import write_dataset

NAME, SIZE, COUNT = "libero_object_no_noops", 16, 7
NUMBERS = ("state", "joint_state", "action")


def rotated(images: np.ndarray) -> np.ndarray:
    return images[:, ::-1, ::-1]


@pytest.fixture(scope="module")
def episodes(episode_of, robot_of):
    """Episodes of two prompts with images, as `Demo` and as `DatasetEpisode`."""
    made = []
    for index in range(COUNT):
        second = index >= 4
        task = "libero_object/turn" if second else "libero_object/push"
        episode = episode_of(index, 3 + index, task=task, prompt=task[14:])
        images = np.random.default_rng(index).integers(0, 256, (2, len(episode), SIZE, SIZE, 3), np.uint8)
        robot = robot_of(episode)
        pair = pair_episode(episode, robot, *map(rotated, images), episode_name(episode))
        made.append((Demo(episode, robot, DemoImages(*images)), pair))
    return made


def make(kind: str, episodes):
    """The format, its items, and the lengths of its shards."""
    demos, pairs = zip(*episodes, strict=True)
    if kind in ENCODED_FORMATS:
        return encoded_format(kind, [pair.language_instruction for pair in pairs]), pairs, [2, 2, 3]
    info = DemoFileInfo("Libero_X", "libero_object/x.bddl", "x", "<mujoco/>")
    return Hdf5Format(["libero_object/push", "libero_object/turn"], lambda task: info), demos, [4, 3]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory, episodes):
    """A dataset of every format."""
    folder = tmp_path_factory.mktemp("formats")
    made = {}
    for kind in FORMATS:
        format, items, lengths = make(kind, episodes)
        made[kind] = write_dataset(folder, NAME, items, format, lengths=lengths, size=SIZE, fingerprint="x")
    return made


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_numbers(datasets, episodes, kind):
    read = open_dataset(datasets[kind])
    assert dataset_format(datasets[kind]) == kind and len(read) == COUNT
    for got, (_, given) in zip(read, episodes, strict=True):
        for name in NUMBERS:
            assert getattr(got, name).dtype == np.float32
            np.testing.assert_array_equal(getattr(got, name), getattr(given, name))
        assert (got.language_instruction, got.file_path) == (given.language_instruction, given.file_path)
    np.testing.assert_array_equal(read[5].action, episodes[5][1].action)
    with pytest.raises(IndexError):
        read[COUNT]


def test_formats_with_encoded_images_hold_the_same_bytes(datasets, episodes):
    first, *others = (open_dataset(datasets[kind]) for kind in ENCODED_FORMATS)
    for other in others:
        for one, two in zip(first, other, strict=True):
            assert one.image.data == two.image.data and one.wrist_image.data == two.wrist_image.data
    raw = open_dataset(datasets["hdf5"])
    for got, (_, given) in zip(raw, episodes, strict=True):
        np.testing.assert_array_equal(got.image, given.image)
        np.testing.assert_array_equal(got.wrist_image, given.wrist_image)


@pytest.mark.parametrize("kind", FORMATS)
def test_index_and_statistics_cover_every_episode(datasets, episodes, kind):
    entries = read_index(datasets[kind])
    pairs = [pair for _, pair in episodes]
    assert [(e.name, e.prompt, e.steps) for e in entries] == [
        (pair.file_path, pair.language_instruction, len(pair)) for pair in pairs
    ]
    expected = dataset_statistics(pairs)
    written = {
        name: json.loads((datasets[kind] / name).read_text()) for name in ("dataset_statistics.json", "norm_stats.json")
    }
    assert written == {"dataset_statistics.json": {NAME: expected.openvla()}, "norm_stats.json": expected.openpi()}


def test_datasets_are_found_below_a_folder(datasets, tmp_path):
    root = datasets["rlds"].parents[1]
    assert set(dataset_folders(root)) == set(datasets.values())
    assert dataset_folders(tmp_path) == []
    with pytest.raises(UserError, match="no dataset there"):
        open_dataset(tmp_path)


def test_tensorflow_datasets_reads_steps_at_random(datasets, episodes):
    builder = tfds.builder_from_directory(datasets["array_record"])
    source = builder.as_data_source(split="train")
    steps = [(pair, step) for _, pair in episodes for step in range(len(pair))]
    assert len(source) == len(steps)
    for index in (0, len(steps) // 2, len(steps) - 1):
        pair, step = steps[index]
        got = source[index]
        np.testing.assert_array_equal(got["action"], pair.action[step])
        assert got["observation"]["image"].shape == (SIZE, SIZE, 3)
        assert (got["is_first"], got["is_last"]) == (step == 0, step == len(pair) - 1)
        assert got["language_instruction"].decode() == pair.language_instruction


def test_lerobot_finds_every_step_by_its_own_descriptions(datasets, episodes):
    """As `LeRobotDataset` does: info, tasks by their index, episodes by their ranges of rows."""
    import pyarrow.parquet as parquet

    folder, pairs = datasets["lerobot"], [pair for _, pair in episodes]
    info = json.loads((folder / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_episodes"]) == ("v3.0", 20, COUNT)
    assert info["total_frames"] == sum(map(len, pairs)) and info["splits"] == {"train": f"0:{COUNT}"}
    tasks = parquet.read_table(folder / "meta/tasks.parquet")
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    prompts = dict(zip(tasks["task_index"].to_pylist(), tasks["task"].to_pylist(), strict=True))
    assert prompts == {0: "push", 1: "turn"}
    rows = parquet.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    first = 0
    for index, (row, pair) in enumerate(zip(rows, pairs, strict=True)):
        assert (row["episode_index"], row["length"], row["tasks"]) == (index, len(pair), [pair.language_instruction])
        assert (row["dataset_from_index"], row["dataset_to_index"]) == (first, first + len(pair))
        location = {name: row[f"data/{name}"] for name in ("chunk_index", "file_index")}
        table = parquet.read_table(folder / info["data_path"].format(**location))
        assert set(table.column_names) == set(info["features"])
        of_episode = [r for r in table.to_pylist() if r["episode_index"] == index]
        assert [r["index"] for r in of_episode] == list(range(first, first + len(pair)))
        assert [r["frame_index"] for r in of_episode] == list(range(len(pair)))
        np.testing.assert_allclose([r["timestamp"] for r in of_episode], np.arange(len(pair)) / 20)
        assert {prompts[r["task_index"]] for r in of_episode} == {pair.language_instruction}
        np.testing.assert_array_equal([r["action"] for r in of_episode], pair.action)
        np.testing.assert_allclose(row["stats/action/mean"], pair.action.mean(0), rtol=1e-5)
        first += len(pair)
    statistics = json.loads((folder / "meta/stats.json").read_text())
    everything = np.concatenate([pair.state for pair in pairs])
    np.testing.assert_allclose(statistics["observation.state"]["std"], everything.std(0), rtol=1e-5)
    assert np.shape(statistics["observation.images.image2"]["mean"]) == (3, 1, 1)
    assert 0.4 < np.mean(statistics["observation.images.image"]["mean"]) < 0.6  # of uniform noise


@pytest.mark.parametrize("kind", FORMATS)
def test_a_flipped_byte_names_file_and_episode(datasets, tmp_path, kind):
    """Anywhere in the second shard: an episode is rejected by name, or unharmed."""
    folder = shutil.copytree(datasets[kind], tmp_path / "damaged")
    entries = read_index(folder)
    file = sorted({entry.file for entry in entries})[1]
    whole = open_dataset(datasets[kind])
    content = bytearray((folder / file).read_bytes())
    caught, size = 0, {shard.file: shard.bytes for shard in read_manifest(folder)[1]}.get(file, len(content))
    # HDF5 leaves room between its tables, whose zeros nobody reads.
    written = np.flatnonzero(np.frombuffer(content, np.uint8)[64 : int(0.7 * size)]) + 64
    for position in written[np.linspace(0, len(written) - 1, 12).astype(int)]:
        changed = content.copy()
        changed[position] ^= 16
        (folder / file).write_bytes(changed)
        for index, entry in enumerate(entries):
            if entry.file != file:
                continue
            try:
                got = open_dataset(folder)[index]
            except UserError as error:
                assert file.rpartition("/")[2] in str(error) and "\n" not in str(error)
                caught += entry.name in str(error)
            else:
                for name in (*NUMBERS, "image", "wrist_image"):
                    np.testing.assert_array_equal(*(np.asarray(getattr(e, name)) for e in (got, whole[index])))
    assert caught >= 6
