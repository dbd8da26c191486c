"""Numbers as text, at the values where formats change."""

import pytest

from rlgen.core.text import MISSING, count, date_and_time, duration, number, percent, size


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0.00 s"),
        (0.994, "0.99 s"),
        (0.996, "1.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (63, "1 min 03 s"),
        (3599.6, "1 h 00 min"),
        (3600 * 2 + 5 * 60 + 29, "2 h 05 min"),
        (float("nan"), MISSING),
    ],
)
def test_duration(seconds, expected):
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.444, "44 %"),
        (0.997, "99.7 %"),
        (0.99999, ">99.9 %"),
        (0.003, "0.3 %"),
        (1e-5, "<0.1 %"),
        (float("nan"), MISSING),
    ],
)
def test_percent_says_all_or_none_only_if_it_is(fraction, expected):
    assert percent(fraction) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (86.73, "86.7"),
        (999.6, "1000"),
        (12345.6, "12\u202f346"),
        (0.066, "0.0660"),
        (-0.5, "-0.500"),
        (3.2e-7, "3.20e-7"),
        (4.1e9, "4.10e9"),
        (float("inf"), MISSING),
    ],
)
def test_number_keeps_three_digits(value, expected):
    assert number(value) == expected


def test_count_and_size():
    assert (count(9999), count(10_000), count(1_234_567)) == ("9999", "10\u202f000", "1\u202f234\u202f567")
    assert (size(999), size(1000), size(999_600), size(14_300_000)) == ("999 B", "1.0 KB", "1.0 MB", "14 MB")


def test_a_time_is_shown_alike_on_all_pages():
    assert date_and_time(1_777_636_859.9) == "2026-05-01 12:00 UTC"
