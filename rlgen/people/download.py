"""Fetching the public LIBERO demonstration sets: checked against the hub's own hashes, gone on with when broken."""

from collections.abc import Callable
from pathlib import Path

from rlgen.data.disk import disk_errors, sync_folder
from rlgen.data.shards import file_sha256, only_writer
from rlgen.errors import UserError
from rlgen.people.http import Http
from rlgen.people.hub_files import HubFile, file_url, list_files, wanted_suites

FETCHES = 2  # a file whose hash is wrong is fetched once more from its beginning


def download(
    name: str,
    out: Path,
    endpoint: str,
    *,
    http: Http | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Fetches a suite, or `all`, to `<out>/<suite>/<task>_demo.hdf5`.

    A file that is there and has the hub's hash is not fetched again; what an interrupted download left goes on.

    Args:
      name: a suite or `all`.
      out: folder of the sets.
      endpoint: the hub's address.
      http: how patient to be.
      tell: hears a line about each file.

    Returns:
      The files, in the hub's order.

    Raises:
      UserError: an unknown set, no network, a disk that refuses, or a file whose hash is wrong twice.
    """
    suites, http, out = wanted_suites(name), http or Http(), Path(out)
    files = [file for suite in suites for file in list_files(http, endpoint, suite)]
    total = sum(file.size for file in files)
    tell(f"{len(files)} files, {total / 1e9:.1f} GB, from {endpoint}")
    with disk_errors(out), only_writer(out):
        return [_fetch(http, endpoint, file, out, tell) for file in files]


def _fetch(http: Http, endpoint: str, file: HubFile, out: Path, tell: Callable[[str], None]) -> Path:
    path = out / file.name
    if _is_whole(path, file):
        tell(f"{file.name}: there already")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # Named by the hash, so that a part of an older version is not gone on with.
    part = path.with_name(f".{path.name}.{file.sha256[:16]}.part")
    for _ in range(FETCHES):
        _drop_if_longer(part, file.size)
        tell(f"{file.name}: fetching {file.size / 1e6:.0f} MB")
        http.fetch(file_url(endpoint, file), part, file.size)
        if file_sha256(part) == file.sha256:
            part.replace(path)
            sync_folder(path.parent)
            return path
        part.unlink()
        tell(f"{file.name}: its hash is not the hub's; fetching it again")
    raise UserError(f"{endpoint}: {file.name} came {FETCHES} times with another SHA-256 than the hub's; try later")


def _is_whole(path: Path, file: HubFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and file_sha256(path) == file.sha256


def _drop_if_longer(part: Path, size: int) -> None:
    if part.exists() and part.stat().st_size > size:
        part.unlink()
