"""Checks of a dataset against its card: sound, and damaged in every way that a card could hide."""

import json
import shutil

import numpy as np
import pytest
from export_of_noise import COUNT, LENGTHS, NAME, SIZE, Items, make_format

from rlgen.core.errors import UserError
from rlgen.data.card import HEADINGS, read_card, write_card
from rlgen.data.dataset import open_dataset
from rlgen.data.index import read_index
from rlgen.data.metrics.quality import dataset_quality
from rlgen.data.verify import verify_dataset
from rlgen.data.writer import write_dataset

KINDS = ("rlds", "array_record", "lerobot", "hdf5")
OWN = ("name", "format", "episodes", "steps", "picture_size", "shards", "descriptions")


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """A dataset with its card in every format."""
    root = tmp_path_factory.mktemp("sound")

    def finish(folder):
        facts = {key: f"about {key}" for key in HEADINGS if key not in OWN}
        write_card(folder, facts | {"quality": dataset_quality(open_dataset(folder)).summary()})

    return {
        kind: write_dataset(root, NAME, Items(kind), make_format(kind), lengths=LENGTHS, size=SIZE, finish=finish)
        for kind in KINDS
    }


@pytest.fixture
def copy_of(datasets, tmp_path):
    return lambda kind: shutil.copytree(datasets[kind], tmp_path / kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_written_dataset_is_sound(datasets, kind):
    calls = []
    assert verify_dataset(datasets[kind], on_progress=lambda *parts: calls.append(parts)) == []
    assert calls[-1] == (COUNT, COUNT)


@pytest.mark.parametrize("kind", KINDS)
def test_a_corrupted_byte_is_reported_with_file_and_episode(copy_of, kind):
    folder = copy_of(kind)
    entry = read_index(folder)[4]
    path = folder / entry.file
    content = bytearray(path.read_bytes())
    # A byte of this episode's actions, or in parquet and HDF5 one in the middle of the file.
    needle = np.asarray(open_dataset(folder)[4].action[1], np.float32).tobytes()
    found = content.find(needle)
    content[found + 5 if found >= 0 else int(len(content) * 0.5)] ^= 1
    path.write_bytes(content)
    problems = verify_dataset(folder)
    assert f"{entry.file}: altered" in problems
    named = [problem for problem in problems if "(episode libero_object/" in problem and path.name in problem]
    if found >= 0:
        assert len(named) == 1 and entry.name in named[0]
    assert named and all("\n" not in problem for problem in problems)


def test_every_fact_on_the_card_that_can_be_computed_again_is_checked(copy_of):
    folder = copy_of("rlds")
    card = read_card(folder)
    for change, problem in (
        ({"steps": 5}, "the card says 5 steps, the index 27"),
        ({"episodes": 8}, "the card says 8 episodes, the index 9"),
        ({"picture_size": 8}, "image has shape (3, 16, 16, 3), expected (3, 8, 8, 3)"),
        ({"quality": {**card["quality"], "noops": 3}}, "the card's quality is not that of the episodes"),
        ({"policy": "somebody else"}, "DATASET.md: differs from the card for programs"),
    ):
        (folder / "dataset_card.json").write_text(json.dumps({**card, **change}))
        assert any(problem in line for line in verify_dataset(folder)), change


@pytest.mark.parametrize("file", ["dataset_statistics.json", "norm_stats.json"])
def test_statistics_are_computed_again(copy_of, file):
    folder = copy_of("array_record")
    text = (folder / file).read_text()
    (folder / file).write_text(text.replace("0.", "0.5", 1))
    assert {f"{file}: altered", f"{file}: not the statistics of the episodes"} <= set(verify_dataset(folder))


def test_statistics_of_earlier_versions_had_no_mask(copy_of):
    folder = copy_of("rlds")
    path = folder / "dataset_statistics.json"
    [(name, statistics)] = json.loads(path.read_text()).items()
    del statistics["action"]["mask"]
    path.write_text(json.dumps({name: statistics}))
    assert verify_dataset(folder) == ["dataset_statistics.json: altered"]
    statistics["action"]["mask"] = [True] * 7
    path.write_text(json.dumps({name: statistics}))
    assert "dataset_statistics.json: not the statistics of the episodes" in verify_dataset(folder)


def test_missing_files_are_named(copy_of, tmp_path):
    folder = copy_of("rlds")
    shard = read_index(folder)[3].file
    (folder / shard).unlink()
    problems = verify_dataset(folder)
    assert f"{shard}: missing" in problems and any("cannot be read" in problem for problem in problems)
    (folder / "episodes.json").unlink()
    assert any("no readable episodes.json" in problem for problem in verify_dataset(folder))
    with pytest.raises(UserError, match=r"no readable dataset_card\.json"):
        verify_dataset(tmp_path)


def test_images_are_decoded(tmp_path):
    """Hashes cannot reveal an image that was damaged before it was written."""
    from dataclasses import replace

    from rlgen.data.images import EncodedFrames, encode_frames

    def damaged(index):
        episode = Items("rlds")[index]
        frames = encode_frames(episode.image)
        cut = frames.data[1][:200]  # of its header and a little more
        return replace(episode, image=EncodedFrames((frames.data[0], cut, frames.data[2]), frames.size))

    def finish(folder):
        facts = {key: "" for key in HEADINGS if key not in OWN}
        write_card(folder, facts)

    folder = write_dataset(tmp_path, NAME, [damaged(0)], make_format("rlds"), lengths=[1], size=SIZE, finish=finish)
    assert verify_dataset(folder, images=False) == []
    [problem] = verify_dataset(folder)
    assert "cannot be decoded" in problem and "noise/train-0-0" in problem
