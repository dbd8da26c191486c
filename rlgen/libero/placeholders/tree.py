"""The tree of placeholder assets on disk."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from rlgen.libero.placeholders.arena import arena_files, texture_files
from rlgen.libero.placeholders.articulated import ARTICULATED
from rlgen.libero.placeholders.furniture import FURNITURE
from rlgen.libero.placeholders.groceries import GROCERIES
from rlgen.libero.placeholders.mjcf import fixture_xml, object_xml
from rlgen.libero.placeholders.tableware import TABLEWARE

OBJECTS = (*GROCERIES, *TABLEWARE, *FURNITURE)
FIXTURES = ARTICULATED
# A tree with this file in its root has placeholder assets, however it was found.
MARKER = "STAND-INS.txt"
MARKER_TEXT = "Plain geometry written by rlgen in place of the LIBERO object assets.\n"


def placeholder_files() -> dict[str, bytes]:
    """Returns the contents of all files by path relative to the tree's root, including the marker."""
    files = {row.file: object_xml(row).encode() for row in OBJECTS}
    files |= {row.file: fixture_xml(row).encode() for row in FIXTURES}
    files |= {name: text.encode() for name, text in arena_files().items()}
    return files | texture_files() | {MARKER: MARKER_TEXT.encode()}


def content_key() -> str:
    """Returns a short name for this version of the placeholder assets, made from their contents."""
    digest = hashlib.sha256()
    for name, data in sorted(placeholder_files().items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:12]


def write_placeholders(directory: Path) -> None:
    """Writes the tree to `directory`, completely or not at all; a complete tree that exists is kept.

    Raises:
      OSError: the directory cannot be written, or holds something else; it is unchanged then.
    """
    directory, files = Path(directory), placeholder_files()
    if _holds(directory, files):
        return
    if directory.exists() and not (directory / MARKER).exists():
        raise FileExistsError(f"{directory} exists and has no placeholder assets")
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
    """Returns True if every file exists with its exact contents."""
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
    """Replaces `directory` by `fresh`, unless another process has just done the same."""
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
