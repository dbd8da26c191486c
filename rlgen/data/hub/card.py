"""The card of a dataset on the Hugging Face hub: `README.md`, whose front matter programs of the hub read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rlgen.core.foreign.json_parts import open_json
from rlgen.data.card import card_text
from rlgen.data.formats.lerobot.foreign import LEROBOT_INFO
from rlgen.data.shards import ADVICE

_LICENCES = {"CC BY 4.0": "cc-by-4.0", "CC0": "cc0-1.0", "Apache 2.0": "apache-2.0", "MIT": "mit"}
# The bounds of the hub's own names for numbers of rows.
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGER = "1M<n<10M"


def hub_card(card: Mapping[str, Any], folder: Path) -> str:
    """Returns the text of `README.md`.

    Args:
      card: of the dataset (`rlgen.data.card.read_card`).
      folder: of the dataset.
    """
    front = yaml.safe_dump(front_matter(card, folder), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{card_text(card)}"


def front_matter(card: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Returns what programs of the hub read: licence, kind of task, tags, and the files that its viewer shows.

    Args:
      card: of the dataset.
      folder: of the dataset.
    """
    kind = card["format"]
    is_lerobot = (folder / LEROBOT_INFO).is_file()
    tags = ["LeRobot"] if is_lerobot else []
    tags += ["libero", "robotics", "imitation-learning", "vision-language-action", kind, "rlgen"]
    values = {
        **_licence(str(card["licence"])),
        "task_categories": ["robotics"],
        "language": ["en"],
        "pretty_name": card["name"],
        "size_categories": [next((name for bound, name in _SIZES if card["steps"] < bound), _LARGER)],
        "tags": tags,
    }
    if is_lerobot:  # the other formats are none that the viewer reads
        values["configs"] = [{"config_name": "default", "data_files": "data/*/*.parquet"}]
    return values


def version_tag(card: Mapping[str, Any], folder: Path) -> str:
    """Returns the tag that readers look for: LeRobot's version of its format, otherwise that of the dataset.

    Args:
      card: of the dataset.
      folder: of the dataset.
    """
    if (folder / LEROBOT_INFO).is_file():
        return open_json(folder / LEROBOT_INFO, ADVICE).member("codebase_version").text(100)
    return str(card["name"]).rpartition(" ")[2]


def _licence(text: str) -> dict[str, str]:
    known = [name for start, name in _LICENCES.items() if text.startswith(start)]
    return {"license": known[0]} if known else {"license": "other", "license_name": text}
