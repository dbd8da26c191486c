"""The label of a dataset: what is in it, who made it and how, for people and for programs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlgen.data.disk import disk_errors
from rlgen.data.shards import file_sha256
from rlgen.errors import UserError
from rlgen.files import read_json, write_bytes, write_json

CARD_JSON = "dataset_card.json"
CARD_TEXT = "DATASET.md"
HEADINGS = {
    "tasks": "Tasks",
    "episodes": "Episodes",
    "steps": "Steps",
    "policy": "Policy",
    "success_rate": "Success rate of the policy, with its interval",
    "initial_states": "Initial states",
    "seeds": "Seeds",
    "mujoco": "MuJoCo",
    "assets": "Assets",
    "view": "View",
    "picture_size": "Picture size",
    "versions": "Versions",
    "quality": "Quality",
    "licence": "Licence",
}


def write_card(directory: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """Writes `DATASET.md` and `dataset_card.json` into a finished dataset.

    Args:
      directory: the dataset, with its shards.
      card: JSON values, with at least the keys of `HEADINGS`; others are written as well. `episodes` must be
        what the dataset says.

    Returns:
      The card as written: `card` and `shards`, the SHA-256 of each.

    Raises:
      ValueError: a key is missing or `episodes` is wrong.
      UserError: no dataset there, or the disk refuses.
    """
    directory = Path(directory)
    missing = [key for key in HEADINGS if key not in card]
    if missing:
        raise ValueError(f"the card of {directory} lacks {', '.join(missing)}")
    held = _episodes(directory)
    if card["episodes"] != held:
        raise ValueError(f"the card says {card['episodes']} episodes, {directory} holds {held}")
    full = {**card, "shards": {path.name: file_sha256(path) for path in _shards(directory)}}
    with disk_errors(directory):
        write_json(directory / CARD_JSON, full)
        write_bytes(directory / CARD_TEXT, _markdown(directory, full).encode())
    return full


def verify_shards(directory: Path) -> list[str]:
    """Compares the shards with the card's hashes; a line for each that is missing, altered or unlisted."""
    directory = Path(directory)
    try:
        expected = dict(read_json(directory / CARD_JSON)["shards"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{directory}: no readable {CARD_JSON}; export the dataset again") from error
    present = {path.name: path for path in _shards(directory)}
    faults = [f"{name}: missing" for name in expected if name not in present]
    faults += [f"{name}: not on the card" for name in present if name not in expected]
    both = [name for name in expected if name in present]
    faults += [f"{name}: altered" for name in both if file_sha256(present[name]) != expected[name]]
    return sorted(faults)


def _shards(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.tfrecord-*-of-*"))


def _episodes(directory: Path) -> int:
    try:
        splits = read_json(directory / "dataset_info.json")["splits"]
        return sum(int(length) for split in splits for length in split["shardLengths"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{directory}: no readable dataset_info.json; export the dataset first") from error


def _markdown(directory: Path, card: Mapping[str, Any]) -> str:
    lines = [f"# {directory.parent.name} {directory.name}", ""]
    for key, value in card.items():
        lines += [f"## {HEADINGS.get(key, key.replace('_', ' ').capitalize())}", "", *_section(value), ""]
    return "\n".join(lines)


def _section(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        rows = [f"| {key} | {_cell(item)} |" for key, item in value.items()]
        return ["| | |", "| --- | --- |", *rows]
    if isinstance(value, list | tuple):
        return [f"- {_cell(item)}" for item in value]
    return [_cell(value)]


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("|", "\\|").replace("\n", " ")
