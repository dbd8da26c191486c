"""Ranges of the numbers in settings: annotations of fields, and the check that every value passes.

    @dataclass(frozen=True)
    class Options(Settings):
        port: Port = 8000

A class of settings checks its numbers when it is made, so that the command line, stored JSON and Python have one rule.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from rlgen.core.errors import UserError

LARGEST = 1_000_000_000
"""The largest of any count: a few digits too many are a mistake, and would take all memory."""


class NumberError(UserError):
    """A number outside of its range. The message begins with the setting's name."""


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`.

    Attributes:
      low: the smallest.
      high: the largest.
      above: `low` itself is not one of them.
      below: `high` itself is not one of them.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False

    def has(self, value: Any) -> bool:
        """Returns whether a number is one of them."""
        # NaN fails every comparison.
        excluded = (self.above and value == self.low) or (self.below and value == self.high)
        return self.low <= value <= self.high and not excluded

    def expected(self, value: object = None) -> str:
        """Returns what is expected in place of `value`, such as `1 to 512`, or `1 or more` for a count."""
        low = f"more than {self.low:.12g}" if self.above else f"{self.low:.12g}"
        if self.high == LARGEST and not (isinstance(value, int | float) and value > self.high):
            return low if self.above else f"{low} or more"
        high = f"{self.high:.12g}"
        if self.below:
            return f"{low} or more, less than {high}"
        return f"{low}, at most {high}" if self.above else f"{low} to {high}"


Seed = Annotated[int, Range(0, 2**32 - 1)]
Port = Annotated[int, Range(0, 65535)]
Natural = Annotated[int, Range(0, LARGEST)]
Count = Annotated[int, Range(1, LARGEST)]
Workers = Annotated[int, Range(1, 1024)]
"""Threads, processes, connections."""
Environments = Annotated[int, Range(1, 65536)]
Batch = Annotated[int, Range(1, 10_000_000)]
Shards = Annotated[int, Range(1, 100_000)]
Pixels = Annotated[int, Range(1, 4096)]
Shift = Annotated[int, Range(0, 4096)]
Width = Annotated[int, Range(1, 65536)]
"""Of a layer, and the number of layers."""
Chunk = Annotated[int, Range(1, 1000)]
"""Actions in a chunk, and denoising steps."""
Seconds = Annotated[float, Range(0, 86_400, above=True)]
Milliseconds = Annotated[float, Range(0, 60_000)]
Megabytes = Annotated[int, Range(1, 100_000)]
Fraction = Annotated[float, Range(0, 1)]
FractionBelowOne = Annotated[float, Range(0, 1, below=True)]
PositiveFraction = Annotated[float, Range(0, 1, above=True)]
LearningRate = Annotated[float, Range(0, 1)]
Weight = Annotated[float, Range(0, LARGEST)]
Positive = Annotated[float, Range(0, LARGEST, above=True)]


class Settings:
    """A dataclass whose numbers are checked when it is made.

    Attributes:
      section: what precedes the names of its fields in messages, such as `ppo.`.
    """

    section: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name, annotation in number_fields(type(self)).items():
            check_numbers(f"{self.section}{name}".replace("_", "-"), annotation, getattr(self, name))
        for name, choices in choice_fields(type(self)).items():
            if getattr(self, name) not in choices:
                setting = f"{self.section}{name}".replace("_", "-")
                raise UserError(f"{setting} {getattr(self, name)!r}: expected {' or '.join(map(repr, choices))}")


@cache
def number_fields(kind: type) -> Mapping[str, Any]:
    """Returns the annotations of a dataclass's fields that hold numbers, by the fields' names."""
    hints = get_type_hints(kind, include_extras=True)
    named = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    return {name: annotation for name, annotation in named.items() if next(numbers_of(annotation), None)}


@cache
def choice_fields(kind: type) -> Mapping[str, tuple[Any, ...]]:
    """Returns what a dataclass's fields may be that are one of a few literals or None, by the fields' names."""
    hints = get_type_hints(kind)
    named = {field.name: _literals(hints[field.name]) for field in dataclasses.fields(kind)}
    return {name: choices for name, choices in named.items() if choices}


def _literals(annotation: Any) -> tuple[Any, ...]:
    """Returns the literals of an annotation, None among them where it is allowed; none for other annotations."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    found = [literal for part in parts for literal in _literals(part)]
    return (*([None] if type(None) in parts else []), *found) if found else ()


def numbers_of(annotation: Any) -> Iterator[tuple[type, Range | None]]:
    """Yields type and range of the numbers in an annotation, such as `tuple[Count, ...] | None`."""
    if annotation in (int, float):
        yield annotation, None
    elif get_origin(annotation) is Annotated:
        base, *notes = get_args(annotation)
        ranges = [note for note in notes if isinstance(note, Range)]
        if ranges:
            yield base, ranges[0]
        else:
            yield from numbers_of(base)
    elif get_origin(annotation) in (Union, UnionType, tuple):
        for part in get_args(annotation):
            yield from numbers_of(part)


def check_numbers(name: str, annotation: Any, value: Any) -> None:
    """Checks that a value is what its annotation says, as far as that are numbers.

    Args:
      name: of the setting, for the message.
      annotation: a number with a `Range`, or tuples of these, or None beside them.
      value: any.

    Raises:
      NumberError: a number is of another type, not finite or outside of its range.
    """
    choices = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    if value is None and type(None) in choices:
        return
    [choice] = [choice for choice in choices if choice is not type(None)]
    if get_origin(choice) is tuple:
        _check_tuple(name, get_args(choice), value)
        return
    [(kind, allowed)] = numbers_of(choice)
    if not _is_number(kind, value) or not (allowed is None or allowed.has(value)):
        raise NumberError(f"{name} {value}: expected {describe(choice, value)}")


def describe(annotation: Any, value: object = None) -> str:
    """Returns what an annotation expects in place of a value that does not fit, in words."""
    (kind, allowed), *others = numbers_of(annotation)
    one = "a whole number" if kind is int else "a number"
    words = [] if _is_number(kind, value) else [f"{1 + len(others)} numbers" if others else one]
    return ", ".join(words + ([] if allowed is None else [allowed.expected(value)]))


def _is_number(kind: type, value: object) -> bool:
    return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)


def is_one_of(annotation: Any, value: Any) -> bool:
    """Returns whether a value is of an annotated type: a class, literals, or a union of these."""
    if get_origin(annotation) in (Union, UnionType):
        return any(is_one_of(part, value) for part in get_args(annotation))
    if get_origin(annotation) is Literal:
        return value in get_args(annotation)
    return isinstance(value, annotation)


def _check_tuple(name: str, parts: tuple[Any, ...], value: Any) -> None:
    if not isinstance(value, tuple | list):
        raise NumberError(f"{name} {value}: expected several numbers")
    kinds = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
    if len(kinds) != len(value):
        raise NumberError(f"{name} {' '.join(map(str, value))}: expected {len(kinds)} numbers")
    for kind, entry in zip(kinds, value, strict=True):
        check_numbers(name, kind, entry)
