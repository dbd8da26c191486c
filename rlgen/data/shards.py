"""Shards that appear whole or not at all, and the record of which are done."""

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError
from rlgen.core.files import read_json, sync_folder, write_json

MANIFEST = "export.json"


@dataclass(frozen=True)
class Shard:
    """A finished shard: its file, what it holds, and the hash of the whole file."""

    file: str
    episodes: int
    steps: int
    bytes: int
    sha256: str


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> tuple[dict[str, Any], list[Shard]] | None:
    """The plan that `folder` is being filled by and its finished shards; None if there is no readable one."""
    try:
        value = read_json(folder / MANIFEST)
        return value["plan"], [Shard(**shard) for shard in value["finished"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_plan(folder: Path, format: str, words: str) -> dict[str, Any]:
    """The plan of a dataset that this project wrote in `format`; `UserError`, in `words`, where it did not."""
    manifest = read_manifest(folder)
    if manifest is None or manifest[0].get("format") != format:
        raise UserError(f"{folder}: not {words} of this project; export it again")
    return manifest[0]


def write_manifest(folder: Path, plan: dict[str, Any], finished: Iterable[Shard]) -> None:
    """Records the finished shards, after the shards themselves are on the disk."""
    sync_folder(folder)
    ordered = sorted(finished, key=lambda shard: shard.file)
    write_json(folder / MANIFEST, {"plan": plan, "finished": [asdict(shard) for shard in ordered]})


def intact(folder: Path, shards: Iterable[Shard]) -> dict[str, Shard]:
    """Those of `shards` whose file is there and unaltered, by file name."""
    found = {}
    for shard in shards:
        path = folder / shard.file
        if path.is_file() and file_sha256(path) == shard.sha256:
            found[shard.file] = shard
    return found


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Holds `folder` against other writers; `UserError` if one is at work. A killed writer holds nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise UserError(f"{folder}: another process is writing here; wait for it or choose another folder") from error
    try:
        yield
    finally:
        os.close(handle)
