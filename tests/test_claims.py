"""Verdicts on the paper's claims follow from intervals, and what was not run is open."""

import importlib
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "experiments"))
CLAIMS = importlib.import_module("claims")
sys.path.pop(0)
pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("interval", "bounds", "verdict"),
    [
        pytest.param((0.1, 2.0), (0, 0), "holds", id="above"),
        pytest.param((-2.0, -0.1), (0, 0), "does not", id="below"),
        pytest.param((-1.0, 1.0), (0, 0), "open", id="around"),
        pytest.param((0.0, 0.0), (0, 5), "does not", id="needed-no-difference"),
        pytest.param((-1.0, 6.0), (0, 5), "open", id="needed-undecided"),
        pytest.param((-4.0, 1.0), (-5, -5), "holds", id="as-good"),
        pytest.param((-9.0, -5.5), (-5, -5), "does not", id="worse"),
    ],
)
def test_verdicts(interval, bounds, verdict):
    assert CLAIMS.verdict_of(*interval, holds_above=bounds[0], fails_below=bounds[1]) == verdict


@pytest.fixture
def paper(tmp_path, monkeypatch):
    monkeypatch.setattr(CLAIMS, "PAPER", tmp_path)
    monkeypatch.setattr(CLAIMS, "ABLATED", tmp_path)
    return tmp_path


def quality(length, jerk, noops):
    def around(value):
        return {"mean": value, "low": value - 1, "high": value + 1}

    spread = [0.0, jerk / 1000, 0.0]
    return {
        "length": around(length),
        "mean_squared_jerk": around(jerk),
        "noops_per_4500": noops,
        "action_spread": spread,
    }


def test_data_have_least_of_a_figure_where_no_other_interval_touches_theirs(paper):
    assert CLAIMS._least("length")() is None
    found = {"scripted": quality(140, 90, 3000), "gaussian": quality(101, 50, 0), "diffusion": quality(100, 60, 0)}
    (paper / "quality.json").write_text(json.dumps(found))
    text, verdict = CLAIMS._least("length")()
    assert verdict == "open" and text == "scripted 140, gaussian 101, diffusion 100"
    assert CLAIMS._least("mean_squared_jerk")()[1] == CLAIMS._spread()[1] == "does not"
    assert CLAIMS._noops() == ("scripted 3000, gaussian 0, diffusion 0", "holds")


def test_trainings_are_compared_by_their_pairs(paper):
    def lines(source, share):
        marks = {"task": "1" * int(50 * share) + "0" * (50 - int(50 * share))}
        return [
            {"run": "evaluate", "source": source, "seed": seed, "on": "benchmark", "outcomes": marks}
            for seed in range(3)
        ]

    ledger = paper / "small-libero_spatial.jsonl"
    ledger.write_text("".join(json.dumps(line) + "\n" for line in lines("scripted", 0.5) + lines("diffusion", 0.9)))
    text, verdict = CLAIMS._trained("diffusion", "scripted")()
    assert text.startswith("90.0 % and 50.0 %: +40.0 points (+") and text.endswith("3 seeds") and verdict == "holds"
    assert CLAIMS._trained("scripted", "diffusion")()[1] == "does not"
    assert CLAIMS._trained("diffusion", "gaussian")() is None


def test_a_choice_that_changes_nothing_is_not_needed(paper):
    scores = {
        actor: {"successes": 50, "trials": 50, "length": 9.0, "mean_squared_jerk": 9.0} for actor in ("clone", "expert")
    }
    lines = [
        {"run": run, "task": "libero_goal/2", "seed": seed, "core_seconds": 1.0, **scores}
        for run in ("recipe", "schedule", "sampler")
        for seed in range(3)
    ]
    (paper / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert CLAIMS._ablated("schedule", "cosine", needed=True)()[1] == "does not"
    assert CLAIMS._ablated("sampler", "DDIM, 5 steps", needed=False)()[1] == "holds"
    assert CLAIMS._ablated("network", "U-Net", needed=True)() is None


def test_every_claim_has_a_row_and_a_verdict():
    rows = [row.split(" | ") for row in CLAIMS.claims_table().splitlines()[2:]]
    assert len(rows) == len(CLAIMS.CLAIMS) == len({row[0] for row in rows})
    assert {row[5].removesuffix(" |") for row in rows} <= {"holds", "does not", "open"}
    for row in rows:
        assert row[2] != "not run" or row[5] == "open |"
