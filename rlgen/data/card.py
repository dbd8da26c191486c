"""The card of a dataset: its content and origin, as `DATASET.md` for people and `dataset_card.json` for programs.

The headings and keys are stored in datasets, so they do not change.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError
from rlgen.core.files import disk_errors, write_bytes, write_json
from rlgen.core.foreign.json_parts import open_json
from rlgen.data.index import read_index
from rlgen.data.shards import ADVICE, MANIFEST, MOST_SHARDS, file_sha256, read_manifest

CARD_JSON = "dataset_card.json"
CARD_TEXT = "DATASET.md"
MOST_FILES = 2 * MOST_SHARDS
HEADINGS = {
    "name": "Name",
    "format": "Format",
    "tasks": "Tasks",
    "episodes": "Episodes",
    "steps": "Steps",
    "policy": "Policy",
    "success_rate": "Success rate of the policy, with its interval",
    "initial_states": "Initial states",
    "seeds": "Seeds",
    "replay": "Replay of the exported actions",
    "mujoco": "MuJoCo",
    "assets": "Assets",
    "view": "View",
    "picture_size": "Picture size",  # codespell:ignore
    "versions": "Versions",
    "quality": "Quality",
    "licence": "Licence",
    "shards": "Shards (SHA-256)",
    "descriptions": "Descriptions (SHA-256)",
}
# Read from the dataset itself, so they are not passed.
_OWN = ("name", "format", "episodes", "steps", "picture_size", "shards", "descriptions")


def write_card(directory: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """Writes both files into a dataset whose shards and descriptions are complete.

    Args:
      directory: of the dataset.
      card: JSON values, for at least the keys of `HEADINGS` that cannot be read from the dataset itself.

    Returns:
      The card as written, with name, format, episodes, steps, image size, and the SHA-256 of each file.

    Raises:
      ValueError: a key is missing, or contradicts the dataset.
      UserError: no dataset there, or an error of the disk.
    """
    directory = Path(directory)
    missing = [key for key in HEADINGS if key not in card and key not in _OWN]
    if missing:
        raise ValueError(f"the card of {directory} lacks {', '.join(missing)}")
    own = _own_facts(directory)
    for key, value in own.items():
        if key in card and card[key] != value:
            raise ValueError(f"the card says {key} {card[key]}, {directory} says {value}")
    full = {key: {**card, **own}[key] for key in (*HEADINGS, *(key for key in card if key not in HEADINGS))}
    with disk_errors(directory):
        write_json(directory / CARD_JSON, full)
        write_bytes(directory / CARD_TEXT, card_text(full).encode())
    return full


def read_card(directory: Path) -> dict[str, Any]:
    """Reads the card of a dataset.

    Raises:
      UserError: there is none, or it is damaged.
    """
    card = open_json(Path(directory) / CARD_JSON, ADVICE)
    members = card.members()
    for key in HEADINGS:
        if key not in members:
            raise card.error(f"an object with {key!r}")
    for key in ("name", "format"):
        members[key].text()
    for key in ("episodes", "steps", "picture_size"):
        members[key].plain_integer(1)
    for key in ("shards", "descriptions"):
        for file in members[key].members(MOST_FILES).values():
            file.text()
    return {key: members[key].value for key in (*HEADINGS, *(key for key in members if key not in HEADINGS))}


def verify_files(directory: Path, card: Mapping[str, Any]) -> dict[str, str]:
    """Returns the names of files that differ from the card, each with `missing`, `altered` or `not on the card`."""
    directory = Path(directory)
    expected = {**card["shards"], **card["descriptions"]}
    present = _files(directory)
    problems = {name: "missing" for name in expected if name not in present}
    problems |= {name: "not on the card" for name in present if name not in expected}
    both = [name for name in expected if name in present]
    problems |= {name: "altered" for name in both if file_sha256(present[name]) != expected[name]}
    return dict(sorted(problems.items()))


def card_text(card: Mapping[str, Any]) -> str:
    """Returns the card as Markdown."""
    lines = [f"# {card['name']}", ""]
    for key, value in card.items():
        lines += [f"## {HEADINGS.get(key, key.replace('_', ' ').capitalize())}", "", *_section(value), ""]
    return "\n".join(lines)


def _own_facts(directory: Path) -> dict[str, Any]:
    """Returns the values for the keys in `_OWN`."""
    manifest = read_manifest(directory)
    if manifest is None:
        raise UserError(f"{directory}: no readable {MANIFEST}; export the dataset first")
    plan, shards = manifest
    entries = read_index(directory)
    files = _files(directory)
    own = {file: sha256 for shard in shards for file, sha256 in shard.hashes.items()}
    return {
        "name": f"{plan.name} {plan.version}",
        "format": plan.format,
        "episodes": len(entries),
        "steps": sum(entry.steps for entry in entries),
        "picture_size": plan.size,
        "shards": own,
        "descriptions": {name: file_sha256(path) for name, path in files.items() if name not in own},
    }


def _files(directory: Path) -> dict[str, Path]:
    """Returns the files of a dataset, without the card, by their names relative to its folder."""
    found = (path for path in sorted(directory.rglob("*")) if path.is_file())
    named = {path.relative_to(directory).as_posix(): path for path in found}
    return {name: path for name, path in named.items() if name not in (CARD_JSON, CARD_TEXT)}


def _section(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        rows = [f"| {_cell(key)} | {_cell(item)} |" for key, item in value.items()]
        return ["| | |", "| --- | --- |", *rows]
    if isinstance(value, list | tuple):
        return [f"- {_cell(item)}" for item in value]
    return [_cell(value)]


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("|", "\\|").replace("\n", " ")
