"""The stand-ins as an asset tree on disk."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from rlgen.libero.placeholders.arena import arena_files
from rlgen.libero.placeholders.articulated import ARTICULATED
from rlgen.libero.placeholders.containers import CONTAINERS
from rlgen.libero.placeholders.furniture import FURNITURE
from rlgen.libero.placeholders.groceries import GROCERIES
from rlgen.libero.placeholders.mjcf import fixture_xml, object_xml
from rlgen.libero.placeholders.tableware import TABLEWARE
from rlgen.libero.placeholders.textures import texture_files

OBJECTS = (*GROCERIES, *CONTAINERS, *TABLEWARE, *FURNITURE)
FIXTURES = ARTICULATED
# A tree with this file in its root is not the benchmark's own, whatever way it was found.
MARKER = "STAND-INS.txt"
MARKER_TEXT = "Plain geometry written by rlgen in place of the LIBERO object assets.\n"


def placeholder_objects() -> frozenset[str]:
    """The categories, as BDDL files name them, that have a stand-in."""
    return frozenset(row.name for row in (*OBJECTS, *FIXTURES))


def placeholder_files() -> dict[str, bytes]:
    """The whole tree: contents by path relative to its root, the marker included."""
    files = {row.file: object_xml(row).encode() for row in OBJECTS}
    files |= {row.file: fixture_xml(row).encode() for row in FIXTURES}
    files |= {name: text.encode() for name, text in arena_files().items()}
    return files | texture_files() | {MARKER: MARKER_TEXT.encode()}


def content_key() -> str:
    """A short name for this version of the stand-ins, made from their contents."""
    digest = hashlib.sha256()
    for name, data in sorted(placeholder_files().items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:12]


def write_placeholders(directory: Path) -> None:
    """Writes the tree to `directory`, whole or not at all; a tree that is already there and whole is kept.

    Raises:
      OSError: the place cannot be written, or holds something else; what was there before is still there.
    """
    directory, files = Path(directory), placeholder_files()
    if _holds(directory, files):
        return
    if directory.exists() and not (directory / MARKER).exists():
        raise FileExistsError(f"{directory} is there and is no folder of stand-ins")
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".part", dir=directory.parent))
    try:
        fresh = temporary / "tree"
        for name, data in files.items():
            _write_durably(fresh / name, data)
        _swap(fresh, directory, temporary / "old", files)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _holds(directory: Path, files: dict[str, bytes]) -> bool:
    """Whether every file is there with its exact contents."""
    try:
        return all((directory / name).read_bytes() == data for name, data in files.items())
    except OSError:
        return False


def _write_durably(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _swap(fresh: Path, directory: Path, aside: Path, files: dict[str, bytes]) -> None:
    """Puts `fresh` in the place of `directory`; gives way where another process has just done the same."""
    if _holds(directory, files):
        return
    if directory.exists():
        os.rename(directory, aside)
    try:
        os.rename(fresh, directory)
    except OSError:
        if _holds(directory, files):
            return
        if aside.exists():
            os.rename(aside, directory)
        raise
