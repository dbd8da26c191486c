import json

import pytest

from rlgen.core.errors import UserError
from rlgen.evaluation.protocol import Protocol
from rlgen.evaluation.records import Records, TrialRecord, write_report

TRIALS = [
    TrialRecord("libero_goal/a", 0, 0, True, 80),
    TrialRecord("libero_goal/a", 1, 1, False, 300, ("libero_goal/b",)),
    TrialRecord("libero_goal/b", 0, 0, True, 90),
    TrialRecord("libero_object/c", 0, 0, False, 280),
]


def test_finished_trials_are_read_again_and_a_cut_line_is_not(tmp_path):
    first = Records(tmp_path / "e", {"policy": "p"})
    first.append(TRIALS[:2])
    first.append(TRIALS[2:3])
    path = tmp_path / "e" / "episodes.jsonl"
    path.write_text(path.read_text() + json.dumps({"task": "libero_goal/b"})[:12])
    again = Records(tmp_path / "e", {"policy": "p"})
    assert again.trials == TRIALS[:3] and again.done("libero_goal/a") == {0, 1}
    again.append(TRIALS[3:])
    assert Records(tmp_path / "e", {"policy": "p"}).trials == TRIALS


def test_another_evaluation_is_not_mixed_in(tmp_path):
    Records(tmp_path / "e", {"policy": "p", "protocol": Protocol().to_json()}).append(TRIALS)
    with pytest.raises(UserError, match="another protocol"):
        Records(tmp_path / "e", {"policy": "p", "protocol": Protocol(replan=8).to_json()})
    with pytest.raises(UserError, match=r"another protocol \(fixtures redraw, not fixed\)"):
        Records(tmp_path / "e", {"policy": "p", "protocol": Protocol(fixtures="fixed").to_json()})
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "mine").write_text("x")
    with pytest.raises(UserError, match="is not an evaluation"):
        Records(tmp_path / "f", {})


@pytest.mark.parametrize("description", ["{}", '{"precision": 0.9}', "[1]", "not JSON"])
@pytest.mark.parametrize("lines", ['{"epoch": 1}\n', "a,b\n"])
def test_results_of_somebody_are_left_alone(tmp_path, description, lines):
    (tmp_path / "evaluation.json").write_text(description)
    (tmp_path / "episodes.jsonl").write_text(lines)
    with pytest.raises(UserError, match="choose another --out"):
        Records(tmp_path, {"policy": "p"})
    assert (tmp_path / "evaluation.json").read_text() == description
    assert (tmp_path / "episodes.jsonl").read_text() == lines


def test_trials_that_are_none_are_one_line(tmp_path):
    Records(tmp_path, {"policy": "p"})
    (tmp_path / "episodes.jsonl").write_text('{"epoch": 1}\n')
    with pytest.raises(UserError, match=r"episodes\.jsonl is not of an evaluation"):
        Records(tmp_path, {"policy": "p"})


def test_an_evaluation_of_before_there_was_a_choice_had_fixed_fixtures(tmp_path):
    described = {"policy": "p", "protocol": Protocol(fixtures="fixed").to_json()}
    Records(tmp_path / "e", described).append(TRIALS)
    before = json.loads((tmp_path / "e/evaluation.json").read_text())
    del before["protocol"]["fixtures"]
    (tmp_path / "e/evaluation.json").write_text(json.dumps(before))
    assert Records(tmp_path / "e", described).trials == TRIALS
    with pytest.raises(UserError, match=r"another protocol \(fixtures fixed, not redraw\)"):
        Records(tmp_path / "e", {"policy": "p", "protocol": Protocol().to_json()})


def test_where_the_fixtures_stood_is_in_the_line_of_a_trial_that_drew_them(tmp_path):
    drawn = TrialRecord("libero_goal/a", 0, 0, True, 80, (), [[0.1, 0.2, 0.9, 1.0, 0.0, 0.0, 0.0]])
    Records(tmp_path / "e", {"policy": "p"}).append([drawn, TRIALS[1]])
    lines = [json.loads(line) for line in (tmp_path / "e/episodes.jsonl").read_text().splitlines()]
    assert lines[0]["fixtures"] == drawn.fixtures and "fixtures" not in lines[1]
    assert Records(tmp_path / "e", {"policy": "p"}).trials == [drawn, TRIALS[1]]


def test_the_report_has_rates_intervals_confusion_and_the_protocol(tmp_path):
    report = write_report(tmp_path, "p", Protocol(), TRIALS)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert (report["all"]["successes"], report["all"]["trials"]) == (2, 4)
    assert report["suites"]["libero_goal"]["successes"] == 2 and report["suites"]["libero_goal"]["trials"] == 3
    assert report["tasks"]["libero_goal/a"]["low"] < 0.5 < report["tasks"]["libero_goal/a"]["high"]
    assert report["confusion"] == {"libero_goal/a": {"libero_goal/b": 1}}
    page = (tmp_path / "report.md").read_text()
    protocol = ("| settling steps | 10 |", "| replan | 5 |", "180 degrees", "| fixtures | redraw |")
    for words in (*protocol, "1/2 = 50 %", "libero_goal/b | 1"):
        assert words in page


@pytest.mark.parametrize("name", ["trials", "replan", "image_size"])
def test_settings_of_zero_are_refused(name):
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')} is 0"):
        Protocol(**{name: 0})
