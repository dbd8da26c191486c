"""Results in the layouts of the public harness: what it reads is there, and nothing is ranked that is not standard."""

import json
import re

import pytest

from rlgen.evaluation.leaderboard import STANDARD, Circumstances, leaderboard_row, suite_result, write_leaderboard
from rlgen.evaluation.protocol import Protocol
from rlgen.evaluation.records import TrialRecord
from rlgen.libero.tasks.suites import find_tasks

OFFICIAL = Circumstances("LIBERO assets", True)
TASKS = find_tasks("libero_goal/0", "libero_goal/7", "libero_10/3")
TRIALS = [
    TrialRecord(TASKS[1].id, 1, 1, False, 300, ("libero_goal/b",), [[1.0, 2.0]]),
    TrialRecord(TASKS[1].id, 0, 0, True, 80),
    TrialRecord(TASKS[0].id, 0, 0, True, 100),
    TrialRecord(TASKS[2].id, 0, 0, False, 520),
]
STANDARD_PROTOCOL = Protocol(renderer="benchmark")
# The fields of an entry, and whether one must have them, as the harness's schema lists them.
REQUIRED = {"model", "display_name", "benchmark", "weight_type", "curated_by", "date_added"}
ALLOWED = REQUIRED | {"name_in_paper", "overall_score", "suite_scores", "task_scores", "reported_paper"}
ALLOWED |= {"reported_table", "notes", "params", "model_paper"}


def all_of(suites, success=lambda suite, trial: True, trials=50):
    tasks = find_tasks(*suites)
    return tasks, [
        TrialRecord(task.id, trial, trial, success(task.suite, trial), 100) for task in tasks for trial in range(trials)
    ]


def test_a_suite_has_its_episodes_in_order_with_means_over_all_of_them():
    result = suite_result("p", Protocol(trials=2, seed=3), TASKS[:2], TRIALS, OFFICIAL)
    assert result["benchmark"] == "LIBEROBenchmark_libero_goal" and result["mode"] == "sync" and result["seed"] == 3
    assert result["metric_keys"] == {"success": "mean"} and result["mean_success"] == 0.6667
    assert result["config"]["episodes_per_task"] == 2 and result["config"]["max_steps"] == TASKS[0].horizon
    first, second = result["tasks"]
    assert (first["task"], second["task"]) == (TASKS[0].prompt, TASKS[1].prompt)
    assert (first["num_episodes"], second["num_episodes"], result["num_episodes_total"]) == (1, 2, 3)
    assert (second["avg_steps"], second["mean_success"]) == (190.0, 0.5)
    assert second["episodes"] == [
        {"episode_id": 0, "metrics": {"success": True}, "steps": 80,
         "context": {"task": TASKS[1].id, "initial_state": 0, "reached": []}},
        {"episode_id": 1, "metrics": {"success": False}, "steps": 300,
         "context": {"task": TASKS[1].id, "initial_state": 1, "reached": ["libero_goal/b"], "fixtures": [[1.0, 2.0]]}},
    ]  # fmt: skip


def test_a_file_for_each_suite_and_a_row(tmp_path):
    written = write_leaderboard(tmp_path, "server x:1: {a}", Protocol(trials=2), TASKS, TRIALS, OFFICIAL)
    names = [path.name for path in written]
    assert names == ["LIBEROBenchmark_libero_goal.json", "LIBEROBenchmark_libero_10.json", "row.json"]
    assert all(path.parent == tmp_path / "leaderboard" for path in written)
    for path in written[:2]:
        value = json.loads(path.read_text())
        assert {"benchmark", "mode", "harness_version", "created_at", "tasks", "config"} <= set(value)
        assert re.match(r"\d{4}-\d\d-\d\dT", value["created_at"])
    row = json.loads(written[2].read_text())
    assert REQUIRED <= set(row) <= ALLOWED
    assert row["model"] == "server_x_1_a" and row["benchmark"] == "libero" and row["weight_type"] == "finetuned"
    assert re.match(r"^((opus|sonnet|haiku) \d+\.\d+|@[\w-]+|human)$", row["curated_by"])
    assert row["suite_scores"] == {"libero_goal": 66.67, "libero_10": 0.0} and row["overall_score"] is None


def test_the_mean_of_the_four_suites_ranks_and_the_fifth_does_not_count():
    rates = {"libero_spatial": 40, "libero_object": 50, "libero_goal": 25, "libero_10": 10}
    tasks, trials = all_of(STANDARD, lambda suite, trial: trial < rates[suite])
    more, others = all_of(["libero_90"], lambda *_: False)
    row = leaderboard_row("p", STANDARD_PROTOCOL, [*tasks, *more], [*trials, *others], OFFICIAL)
    expected = {"libero_spatial": 80.0, "libero_object": 100.0, "libero_goal": 50.0, "libero_10": 20.0}
    assert row["suite_scores"] == {**expected, "libero_90": 0.0}
    assert row["overall_score"] == 62.5 and row["task_scores"] == {}


@pytest.mark.parametrize(
    ("protocol", "circumstances", "words"),
    [
        (Protocol(), OFFICIAL, "images of the renderer fast, not the official pixels"),
        (Protocol(renderer="benchmark", physics="fast"), OFFICIAL, "physics fast"),
        (Protocol(renderer="benchmark", split="wide"), OFFICIAL, "split wide"),
        (Protocol(renderer="benchmark", fixtures="fixed"), OFFICIAL, "fixtures fixed"),
        (STANDARD_PROTOCOL, Circumstances("plain geometry", False), "plain geometry"),
        (Protocol(renderer="benchmark", trials=10), OFFICIAL, "fewer than 50 rollouts a task"),
    ],
)
def test_another_protocol_is_not_ranked_and_says_why(protocol, circumstances, words):
    tasks, trials = all_of(STANDARD, trials=protocol.trials)
    row = leaderboard_row("p", protocol, tasks, trials, circumstances)
    assert row["overall_score"] is None and row["task_scores"] == {"reported_avg": 100.0}
    assert words in row["notes"]


def test_missing_episodes_are_not_ranked():
    tasks, trials = all_of(STANDARD)
    row = leaderboard_row("p", STANDARD_PROTOCOL, tasks, trials[:-1], OFFICIAL)
    assert row["overall_score"] is None and "not all of libero_10" in row["notes"]
