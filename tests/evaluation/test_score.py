"""Scores of policies, and what one changed against another over the same trials."""

from dataclasses import replace

import numpy as np
import pytest

from rlgen.core.stats import SuccessRate
from rlgen.data.metrics.quality import recorded_quality
from rlgen.data.metrics.score import ScoreSummary, change, make_score
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.evaluation.score import score_episodes, score_trials
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.rollouts import make_trials, run_episodes


def rows(*values):
    """Rows of `score_trials`: length, jerk and no-ops of successes, None for failures."""
    return np.array([(0.0,) * 4 if value is None else (1.0, *value) for value in values])


class Again:
    """An actor that repeats actions, by the seed of the trial."""

    def __init__(self, actions):
        self.actions = actions

    def reset(self, seeds):
        self.rows = [self.actions[seed] for seed in seeds.tolist()]

    def __call__(self, observation):
        padded = [
            np.concatenate([row[step:], np.zeros((9, 7))])
            for row, step in zip(self.rows, observation.step, strict=True)
        ]
        return np.stack([row[:8] for row in padded])


BEFORE = make_score(rows((100, 8, 2), (120, 10, 0), None, (90, 6, 1), None))
AFTER = make_score(rows((80, 4, 0), (90, 7, 0), (300, 99, 9), None, (70, 1, 0)))


@pytest.mark.unit
def test_success_is_compared_over_all_trials_and_quality_over_those_of_both():
    found = change(BEFORE, AFTER)
    assert {name: part["trials"] for name, part in found.items()} == {
        "success": 5, "length": 2, "mean_squared_jerk": 2, "noops": 2,
    }  # fmt: skip
    assert found["success"]["difference"] == pytest.approx(0.2)
    length = found["length"]
    assert (length["before"], length["after"], length["difference"]) == (110, 85, -25)
    # Of two pairs, whose differences are -20 and -30, a resample has one, the other or their mean.
    assert (length["low"], length["high"]) == (-30, -20)
    assert found["mean_squared_jerk"]["difference"] == -3.5


@pytest.mark.unit
def test_pairs_take_out_what_placements_do():
    # Lengths differ by 200 between placements, and by 5 between policies.
    lengths = np.linspace(60, 260, 50)
    before = make_score(np.stack([np.ones(50), lengths, np.ones(50), np.zeros(50)], axis=1))
    after = make_score(np.stack([np.ones(50), lengths - 5 + np.tile([1, -1], 25), np.ones(50), np.zeros(50)], axis=1))
    length = change(before, after)["length"]
    assert length["difference"] == pytest.approx(-5) and -5.5 < length["low"] < length["high"] < -4.5


@pytest.mark.unit
def test_without_a_common_success_nothing_is_said_of_quality():
    found = change(BEFORE, make_score(rows(None, None, (5, 5, 5), None, None)))
    assert found["length"] == dict.fromkeys(("before", "after", "difference", "low", "high")) | {"trials": 0}
    assert found["success"]["difference"] == pytest.approx(-0.4)


@pytest.mark.unit
def test_a_summary_survives_json_and_an_older_one_opens():
    summary = BEFORE.summary()
    assert ScoreSummary.from_json(summary.to_json()) == summary
    assert (summary.rate, summary.length, summary.noops) == (SuccessRate(3, 5), pytest.approx(310 / 3), 1.0)
    old = ScoreSummary.from_json({"successes": 3, "trials": 5, "low": 0.2, "high": 0.9})
    assert old.rate == SuccessRate(3, 5) and old.length is None


def test_scores_are_the_metrics_of_the_data_and_add_up_over_shares(placeholder_scene):
    scene, options = placeholder_scene, {"seed": 8, "split": "train", "source": "x", "offset": 2}
    trials = make_trials(2, 50, seed=8, offset=2)
    [episodes] = run_episodes(
        scene, ScriptedExpert(scene, clean=True), trials, split="train", source="x", width=2, physics="fast"
    )
    again = Again({trial.seed: episode.actions for trial, episode in zip(trials, episodes, strict=True)})
    parts = [score_trials(scene, again, 2, physics="fast", share=(part, 2), **options) for part in range(2)]
    score = make_score(sum(parts))
    failed = replace(episodes[0], success=False)
    assert np.isnan(score_episodes(scene, [failed]).quality).all()
    known = score_episodes(scene, episodes)
    np.testing.assert_array_equal(score.success, known.success)
    np.testing.assert_array_equal(score.quality, known.quality)
    quality = recorded_quality(episodes, [Observer(scene)(episode.states).robot for episode in episodes])
    summary = score.summary()
    assert (summary.length, 2 * summary.noops) == (quality.length.mean, quality.noops)
    assert summary.mean_squared_jerk == pytest.approx(quality.mean_squared_jerk.mean)
