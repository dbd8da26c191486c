"""Intervals against published values and closed forms."""

import json
import math

import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.core.stats import SuccessRate, newcombe, wilson

Z95 = 1.959963984540054


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # Newcombe 1998 (single proportion), table I, score method without continuity correction.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_published_values(successes, trials, low, high):
    interval = wilson(successes, trials)
    assert interval.low == pytest.approx(low, abs=6e-5)
    assert interval.high == pytest.approx(high, abs=6e-5)


@pytest.mark.parametrize("trials", [1, 7, 50, 10_000])
def test_wilson_at_the_ends_has_its_closed_form(trials):
    none, all_of_them = wilson(0, trials), wilson(trials, trials)
    assert none.low == 0.0
    assert all_of_them.high == 1.0
    assert none.high == pytest.approx(Z95**2 / (trials + Z95**2), rel=1e-12)
    assert all_of_them.low == pytest.approx(trials / (trials + Z95**2), rel=1e-12)


def test_wilson_bounds_are_where_the_score_test_just_rejects():
    for successes, trials in [(3, 11), (48, 50), (26, 50)]:
        interval = wilson(successes, trials)
        for bound in (interval.low, interval.high):
            score = (successes / trials - bound) / math.sqrt(bound * (1 - bound) / trials)
            assert abs(score) == pytest.approx(Z95, rel=1e-9)


def test_wilson_is_mirrored_and_wider_for_more_confidence():
    one, other = wilson(13, 50), wilson(37, 50)
    assert (one.low, one.high) == (pytest.approx(1 - other.high), pytest.approx(1 - other.low))
    sure = wilson(13, 50, confidence=0.99)
    assert sure.low < one.low < one.high < sure.high


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [  # Newcombe 1998 (difference), table II, method 10.
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_newcombe_gives_published_values(first, second, low, high):
    interval = newcombe(SuccessRate(*first), SuccessRate(*second))
    assert interval.low == pytest.approx(low, abs=6e-5)
    assert interval.high == pytest.approx(high, abs=6e-5)


def test_a_rate_survives_json():
    rate = SuccessRate(48, 50)
    written = json.loads(json.dumps(rate.to_json()))
    assert set(written) == {"successes", "trials", "low", "high"}
    assert (written["low"], written["high"]) == (rate.low, rate.high)
    assert SuccessRate.from_json(written) == rate
    assert str(rate) == "48/50 = 96 % (87 to 99 %)"


def test_counts_from_numpy_can_be_written():
    rate = SuccessRate(np.int64(3), np.int64(4))
    assert json.loads(json.dumps(rate.to_json()))["successes"] == 3


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (1, -1), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(UserError, match="expected"):
        wilson(successes, trials)
    with pytest.raises(UserError, match="expected"):
        SuccessRate(successes, trials)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, float("nan")])
def test_impossible_confidence_is_refused(confidence):
    with pytest.raises(UserError, match="between 0 and 1"):
        wilson(3, 5, confidence)
