"""A reader of the benchmark's task files (BDDL), which are nested lists."""

import re
from dataclasses import dataclass
from pathlib import Path

from rlgen.core.errors import UserError

Expression = str | list["Expression"]


@dataclass(frozen=True)
class Problem:
    """The contents of a BDDL file.

    Attributes:
      objects: names of the movable objects.
      fixtures: names of the fixtures, including tables and floors.
      goal: atoms that must all hold, e.g. `("On", "plate_1", "main_table_stove_front_region")`.
      initial: atoms that hold at the start.
    """

    objects: tuple[str, ...]
    fixtures: tuple[str, ...]
    goal: tuple[tuple[str, ...], ...]
    initial: tuple[tuple[str, ...], ...]


def read_problem(path: Path) -> Problem:
    """Reads a BDDL file.

    Raises:
      UserError: the file is missing or is not BDDL.
    """
    try:
        sections = {part[0]: part[1:] for part in parse(path.read_text())[1:] if isinstance(part, list)}
        [goal] = sections[":goal"]
        return Problem(
            objects=_names(sections[":objects"]),
            fixtures=_names(sections[":fixtures"]),
            goal=tuple(tuple(atom) for atom in (goal[1:] if goal[0].lower() == "and" else [goal])),
            initial=tuple(tuple(atom) for atom in sections[":init"]),
        )
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"task file {path} cannot be read as BDDL ({error}); reinstall hf-libero") from error


def parse(text: str) -> list[Expression]:
    """Parses a text of one expression in parentheses; comments (`;`) are dropped.

    Raises:
      ValueError: the parentheses do not match.
    """
    stack: list[list[Expression]] = [[]]
    for token in re.findall(r"[()]|[^\s()]+", re.sub(r";.*", "", text)):
        if token == "(":
            stack.append([])
        elif token == ")" and len(stack) > 1:
            stack[-2].append(stack.pop())
        elif token == ")":
            raise ValueError("a closing parenthesis without an opening one")
        else:
            stack[-1].append(token)
    if len(stack) != 1 or len(stack[0]) != 1 or not isinstance(stack[0][0], list):
        raise ValueError("expected one expression in parentheses")
    return stack[0][0]


def _names(tokens: list[Expression]) -> tuple[str, ...]:
    """Returns the names of `a_1 a_2 - a b_1 - b`, without the categories."""
    names = [token for before, token in zip(["", *tokens], tokens, strict=False) if token != "-" and before != "-"]
    return tuple(str(name) for name in names)
