"""The manifest of a dataset: the plan it is written by, and the shards that are finished.

A shard is one file of a dataset. It appears whole or not at all, and only then is it listed in the manifest,
`export.json`, with the hash of its bytes. `rlgen.data.writer` resumes an interrupted export from there.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError
from rlgen.core.files import sync_folder, write_json
from rlgen.core.ownership import read_record

MANIFEST = "export.json"


@dataclass(frozen=True)
class DatasetPlan:
    """The description of a dataset to write. An unfinished one is resumed only if all of this is equal.

    Attributes:
      format: name of the format.
      name: of the dataset, by convention `<suite>_no_noops`.
      version: three numbers, such as `1.0.0`.
      size: width and height of every image, pixels.
      description: text for people.
      fingerprint: identifies the content; a finished dataset without one is never reused.
      files: names of the shards, relative to the dataset's folder.
      lengths: number of episodes in each shard.
    """

    format: str
    name: str
    version: str
    size: int
    description: str
    fingerprint: str
    files: tuple[str, ...]
    lengths: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the plan as the manifest stores it."""
        return {**self.__dict__, "files": list(self.files), "lengths": list(self.lengths)}


@dataclass(frozen=True)
class Shard:
    """A finished shard.

    Attributes:
      file: name, relative to the dataset's folder.
      episodes: number of episodes in it.
      steps: number of steps of all its episodes.
      bytes: size of its records, or of the whole file in formats without records.
      sha256: hash of the whole file, in hexadecimal.
    """

    file: str
    episodes: int
    steps: int
    bytes: int
    sha256: str


def read_manifest(folder: Path) -> tuple[dict[str, Any], list[Shard]] | None:
    """Returns the stored plan of `folder` and its finished shards; None if there is no readable manifest."""
    value = read_record(folder / MANIFEST)
    try:
        return value["plan"], [Shard(**shard) for shard in value["finished"]]
    except (KeyError, TypeError):
        return None


def read_plan(folder: Path, format: str, noun: str) -> dict[str, Any]:
    """Returns the stored plan of a dataset that this project wrote in one format.

    Args:
      folder: of the dataset.
      format: name of the expected format.
      noun: what was expected, for the message, such as `an array_record dataset`.

    Raises:
      UserError: there is no manifest, or one of another format.
    """
    manifest = read_manifest(folder)
    if manifest is None or manifest[0].get("format") != format:
        raise UserError(f"{folder}: not {noun} of this project; export it again")
    return manifest[0]


def write_manifest(folder: Path, plan: dict[str, Any], finished: Iterable[Shard]) -> None:
    """Writes the manifest, after the shards themselves have reached the disk.

    Args:
      folder: of the dataset.
      plan: `DatasetPlan.to_json()`.
      finished: the shards to list, in any order.
    """
    sync_folder(folder)
    ordered = sorted(finished, key=lambda shard: shard.file)
    write_json(folder / MANIFEST, {"plan": plan, "finished": [asdict(shard) for shard in ordered]})


def intact(folder: Path, shards: Iterable[Shard]) -> dict[str, Shard]:
    """Returns those of `shards` whose file exists and has the listed hash, by file name."""
    found = {}
    for shard in shards:
        path = folder / shard.file
        if path.is_file() and file_sha256(path) == shard.sha256:
            found[shard.file] = shard
    return found


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
