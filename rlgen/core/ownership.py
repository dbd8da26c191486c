"""Decisions on what a command may remove or replace, and locks of folders against a second writer.

Removed or replaced is what this program wrote and recognizes: a folder whose record is of the right kind and which
holds nothing else, a file with the content of its kind. Never removed is what a command reads, the working directory,
the home directory, or a folder that holds one of these.
"""

import errno
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError
from rlgen.core.files import disk_errors

LOCK = ".lock"
# What writers and removals that were killed leave beside the files that they were about.
_LEFTOVERS = (LOCK, ".*.part", ".*.removed")
_LARGEST_RECORD = 256 << 20


@dataclass(frozen=True)
class OutputKind:
    """A kind of folder that a command writes.

    Attributes:
      noun: such as `a run`.
      option: of the command line that names the folder.
      record: name of the JSON file that makes a folder one of this kind.
      recognize: returns whether the value of such a file is this program's.
      entries: patterns of the paths of all other files that such a folder holds; `*` stands for folders as well.
    """

    noun: str
    option: str
    record: str
    recognize: Callable[[Any], bool]
    entries: tuple[str, ...]

    def owns(self, folder: Path) -> bool:
        """Returns whether a folder has a record of this kind."""
        value = read_record(folder / self.record)
        return value is not None and self.recognize(value)


def read_record(path: Path) -> Any:
    """Returns the value of a JSON file; None if there is none, or none that can be read."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_RECORD:
            return None
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def has_keys(value: Any, *keys: str) -> bool:
    """Returns whether a JSON value is an object with these keys."""
    return isinstance(value, dict) and all(key in value for key in keys)


def is_vacant(folder: Path) -> bool:
    """Returns whether there is nothing at a path, or a folder without anything of somebody's."""
    if not os.path.lexists(folder):
        return True
    return folder.is_dir() and all(_matches(path.name, _LEFTOVERS) for path in folder.iterdir())


def check_replaceable(
    folder: Path, kind: OutputKind, *, inputs: Iterable[Path | str | None] = (), entries: Iterable[str] = ()
) -> None:
    """Raises `UserError` where a folder must not be removed; every `--overwrite` is decided here.

    Args:
      folder: that may be removed; nothing may be there.
      kind: what it has to be.
      inputs: files and folders that the command reads; None is none.
      entries: patterns beside those of the kind.
    """
    if is_vacant(folder):
        return
    advice = f"move it away or choose another {kind.option}"
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; {advice}")
    if not kind.owns(folder):
        raise UserError(f"{folder} is there and is not {kind.noun} that rlgen wrote; {advice}")
    check_unneeded(folder, inputs, option=kind.option)
    check_contents(folder, kind, entries=entries)


def check_contents(folder: Path, kind: OutputKind, *, part: str = "", entries: Iterable[str] = ()) -> None:
    """Raises `UserError` for the first file in a folder, at any depth, that its kind does not have.

    Args:
      folder: of the kind.
      kind: what it is.
      part: path of a folder below it to look into; all of it by default.
      entries: patterns beside those of the kind.
    """
    known = (kind.record, *kind.entries, *entries)
    for path in _files_and_links(folder / part):
        name = path.relative_to(folder).as_posix()
        is_link_of_ours = path.is_symlink() and any(pattern.startswith(f"{name}/") for pattern in known)
        is_leftover = any(_matches(part_of_name, _LEFTOVERS) for part_of_name in name.split("/"))
        if not (_matches(name, known) or is_link_of_ours or is_leftover):
            raise UserError(
                f"{path} is not part of {kind.noun} and would be removed; move it away or choose another {kind.option}"
            )


def check_unneeded(path: Path, inputs: Iterable[Path | str | None], *, option: str) -> None:
    """Raises `UserError` where removing a path would remove what the command or the user needs.

    Args:
      path: of the file or folder.
      inputs: files and folders that the command reads; None is none.
      option: that names the path.
    """
    here = _places(path)
    needed = [("an input of this command", given) for given in inputs if given is not None]
    needed += [("the working directory", Path()), ("the home directory", "~")]
    for what, other in needed:
        if any(place in here or here & set(place.parents) for place in _places(other)):
            raise UserError(f"{path} is or holds {what}, {other}, and is not removed; choose another {option}")


def clear_output(
    folder: Path, kind: OutputKind, *, inputs: Iterable[Path | str | None] = (), entries: Iterable[str] = ()
) -> None:
    """Removes what is in a folder, the record last, so that a removal that is killed can be repeated.

    Arguments as of `check_replaceable`, which decides whether it may be.
    """
    check_replaceable(folder, kind, inputs=inputs, entries=entries)
    if not is_vacant(folder):
        for path in sorted(folder.iterdir(), key=lambda path: path.name == kind.record):
            if path.name != LOCK:
                remove(path)


def remove(path: Path) -> None:
    """Removes what is there: a file, a folder, or a link but not its target; no half of a folder keeps its name."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    aside = path.with_name(f".{path.name}.removed")
    remove(aside)
    path.rename(aside)
    shutil.rmtree(aside)


def check_file(path: Path, recognize: Callable[[Path], bool], *, noun: str, option: str = "--out") -> None:
    """Raises `UserError` where a file would be replaced that is not this program's.

    Args:
      path: that is to be written; nothing may be there.
      recognize: returns whether the file there is what the command writes.
      noun: what the command writes, such as `a page`.
      option: that names the file or its folder.
    """
    if not os.path.lexists(path):
        return
    if path.is_dir():
        raise UserError(f"{path} is a folder; choose another {option}")
    if not recognize(path):
        raise UserError(f"{path} is there and is not {noun} that rlgen wrote; move it away or choose another {option}")


def check_names(folder: Path, kind: OutputKind) -> None:
    """Raises `UserError` where files that are not of a kind have names of that kind's, and would be replaced.

    Args:
      folder: that is to be written; other files may be there.
      kind: what is to be written.
    """
    if not folder.is_dir() or kind.owns(folder):
        return
    for path in sorted(folder.iterdir()):
        if _matches(path.name, (kind.record, *kind.entries)):
            raise UserError(
                f"{path} is there and is not part of {kind.noun} that rlgen wrote; move it away or choose another "
                f"{kind.option}"
            )


@contextmanager
def only_writer(folder: Path, option: str = "--out", *, patience: float = 0.0) -> Iterator[None]:
    """Locks a folder against other writers; it is made if it is absent, and removed again if nothing is written.

    The system releases the lock when the process ends, even if it is killed.

    Args:
      folder: that is written.
      option: that names it.
      patience: seconds to wait for a writer that is there, such as one that the system is about to end.

    Raises:
      UserError: another process writes there, or there is something else than a folder.
    """
    folder = Path(folder)
    for parent in (folder, *folder.parents):
        if os.path.lexists(parent) and not parent.is_dir():
            raise UserError(f"cannot write {folder}: {parent} is a file; move it away or choose another {option}")
    with disk_errors(folder):
        handle, made = _lock_in_time(folder, option, patience)
    try:
        yield
    finally:
        with suppress(OSError):
            for path in made:
                path.rmdir()
        os.close(handle)


def _lock_in_time(folder: Path, option: str, patience: float) -> tuple[int, list[Path]]:
    """Locks a folder as `_lock` does, and tries it again for some seconds."""
    end = time.monotonic() + patience
    while True:
        try:
            return _lock(folder, option)
        except UserError:
            if time.monotonic() >= end:
                raise
        time.sleep(0.2)


def _lock(folder: Path, option: str) -> tuple[int, list[Path]]:
    """Returns the handle that holds the lock, and the folders that were made for it, the innermost first."""
    while True:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        if not _try_lock(handle, folder, option):
            # Network file systems lock only what is open for writing, which a folder cannot be.
            os.close(handle)
            handle = os.open(folder / LOCK, os.O_WRONLY | os.O_CREAT, 0o644)
            if not _try_lock(handle, folder, option):
                line = f"{folder}: this file system has no locks; nothing else may write there until this ends"
                print(line, file=sys.stderr, flush=True)
            return handle, made
        # Another process may have removed the folder that it had made, and this one has locked what is no longer there.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(folder)):
                return handle, made
        os.close(handle)


def _try_lock(handle: int, folder: Path, option: str) -> bool:
    """Returns whether a folder, or the file for its lock, is locked now; False where its file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        os.close(handle)
        line = f"{folder}: another process is writing here; wait for it or choose another {option}"
        raise UserError(line) from error
    return True


def _files_and_links(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        yield from (Path(root) / name for name in sorted([*files, *links]))


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _places(path: Path | str) -> set[Path]:
    """Returns a path as it is written and as its links resolve; none where there is no such place."""
    try:
        absolute = Path(os.path.abspath(Path(path).expanduser()))
        return {absolute, absolute.resolve()}
    except (OSError, RuntimeError):
        return set()
