"""Values of JSON that others may have written."""

import json

import pytest

from rlgen.core.errors import UserError
from rlgen.core.files import LARGEST_JSON, MOST_CONTAINERS, read_json
from rlgen.core.foreign.json_parts import JsonPart, json_text, open_json, open_json_lines


@pytest.fixture
def part(tmp_path):
    def make(value) -> JsonPart:
        path = tmp_path / "x.json"
        path.write_text(json.dumps(value))
        return open_json(path, "do this")

    return make


def test_a_message_has_file_place_value_and_advice(part, tmp_path):
    entries = part([{"steps": 3}, {"steps": -1}]).elements(10)
    assert entries[0].member("steps").integer(1, 5) == 3
    with pytest.raises(UserError) as caught:
        entries[1].member("steps").integer(1, 5)
    expected = f"{tmp_path / 'x.json'}: [1].steps is -1, expected an integer from 1 to 5; do this"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("x", JsonPart.integer),
        ("1e3", JsonPart.integer),
        (2.0, JsonPart.integer),
        (True, JsonPart.integer),
        (10**30, JsonPart.integer),
        ("3", JsonPart.plain_integer),
        (float("nan"), JsonPart.number),
        (10**400, JsonPart.number),
        (True, JsonPart.number),
        ([1, "2"], JsonPart.numbers),
        ([1, float("inf")], JsonPart.numbers),
        ({}, JsonPart.numbers),
        (5, JsonPart.text),
        ("x" * 200_000, JsonPart.text),
        ("/etc/hostname", JsonPart.path),
        ("a/../b", JsonPart.path),
        ("", JsonPart.path),
        ("a\\b", JsonPart.path),
        ("a\0b", JsonPart.path),
        ([], JsonPart.members),
        ({}, lambda part: part.elements(3)),
        ([1, 2, 3, 4], lambda part: part.elements(3)),
        ({"a": None}, lambda part: part.member("a")),
        ([], lambda part: part.member("a")),
    ],
)
def test_what_is_not_as_expected_is_one_short_line(part, value, read):
    with pytest.raises(UserError) as caught:
        read(part(value))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600 and "x.json" in str(caught.value)


def test_what_is_as_expected_is_returned(part):
    assert part("12").integer() == 12 and part(-3).integer(-5, 0) == -3
    assert part([1, 2.5]).numbers() == [1.0, 2.5]
    assert part("data/chunk-000/file.parquet").path() == "data/chunk-000/file.parquet"
    value = part({"one": 1, "two": None})
    assert value.optional("two") is None and value.optional("uno", "one").integer() == 1
    assert value.member("uno", "one").place == ".one"


def test_json_that_is_too_large_or_too_deep_is_not_parsed(tmp_path):
    path = tmp_path / "x.json"
    for text in (
        "[" * 100_000,
        "[" + "[]," * MOST_CONTAINERS + "[]]",
        " " * (LARGEST_JSON + 1),
        "{",
        b"\xff".decode("latin1"),
    ):
        path.write_text(text, "latin1")
        with pytest.raises(ValueError):
            read_json(path)
        with pytest.raises(UserError, match=r"no readable x\.json"):
            open_json(path, "do this")
    with pytest.raises(UserError, match=r"x\.json: header is no readable JSON"):
        json_text("[" * 100_000, path, "header", "do this")
    with pytest.raises(UserError, match=r"no readable none\.json \(No such file"):
        open_json(tmp_path / "none.json", "do this")


def test_lines_are_the_elements_of_a_list(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": "one\u2028two"}\r\n\n{"a": 3}\n', newline="")
    first, second = open_json_lines(path, "do this").elements(2)
    assert first.member("a").text() == "one\u2028two"
    with pytest.raises(UserError, match=r"x\.jsonl: \[1\]\.a is 3, expected a text .*; do this"):
        second.member("a").text()
    for text in ("{}\n{", "[" * 100_000, "[]\n" * (MOST_CONTAINERS + 1), "\xff"):
        path.write_text(text, "latin1")
        with pytest.raises(UserError, match=r"no readable x\.jsonl"):
            open_json_lines(path, "do this")
