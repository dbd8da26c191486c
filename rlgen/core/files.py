"""Files that appear whole or not at all."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is fsynced and renamed to `path`.

    If the block raises, the temporary file is removed and what was at `path` stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; on success it replaces what is at `path`, which stays until then."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    aside = temporary.with_name(f"{temporary.stem}.old.part")
    try:
        yield temporary
        os.chmod(temporary, 0o755)
        if path.exists():
            path.rename(aside)
        try:
            os.replace(temporary, path)
        except OSError:
            if aside.exists():
                aside.rename(path)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def expanded(path: str | Path) -> Path:
    """Returns a path with `~` replaced by the home folder; where there is no home it stays as it is."""
    return Path(os.path.expanduser(path))


# Limits of a JSON file, in bytes, and in objects and lists: parsed, these take up to 30 times as many bytes.
LARGEST_JSON = 64_000_000
MOST_CONTAINERS = 2_000_000


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
      ValueError: it is no JSON, nested too deeply, or too large.
    """
    return parse_json(read_text(path))


def read_text(path: Path) -> str:
    """Reads a file of JSON without parsing it.

    Raises:
      ValueError: it is too large, or not UTF-8.
    """
    with open(path, "rb") as file:
        data = file.read(LARGEST_JSON + 1)
    if len(data) > LARGEST_JSON:
        raise ValueError(f"more than {LARGEST_JSON} bytes")
    return data.decode()


def parse_json(data: str | bytes) -> Any:
    """Parses JSON.

    Raises:
      ValueError: it is no JSON, nested too deeply, or of too many objects and lists.
    """
    text = data if isinstance(data, str) else data.decode()
    if text.count("{") + text.count("[") > MOST_CONTAINERS:
        raise ValueError(f"more than {MOST_CONTAINERS} objects and lists")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit on file sizes",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a folder that can be written",
    errno.EPERM: "choose a folder that can be written",
    errno.ENOTDIR: "choose a path whose parents are folders",
    errno.EISDIR: "choose a path that is not a folder",
}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns an `OSError` raised while `path` is written into a `UserError` that names the file."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error).splitlines()[0]
        advice = _ADVICE.get(error.errno or 0, "check the path")
        target = error.filename if isinstance(error.filename, str | os.PathLike) else path
        raise UserError(f"cannot write {target}: {reason}; {advice}, then run the same command again") from error


def sync_folder(folder: Path) -> None:
    """Makes renames inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
