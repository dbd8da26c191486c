"""Damage to bytes and to JSON, as disks, networks, people and attackers do it."""

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

BYTE_KINDS = ("bits", "bytes", "truncated", "zeroed", "repeated")
JSON_KINDS = ("value", "number", "removed", "exchanged", "renamed", "nested")
# What is put in place of a value in JSON.
HOSTILE = (
    None, True, False, -1, 0, 1, 2.5, 1e308, 10**12, 10**400, "", "x", "0", "../../outside", "/etc/hostname", "a\x00b",
    "{SPLIT.__class__}", "x" * 200_000, [], {}, [[]], [1, "2", None], {"x": {}}, float("nan"), float("inf"),
)  # fmt: skip


def damage_bytes(
    data: bytes, kind: str, random: np.random.Generator, positions: Sequence[int] | np.ndarray | None = None
) -> bytes:
    """Returns bytes with one kind of damage at a random position.

    Args:
      data: the whole bytes.
      kind: one of `BYTE_KINDS`.
      random: draws the position.
      positions: among which bits are flipped; any by default.
    """
    changed = bytearray(data)
    if not changed:
        return b"x"
    if kind == "bits":
        chosen = range(len(changed)) if positions is None else positions
        for position in random.choice(chosen, random.integers(1, 9)):
            changed[position] ^= 1 << int(random.integers(8))
        return bytes(changed)
    start = int(random.integers(len(changed)))
    if kind == "truncated":
        del changed[start:]
        return bytes(changed)
    part = slice(start, start + (64 if kind == "bytes" else int(2 ** random.integers(4, 16))))
    if kind == "bytes":
        changed[part] = random.bytes(len(changed[part]))
    elif kind == "zeroed":
        changed[part] = bytes(len(changed[part]))
    elif kind == "repeated":
        changed[start:start] = changed[part]
    else:
        raise ValueError(f"kind {kind!r}: expected one of {BYTE_KINDS}")
    return bytes(changed)


def damage_json(value: Any, kind: str, random: np.random.Generator) -> str:
    """Returns the text of JSON with one kind of damage at a random place.

    Args:
      value: the whole value.
      kind: one of `JSON_KINDS`.
      random: draws the place.
    """
    changed = copy.deepcopy(value)
    places = [(parent, key) for parent, key in _places(changed) if _suits(parent[key], kind)]
    if not places:
        return "[" * 100_000
    parent, key = places[random.integers(len(places))]
    if kind == "value":
        parent[key] = copy.deepcopy(HOSTILE[random.integers(len(HOSTILE))])
    elif kind == "number":
        parent[key] = parent[key] + int(random.integers(-3, 4)) if random.random() < 0.5 else parent[key] * -1.5
    elif kind == "removed":
        del parent[key]
    elif kind == "exchanged":
        other, name = places[random.integers(len(places))]
        with suppress(KeyError, IndexError):  # one may be inside of the other
            parent[key], other[name] = copy.deepcopy(other[name]), copy.deepcopy(parent[key])
    elif kind == "renamed":
        parent[f"{key}_" if isinstance(parent, dict) else key] = parent.pop(key) if isinstance(parent, dict) else "x"
    elif kind == "nested":
        parent[key] = "PLACE"
        depth = int(10 ** random.integers(1, 6))
        return json.dumps(changed).replace('"PLACE"', "[" * depth + "]" * depth)
    else:
        raise ValueError(f"kind {kind!r}: expected one of {JSON_KINDS}")
    return json.dumps(changed)


def _suits(value: Any, kind: str) -> bool:
    return kind != "number" or (isinstance(value, int | float) and not isinstance(value, bool))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yields every object and list in a value with each of its keys."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])
