"""The manifest of a dataset: the plan it is written by, and the shards that are finished.

A shard is one file of a dataset, with its videos in formats that have them, or the files of several episodes where each
has its own. Files appear whole or not at all, and only when all of a shard are there is it listed in the manifest,
`export.json`, with the hash of their bytes. `rlgen.data.writer` resumes an interrupted export from there.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rlgen.core.errors import UserError
from rlgen.core.files import sync_folder, write_json
from rlgen.core.foreign.json_parts import JsonPart, open_json
from rlgen.data.images import LARGEST_SIDE

MANIFEST = "export.json"
ADVICE = "export the dataset again"
# Limits of a dataset: of files, of its episodes in all, and of the steps of one.
MOST_SHARDS, MOST_EPISODES, MOST_STEPS = 100_000, 1_000_000, 1_000_000
_SHA256 = re.compile(r"[0-9a-f]{64}")


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
      beside: name and hash of each further file that belongs to it, such as a video or its other episodes.
    """

    file: str
    episodes: int
    steps: int
    bytes: int
    sha256: str
    beside: tuple[tuple[str, str], ...] = ()

    @property
    def hashes(self) -> dict[str, str]:
        """Returns the hash of each of its files, by name."""
        return {self.file: self.sha256, **dict(self.beside)}

    def to_json(self) -> dict[str, Any]:
        """Returns the shard as the manifest stores it; one without further files as earlier versions did."""
        beside = [{"file": file, "sha256": sha256} for file, sha256 in self.beside]
        own = {key: value for key, value in self.__dict__.items() if key != "beside"}
        return own | ({"beside": beside} if beside else {})


def read_manifest(folder: Path) -> tuple[DatasetPlan, list[Shard]] | None:
    """Returns the stored plan of `folder` and its finished shards; None if it has no manifest of this project.

    Raises:
      UserError: the manifest is damaged.
    """
    if not (folder / MANIFEST).is_file():
        return None
    manifest = open_json(folder / MANIFEST, ADVICE)
    if not isinstance(manifest.value, dict) or not {"plan", "finished"} <= manifest.value.keys():
        return None
    plan = _plan(manifest.member("plan"))
    known = frozenset(plan.files)
    return plan, [_shard(part, known) for part in manifest.member("finished").elements(MOST_SHARDS)]


def _plan(part: JsonPart) -> DatasetPlan:
    files = part.member("files").elements(MOST_SHARDS)
    lengths = part.member("lengths").elements(MOST_SHARDS)
    if len(files) != len(lengths) or len(set(map(_value, files))) != len(files):
        raise part.error("as many lengths as files, each file once")
    return DatasetPlan(
        format=part.member("format").text(),
        name=part.member("name").text(),
        version=part.member("version").text(),
        size=part.member("size").plain_integer(1, LARGEST_SIDE),
        description=part.member("description").text(),
        fingerprint=part.member("fingerprint").text(),
        files=tuple(file.path() for file in files),
        lengths=tuple(length.plain_integer(1, MOST_EPISODES) for length in lengths),
    )


def _shard(part: JsonPart, known: frozenset[str]) -> Shard:
    file = part.member("file")
    if file.path() not in known:
        raise file.error("one of the plan's files")
    beside = part.optional("beside")
    return Shard(
        file=file.path(),
        episodes=part.member("episodes").plain_integer(1, MOST_EPISODES),
        steps=part.member("steps").plain_integer(1),
        bytes=part.member("bytes").plain_integer(),
        sha256=_digest(part),
        beside=tuple(
            (other.member("file").path(), _digest(other)) for other in (beside.elements(MOST_SHARDS) if beside else ())
        ),
    )


def _digest(part: JsonPart) -> str:
    digest = part.member("sha256")
    if not _SHA256.fullmatch(digest.text()):
        raise digest.error("a SHA-256 in hexadecimal")
    return digest.text()


def _value(part: JsonPart) -> str:
    return str(part.value)


def open_manifest(folder: Path, format: str, noun: str) -> tuple[DatasetPlan, list[Shard]]:
    """Returns plan and shards of a dataset that this project wrote in one format.

    Args:
      folder: of the dataset.
      format: name of the expected format.
      noun: what was expected, for the message, such as `an array_record dataset`.

    Raises:
      UserError: there is no manifest, one of another format, or a damaged one.
    """
    manifest = read_manifest(folder)
    if manifest is None or manifest[0].format != format:
        raise UserError(f"{folder}: not {noun} of this project; export it again")
    return manifest


def finished_shards(folder: Path, plan: DatasetPlan) -> list[Shard]:
    """Returns the shards that a folder lists, if it is of the same plan; none if its manifest cannot be read."""
    manifest = _manifest_of_plan(folder, plan)
    return [] if manifest is None else manifest[1]


def _manifest_of_plan(folder: Path, plan: DatasetPlan) -> tuple[DatasetPlan, list[Shard]] | None:
    try:
        manifest = read_manifest(folder)
    except UserError:
        return None
    return manifest if manifest is not None and manifest[0] == plan else None


def parts_folder(shard: Path) -> Path:
    """Returns the folder in which a format may keep what it has of an unfinished shard."""
    return shard.with_name(f"{shard.name}.parts")


@runtime_checkable
class KeepsParts(Protocol):
    """A format that keeps finished episodes of an unfinished shard, in its `parts_folder`."""

    def kept(self, path: Path) -> int:
        """Returns how many episodes an interrupted writer of this shard left; `write` gets those behind them."""
        ...


def write_manifest(folder: Path, plan: dict[str, Any], finished: Iterable[Shard]) -> None:
    """Writes the manifest, after the shards themselves have reached the disk.

    Args:
      folder: of the dataset.
      plan: `DatasetPlan.to_json()`.
      finished: the shards to list, in any order.
    """
    sync_folder(folder)
    ordered = sorted(finished, key=lambda shard: shard.file)
    write_json(folder / MANIFEST, {"plan": plan, "finished": [shard.to_json() for shard in ordered]})


def intact(folder: Path, shards: Iterable[Shard]) -> dict[str, Shard]:
    """Returns those of `shards` whose files exist and have the listed hashes, by file name."""

    def is_intact(shard: Shard) -> bool:
        paths = {folder / file: sha256 for file, sha256 in shard.hashes.items()}
        return all(path.is_file() and file_sha256(path) == sha256 for path, sha256 in paths.items())

    return {shard.file: shard for shard in shards if is_intact(shard)}


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def resume(partial: Path, plan: DatasetPlan) -> dict[str, Shard]:
    """Returns the shards that an earlier run with the same plan finished, by file name.

    Removes all other files of `partial`, but for the parts of shards that it had not finished.
    """
    same = _manifest_of_plan(partial, plan) is not None
    finished = intact(partial, finished_shards(partial, plan))
    partial.mkdir(parents=True, exist_ok=True)
    kept = {partial / file for shard in finished.values() for file in shard.hashes} | {partial / MANIFEST}
    unfinished = {parts_folder(partial / file) for file in plan.files if same and file not in finished}
    for path in sorted(partial.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        elif not path.is_dir() and path not in kept and path.parent not in unfinished:
            path.unlink()
    write_manifest(partial, plan.to_json(), finished.values())
    return finished
