"""Merging of datasets: which episodes are selected, and what the card of the result states."""

import json
from dataclasses import replace

import numpy as np
import pytest
from export_of_noise import export

from rlgen.core.errors import UserError
from rlgen.curation.card import note_missing_tasks
from rlgen.curation.merge import MergeOptions, merge_datasets
from rlgen.curation.selection import (
    EpisodeSummary,
    SelectionRule,
    best_of_each_task,
    in_proportion,
    of_each_task,
    select,
    without_duplicates,
)
from rlgen.data.card import read_card
from rlgen.data.dataset import open_dataset
from rlgen.data.episode import DatasetEpisode, episode_digest
from rlgen.data.formats.array_record.format import ArrayRecordFormat
from rlgen.data.formats.rlds.format import RldsFormat
from rlgen.data.index import Provenance, read_initial_states, write_provenance, write_starts
from rlgen.data.verify import verify_dataset
from rlgen.data.writer import write_dataset

SIZE = 16
ORIGIN = Provenance("libero_goal/x", "ppo", "train", 0, 0, "exact", "3.8.1", "fast")


def summary(dataset, index, task="push", steps=10, jerk=1.0, digest=None) -> EpisodeSummary:
    return EpisodeSummary(dataset, index, task, steps, jerk, digest or f"{dataset}-{index}")


def episode(index: int, steps: int = 6, size: int = SIZE, task: str = "push", shake: float = 0.0) -> DatasetEpisode:
    noise = np.random.default_rng(index)
    state = noise.normal(size=(steps, 8)).astype(np.float32)
    state[:, :3] = np.linspace(0, 0.1, steps)[:, None] + shake * noise.normal(size=(steps, 3))
    action = noise.uniform(-1, 1, (steps, 7)).astype(np.float32)
    action[:, 6] = -1
    images = noise.integers(0, 256, (2, steps, size, size, 3), np.uint8)
    joints = noise.normal(size=(steps, 7)).astype(np.float32)
    return DatasetEpisode(*images, state, joints, action, task, f"episode-{index}")


def write(folder, episodes, name="libero_goal_no_noops", format=None):
    size = episodes[0].image.shape[1]
    return write_dataset(folder, name, episodes, format or RldsFormat(), lengths=[len(episodes)], size=size)


def quiet(*parts) -> None:
    pass


def test_the_first_of_several_duplicates_is_kept():
    kept = without_duplicates([summary(0, 0, digest="a"), summary(0, 1, digest="b"), summary(1, 0, digest="a")])
    assert [(one.dataset, one.index) for one in kept] == [(0, 0), (0, 1)]


def test_the_best_of_each_task_keep_their_order():
    summaries = [
        summary(0, 0, "push", steps=30, jerk=1.0),
        summary(0, 1, "push", steps=10, jerk=9.0),
        summary(0, 2, "pull", steps=50, jerk=np.nan),
        summary(1, 0, "push", steps=20, jerk=2.0),
        summary(1, 1, "pull", steps=60, jerk=3.0),
    ]
    smooth = best_of_each_task(summaries, 1, "smoothest")
    assert [(one.dataset, one.index) for one in smooth] == [(0, 0), (1, 1)]
    short = best_of_each_task(summaries, 2, "shortest")
    assert [(one.dataset, one.index) for one in short] == [(0, 1), (0, 2), (1, 0), (1, 1)]
    with pytest.raises(UserError, match="the 0 smoothest"):
        best_of_each_task(summaries, 0, "smoothest")


@pytest.mark.parametrize(
    ("weights", "counts"), [((1, 1), (4, 4)), ((3, 1), (9, 3)), ((1, 4), (1, 4)), ((9, 4), (9, 4)), ((1, 100), (1, 4))]
)
def test_as_many_episodes_are_taken_as_the_proportion_allows(weights, counts):
    summaries = [summary(0, n, f"task {n % 3}") for n in range(9)] + [summary(1, n) for n in range(4)]
    kept = in_proportion(summaries, weights)
    assert tuple(sum(one.dataset == dataset for one in kept) for dataset in (0, 1)) == counts
    if counts[0] >= 3:  # tasks take turns
        of_first = [one.task for one in kept if one.dataset == 0]
        assert max(map(of_first.count, set(of_first))) - min(map(of_first.count, set(of_first))) <= 1
        assert len(set(of_first)) == 3


@pytest.mark.parametrize("weights", [(1,), (1, 0), (1, -1), (1, float("nan")), (1, 1, 1)])
def test_weights_that_make_no_sense_are_rejected(weights):
    with pytest.raises(UserError, match="expected a positive one for each"):
        in_proportion([summary(0, 0), summary(1, 0)], weights)
    with pytest.raises(UserError, match="expected a positive one for each"):
        of_each_task([summary(0, 0), summary(1, 0)], weights, 1)


@pytest.mark.parametrize(
    ("weights", "count", "taken"),
    [((1, 1), 4, (2, 2)), ((3, 1), 4, (3, 1)), ((1, 1), 3, (2, 1)), ((1, 9), 2, (0, 2)), ((), 6, (3, 3))],
)
def test_every_task_has_the_same_number_of_episodes_in_the_shares_of_the_datasets(weights, count, taken):
    tasks = ("push", "pull")
    summaries = [summary(dataset, n, tasks[n % 2]) for dataset in (0, 1) for n in range(8)]
    kept = select(summaries, SelectionRule(weights=weights, episodes=count))
    for task in tasks:
        of_task = [(one.dataset, one.index) for one in kept if one.task == task]
        assert tuple(sum(dataset == which for dataset, _ in of_task) for which in (0, 1)) == taken
        first = [one for one in summaries if one.task == task]
        assert of_task == [
            (one.dataset, one.index) for one in first if one.index // 2 < taken[one.dataset]
        ]  # those that come first


def test_too_few_episodes_of_a_task_are_named():
    summaries = [summary(0, n) for n in range(4)] + [summary(1, 0)]
    with pytest.raises(UserError, match="2 episodes of 'push' from dataset 2: it has 1"):
        select(summaries, SelectionRule(episodes=4))


def test_duplicates_are_removed_before_the_best_are_taken_in_proportion():
    summaries = [summary(0, n, steps=10 + n) for n in range(4)] + [summary(1, 0, digest="0-0"), summary(1, 1, steps=99)]
    options = SelectionRule(keep=5, order="shortest", weights=(1, 1))
    assert [(one.dataset, one.index) for one in select(summaries, options)] == [(0, 0), (1, 1)]


@pytest.fixture
def two(tmp_path):
    """A dataset of three and one of two in another format; one episode is in both."""
    first = write(tmp_path / "a", [episode(0), episode(1, shake=0.01), episode(2, 9)])
    second = write(tmp_path / "b", [episode(1, shake=0.01), episode(4, task="pull")], format=ArrayRecordFormat())
    return first, second


def test_a_merge_has_every_episode_once_with_the_same_images(tmp_path, two):
    options = MergeOptions(tmp_path / "out", formats=("rlds", "array_record", "lerobot"), shards=2)
    folders = merge_datasets(two, options, quiet)
    given = [open_dataset(two[0])[n] for n in range(3)] + [open_dataset(two[1])[1]]
    for folder in folders:
        assert verify_dataset(folder) == []
        read = open_dataset(folder)
        assert [one.file_path for one in read] == ["episode-0", "episode-1", "episode-2", "episode-4"]
        for got, expected in zip(read, given, strict=True):
            assert got.image.data == expected.image.data and got.wrist_image.data == expected.wrist_image.data
            for name in ("state", "joint_state", "action"):
                np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))
    card = read_card(folders[0])
    assert card["tasks"] == {"push": {"episodes": 3, "steps": 21}, "pull": {"episodes": 1, "steps": 6}}
    taken = list(card["merged_from"].values())
    assert [(part["episodes"], part["taken"]) for part in taken] == [(3, 3), (2, 1)]
    assert card["selection"] == "all, without duplicates"
    assert merge_datasets(two, options, quiet) == folders  # nothing to do


def test_a_merge_keeps_what_sources_lack_and_which_resets_were_wide(tmp_path, two):
    carded = []
    for folder, splits, name in zip(two, (("train",) * 3, ("train", "wide")), "cd", strict=True):
        write_provenance(folder, [replace(ORIGIN, split=split) for split in splits])
        carded += merge_datasets([folder], MergeOptions(tmp_path / name), quiet)
        assert ("resets" in read_card(carded[-1])) == ("wide" in splits)
    lacking, whole = carded
    before = {name: (lacking / name).read_bytes() for name in ("dataset_card.json", "DATASET.md")}
    note_missing_tasks(lacking, {"libero_goal/x": "not done yet"})
    [both] = merge_datasets([lacking, whole], MergeOptions(tmp_path / "both"), quiet)
    card = read_card(both)
    assert card["missing_tasks"] == {"1: libero_goal_no_noops 1.0.0": {"libero_goal/x": "not done yet"}}
    assert card["resets"].startswith("wide in 1 of 4 episodes") and verify_dataset(both) == []
    note_missing_tasks(lacking, {})
    assert {name: (lacking / name).read_bytes() for name in before} == before


def test_a_merge_says_what_the_actions_are_where_all_sources_do(tmp_path, two):
    two = [merged(tmp_path / name, [folder]) for name, folder in zip("cd", two, strict=True)]
    for folder in two:
        edit_card(folder, action_semantics="relative")
    assert read_card(merged(tmp_path / "same", two))["action_semantics"] == "relative"
    edit_card(two[1], action_semantics=None)
    assert "action_semantics" not in read_card(merged(tmp_path / "untold", two))
    edit_card(two[1], action_semantics="absolute")
    with pytest.raises(UserError, match=r"actions of two kinds: those of 1: .* are relative, those of 2: .* absolute"):
        merged(tmp_path / "two", two)
    assert not (tmp_path / "two").exists()


def edit_card(folder, **facts):
    path = folder / "dataset_card.json"
    card = json.loads(path.read_text()) | facts
    path.write_text(json.dumps({key: value for key, value in card.items() if value is not None}))


def merged(out, folders):
    [folder] = merge_datasets(folders, MergeOptions(out), quiet)
    return folder


def test_the_smoothest_are_those_with_the_least_jerk(tmp_path, two):
    [folder] = merge_datasets(two, MergeOptions(tmp_path / "out", selection=SelectionRule(keep=2)), quiet)
    assert [one.file_path for one in open_dataset(folder)] == ["episode-0", "episode-2", "episode-4"]
    assert read_card(folder)["selection"] == "the 2 smoothest of each task, without duplicates"


def test_a_merge_can_be_merged_again(tmp_path, two):
    [once] = merge_datasets(two, MergeOptions(tmp_path / "one"), quiet)
    [again] = merge_datasets(
        [once, two[1]], MergeOptions(tmp_path / "two", selection=SelectionRule(duplicates=True)), quiet
    )
    assert len(open_dataset(again)) == 6 and verify_dataset(again) == []


def test_hdf5_and_rlds_are_merged(tmp_path):
    parts = [export(kind, tmp_path / kind) for kind in ("hdf5", "rlds")]
    [folder] = merge_datasets(parts, MergeOptions(tmp_path / "out"), quiet)
    assert len(open_dataset(folder)) == len(open_dataset(parts[0]))  # the same episodes in both


def test_hdf5_exports_are_merged_as_hdf5_with_their_physics_states(tmp_path):
    parts = [export("hdf5", tmp_path / name) for name in "ab"]
    for part in parts:
        exported = open_dataset(part)
        starts = [exported.read_demo(index).episode.initial_state for index in range(len(exported))]
        write_starts(part, starts)
    options = MergeOptions(tmp_path / "out", formats=("hdf5", "rlds"), selection=SelectionRule(duplicates=True, keep=3))
    folder, other = merge_datasets(parts, options, quiet)
    assert verify_dataset(folder) == [] and folder == tmp_path / "out/hdf5/libero_object"
    read, given = open_dataset(folder), open_dataset(parts[0])
    assert len(read) == len(open_dataset(other)) == 3
    positions = [[one.file_path for one in given].index(one.file_path) for one in read]
    for index, position in enumerate(positions):
        got, expected = read.read_demo(index), given.read_demo(position)
        assert episode_digest(got.episode) == episode_digest(expected.episode)
        np.testing.assert_array_equal(got.images.agentview, expected.images.agentview)
    states = read_initial_states(folder, 3)
    np.testing.assert_array_equal(states, [given.read_demo(position).episode.initial_state for position in positions])


def test_datasets_that_do_not_fit_together_are_one_line(tmp_path, two):
    large = write(tmp_path / "large", [episode(0, size=32)])
    with pytest.raises(UserError, match=r"different sizes .*: 16, .*: 32"):
        merge_datasets([two[0], large], MergeOptions(tmp_path / "out"), quiet)
    with pytest.raises(UserError, match="formats zip: expected some of rlds"):
        MergeOptions(tmp_path, formats=("zip",))
    with pytest.raises(UserError, match="no HDF5 export, so it has no physics states"):
        merge_datasets(two, MergeOptions(tmp_path / "out", formats=("hdf5",)), quiet)


def test_weights_are_counted_before_anything_is_read(tmp_path):
    with pytest.raises(UserError, match="2 weights for 1 datasets"):
        merge_datasets([tmp_path / "nowhere"], MergeOptions(tmp_path, selection=SelectionRule(weights=(1, 2))), print)
