"""Labels of episodes, pairs of episodes of two datasets, and the filters of their lists."""

from dataclasses import replace

import numpy as np
import pytest
from export_of_noise import COUNT, export

from rlgen.curation.pairs import no_failures, pair_episodes, read_episode_facts, start_digest
from rlgen.data.index import IndexEntry, Provenance, read_index, write_provenance, write_starts
from rlgen.report.episode_list import (
    EpisodeFacts,
    ShownDataset,
    beside,
    index_page,
    row_filters,
    row_values,
)

EMPTY_CARD = {"replay": {"failed but kept": []}}


def facts(prompt="push", task=None, start=None, **known) -> EpisodeFacts:
    return EpisodeFacts(IndexEntry("file", 0, "name", prompt, 3), task=task, start=start, **known)


def pairs(first, second):
    return pair_episodes(first, second)


@pytest.mark.unit
def test_episodes_with_the_same_start_are_side_by_side():
    first = [facts(start="a"), facts(start="b"), facts(start="c")]
    second = [facts(start="c"), facts(start="a"), facts(start="d")]
    assert pairs(first, second) == [(0, 1), (1, None), (2, 0), (None, 2)]


@pytest.mark.unit
def test_a_start_that_one_does_not_say_is_no_obstacle_but_equal_ones_come_first():
    first = [facts(), facts(start="a"), facts(start="b")]
    second = [facts(start="a"), facts()]
    assert pairs(first, second) == [(0, 1), (1, 0), (2, None)]
    assert pairs(second, first) == [(0, 1), (1, 0), (None, 2)]


@pytest.mark.unit
def test_each_episode_is_side_by_side_with_one():
    assert pairs([facts(start="a")] * 3, [facts(start="a")] * 2) == [(0, 0), (1, 1), (2, None)]
    assert pairs([facts()] * 2, [facts()] * 3) == [(0, 0), (1, 1), (None, 2)]


@pytest.mark.unit
def test_tasks_are_the_same_by_identifier_where_both_have_one_and_by_prompt_otherwise():
    one, two = facts("push", "suite/one"), facts("push", "suite/two")
    assert pairs([one], [two]) == [(0, None), (None, 0)]
    assert pairs([two], [one, two]) == [(0, 1), (None, 0)]
    assert pairs([one], [facts("shove it", "suite/one")]) == [(0, 0)]
    assert pairs([one], [facts(" Push.")]) == [(0, 0)]
    assert pairs([one], [facts("pull")]) == [(0, None), (None, 0)]
    # A task that is another one's by its identifier does not hide the next episode with this prompt.
    assert pairs([one], [two, facts("push")]) == [(0, 1), (None, 0)]


@pytest.mark.unit
def test_many_episodes_of_one_task_are_paired_at_once():
    first, second = [facts(start=f"a{i}") for i in range(5000)], [facts(start=f"b{i}") for i in range(5000)]
    assert all(None in row for row in pairs(first, second))
    assert all(None not in row for row in pairs(first, [facts()] * 5000))


@pytest.mark.unit
def test_starts_differ_by_any_number_and_by_drawn_fixtures():
    state, fixtures = np.arange(5.0), np.eye(2, 7)
    assert start_digest(None) is None
    assert start_digest(state) == start_digest(state.copy())
    near = state * (1 + 1e-15)
    others = [
        start_digest(near),
        start_digest(state, fixtures),
        start_digest(state, fixtures + 1),
    ]
    assert len({start_digest(state), *others}) == 4


@pytest.mark.unit
@pytest.mark.parametrize(
    "replay, expected",
    [
        ({"failed but kept": []}, True),
        ({"failed but kept": ["file: demo_3"]}, False),
        ({"1: one": {"failed but kept": []}, "2: two": {"failed but kept": []}}, True),
        ({"1: one": {"failed but kept": []}, "2: two": {"failed but kept": ["file: demo_3"]}}, False),
        ({"1: one": {"failed but kept": []}, "2: two": "unknown"}, False),
        ({}, False),
        (None, False),
        ("all", False),
    ],
)
def test_a_card_without_failures_says_so_of_every_dataset_in_it(replay, expected):
    assert no_failures(replay) is expected


def test_success_is_what_label_and_card_say(tmp_path):
    folder = export("rlds", tmp_path)
    entries = read_index(folder)
    assert {(one.success, one.label, one.task, one.start) for one in read_episode_facts(folder, entries, None)} == {
        (None, None, None, None)
    }
    origin = Provenance("libero_object/push", "ppo", "train", 0, 0, "exact", "3.8.1", "fast")
    origins = [replace(origin, label=""), replace(origin, label="missed"), origin, *([None] * (COUNT - 3))]
    write_provenance(folder, origins)
    write_starts(folder, [np.arange(3.0), np.arange(3.0), *([None] * (COUNT - 2))])
    found = read_episode_facts(folder, entries, {"replay": {"failed but kept": ["x: demo_1"]}})
    assert [one.success for one in found[:4]] == [True, False, None, None]
    assert [one.label for one in found[:3]] == ["", "missed", None]
    assert [one.actor for one in found[2:4]] == ["ppo", None]
    assert found[0].start == found[1].start is not None and found[2].start is None
    successes = [one.success for one in read_episode_facts(folder, entries, EMPTY_CARD)]
    assert successes == [True, False, *([True] * (COUNT - 2))]


# Filters.


def shown(*episodes, name="data") -> ShownDataset:
    return ShownDataset(name, {}, episodes)


@pytest.mark.unit
def test_rows_are_filtered_by_task_success_label_and_actor():
    dataset = shown(
        facts("push", success=True, label="", actor="ppo"),
        facts("push", success=False, label="missed", actor="ppo"),
        facts("pull"),
    )
    values = row_values([dataset], [(0,), (1,), (2,)])
    assert values == [
        {"task": "push", "success": "yes", "label": "none", "actor": "ppo"},
        {"task": "push", "success": "no", "label": "missed", "actor": "ppo"},
        {"task": "pull", "success": "unknown", "label": "unknown", "actor": "unknown"},
    ]
    found = {one.title: one.options for one in row_filters([dataset], values)}
    assert list(found) == ["Task", "Success", "Label", "Actor"]
    assert found["Task"] == [("pull", 1), ("push", 2)] and found["Success"] == [("no", 1), ("unknown", 1), ("yes", 1)]


@pytest.mark.unit
def test_two_datasets_have_filters_of_their_own():
    both = [shown(facts(success=True, start="a")), shown(facts(success=False, start="a"), facts("pull"))]
    rows = [(0, 0), (None, 1)]
    first, second = row_values(both, rows)
    assert (first["success"], first["other-success"]) == ("yes", "no")
    assert second["task"] == "pull" and "success" not in second and second["other-success"] == "unknown"
    assert [beside(both, row) for row in rows] == ["same task and initial state", "no episode beside it"]
    assert beside([shown(facts(start="a")), shown(facts())], (0, 0)) == "same task"
    titles = [one.title for one in row_filters(both, [first, second])]
    assert titles[:3] == ["Task", "Side by side", "A: success"] and "B: label" in titles


@pytest.mark.unit
def test_tasks_with_one_prompt_can_be_told_apart():
    dataset = shown(facts("push", "s/one"), facts("push", "s/two"), facts("pull", "s/three"), facts(""))
    names = [row["task"] for row in row_values([dataset], [(index,) for index in range(4)])]
    assert names == ["push (s/one)", "push (s/two)", "pull", "none"]


@pytest.mark.unit
def test_names_in_datasets_are_text_on_the_page():
    hostile = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"
    dataset = shown(facts(hostile, hostile, actor=hostile, label=hostile, success=False), name=hostile)
    page = index_page([dataset, dataset], [(0, 0)])
    assert "<img" not in page and page.count("<script>") == 1 and "alert(1)&lt;/script&gt;" in page
    assert 'data-task="&#34;' in page
