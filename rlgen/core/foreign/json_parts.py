"""Values of JSON files that others may have written, checked as they are read.

    entries = open_json(folder / "episodes.json", "export the dataset again")
    steps = [entry.member("steps").integer(1, 100_000) for entry in entries.elements(most=1_000_000)]

What is not as expected is a `UserError` of one line with the file, the place in it and the value:
`episodes.json: [3].steps is -1, expected an integer from 1 to 100000; export the dataset again`.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rlgen.core.errors import UserError, first_line
from rlgen.core.files import parse_json, read_json, read_text

LARGEST_INTEGER = 1 << 53
LONGEST_TEXT = 100_000
_SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True)
class JsonPart:
    """A value in a JSON file.

    Attributes:
      value: as parsed.
      file: that it is in.
      place: of the value in the file, such as `[3].steps`; empty for all of it.
      advice: end of a message: what to do about a damaged file.
    """

    value: Any
    file: Path
    place: str = ""
    advice: str = "fetch or export it again"

    def member(self, *names: str) -> "JsonPart":
        """Returns a member of an object, by the first of `names` that it has."""
        found = self.optional(*names)
        if found is None:
            raise self.error(f"an object with {names[0]!r}")
        return found

    def optional(self, *names: str) -> "JsonPart | None":
        """Returns a member of an object, by the first of `names` that it has; None where it has none or null."""
        if not isinstance(self.value, dict):
            raise self.error("an object")
        name = next((name for name in names if self.value.get(name) is not None), None)
        return None if name is None else self._inside(self.value[name], f".{name}")

    def members(self, most: int = 10_000) -> "dict[str, JsonPart]":
        """Returns all members of an object, `most` at most."""
        if not isinstance(self.value, dict) or len(self.value) > most:
            raise self.error(f"an object of at most {most} members")
        return {name: self._inside(value, f".{name}") for name, value in self.value.items()}

    def elements(self, most: int) -> "list[JsonPart]":
        """Returns the elements of a list, `most` at most."""
        if not isinstance(self.value, list):
            raise self.error("a list")
        if len(self.value) > most:
            raise UserError(
                f"{self.file}: {self._named()} has {len(self.value)} elements, expected at most {most}; {self.advice}"
            )
        return [self._inside(value, f"[{index}]") for index, value in enumerate(self.value)]

    def text(self, longest: int = LONGEST_TEXT) -> str:
        """Returns a text of at most `longest` characters."""
        if not isinstance(self.value, str) or len(self.value) > longest:
            raise self.error(f"a text of at most {longest} characters")
        return self.value

    def integer(self, low: int = 0, high: int = LARGEST_INTEGER) -> int:
        """Returns an integer from `low` to `high`, also where it is written as a text, as protobuf's JSON does."""
        value = self.value
        if isinstance(value, str) and re.fullmatch(r"-?\d{1,19}", value):
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise self.error(f"an integer from {low} to {high}")
        return value

    def plain_integer(self, low: int = 0, high: int = LARGEST_INTEGER) -> int:
        """Returns an integer from `low` to `high` that is written as a number."""
        if type(self.value) is not int:
            raise self.error(f"an integer from {low} to {high}")
        return self.integer(low, high)

    def number(self) -> float:
        """Returns a finite number."""
        if not _is_finite(self.value):
            raise self.error("a finite number")
        return float(self.value)

    def numbers(self, most: int = 1_000_000) -> list[float]:
        """Returns a list of finite numbers, `most` at most."""
        if not isinstance(self.value, list) or len(self.value) > most:
            raise self.error(f"a list of at most {most} numbers")
        if not all(map(_is_finite, self.value)):
            raise self.error("a list of finite numbers")
        return [float(value) for value in self.value]

    def path(self) -> str:
        """Returns the path of a file in the folder of a dataset, relative to it."""
        text = self.text(1000)
        path = PurePosixPath(text)
        if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in text or "\\" in text:
            raise self.error("the name of a file in the dataset's own folder")
        return text

    def error(self, expected: str) -> UserError:
        """Returns the error for a value that is not what was expected."""
        return UserError(f"{self.file}: {self._named()} is {_short(self.value)}, expected {expected}; {self.advice}")

    def _inside(self, value: Any, step: str) -> "JsonPart":
        return JsonPart(value, self.file, f"{self.place}{step}", self.advice)

    def _named(self) -> str:
        return self.place.removeprefix(".")[-200:] or "its content"


def open_json(path: Path, advice: str) -> JsonPart:
    """Reads a JSON file.

    Args:
      path: of the file.
      advice: end of a message: what to do where the file is damaged.

    Raises:
      UserError: it is missing, no JSON, too large, or nested too deeply.
    """
    try:
        return JsonPart(read_json(path), path, advice=advice)
    except (OSError, ValueError) as error:
        raise UserError(f"{path.parent}: no readable {path.name} ({_reason(error)}); {advice}") from error


def open_json_lines(path: Path, advice: str) -> JsonPart:
    """Reads a file with a JSON value in each line, as a list of them; arguments and errors as of `open_json`."""
    try:
        lines = (line for line in read_text(path).split("\n") if line.strip())
        return JsonPart(parse_json(f"[{','.join(lines)}]"), path, advice=advice)
    except (OSError, ValueError) as error:
        raise UserError(f"{path.parent}: no readable {path.name} ({_reason(error)}); {advice}") from error


def json_text(text: str | bytes, path: Path, place: str, advice: str) -> JsonPart:
    """Parses JSON that stands in another file.

    Args:
      text: to parse.
      path: of the file.
      place: of the text in it.
      advice: end of a message.

    Raises:
      UserError: it is no JSON, or nested too deeply.
    """
    try:
        return JsonPart(parse_json(text), path, place, advice)
    except ValueError as error:
        raise UserError(f"{path}: {place} is no readable JSON ({first_line(error)}); {advice}") from error


def _is_finite(value: Any) -> bool:
    if type(value) is int:
        return abs(value) <= LARGEST_INTEGER
    return type(value) is float and math.isfinite(value)


def _reason(error: Exception) -> str:
    return (error.strerror or first_line(error)) if isinstance(error, OSError) else first_line(error)


def _short(value: Any) -> str:
    """Returns a value as a message shows it; of large ones only the kind, for they may be nested or long."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = repr(value) if isinstance(value, str | float | bool | None) else "a large integer"
    if type(value) is int and abs(value) < 10**30:
        text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
