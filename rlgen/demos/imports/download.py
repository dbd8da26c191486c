"""Downloads of the public LIBERO demonstrations, checked against the sizes and SHA-256 that their hub lists."""

import itertools
import os
import re
import shutil
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rlgen.core.errors import UserError, first_line
from rlgen.core.files import disk_errors, parse_json, sync_folder
from rlgen.core.ownership import only_writer
from rlgen.data.shards import file_sha256
from rlgen.demos.imports.http import HttpClient
from rlgen.libero.tasks.suites import HORIZONS

DATASET = "yifengzhu-hf/LIBERO-datasets"
REVISION = "main"
SUITES = tuple(HORIZONS)
# Fetches of a file whose hash is wrong, each from its beginning.
MAX_FETCHES = 2
# Pages of a suite's list, and files in it. The hub sends a thousand entries a page, the largest suite has 90 files.
MAX_PAGES, MAX_FILES = 50, 10_000
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


@dataclass(frozen=True)
class HubFile:
    """A file of the dataset.

    Attributes:
      name: path in the dataset, `<suite>/<task>_demo.hdf5`.
      size: bytes.
      sha256: as the hub lists it for files in its large-file storage.
    """

    name: PurePosixPath
    size: int
    sha256: str


def download(
    name: str,
    out: Path,
    endpoint: str,
    *,
    client: HttpClient | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Downloads a suite, or `all`, to `<out>/<suite>/<task>_demo.hdf5`.

    A file that exists with the hub's hash is not fetched again, and one with another hash is kept under another name;
    an interrupted download resumes.

    Args:
      name: a suite or `all`.
      out: folder of the suites.
      endpoint: the hub's address.
      client: with other patience than the default.
      log: receives a line about each file.

    Returns:
      The files, in the hub's order.

    Raises:
      UserError: an unknown suite, no network, a disk that refuses, or a file whose hash is wrong twice.
    """
    suites, client, out = find_suites(name), client or HttpClient(), Path(out)
    files = [file for suite in suites for file in list_files(client, endpoint, suite)]
    total = sum(file.size for file in files)
    log(f"{len(files)} files, {total / 1e9:.1f} GB, from {endpoint}")
    with disk_errors(out), only_writer(out):
        _check_room(out, files)
        return [_fetch(client, endpoint, file, out, log) for file in files]


def default_endpoint() -> str:
    """Returns the hub's address as `huggingface_hub` has it, `HF_ENDPOINT` included."""
    try:
        from huggingface_hub import constants
    except ImportError:
        raise UserError("the hub's address is not known: pip install huggingface_hub, or set HF_ENDPOINT") from None
    return constants.ENDPOINT


def find_suites(name: str) -> tuple[str, ...]:
    """Returns the suites that a name stands for: one of them, or `all`."""
    if name != "all" and name not in SUITES:
        raise UserError(f"unknown set {name!r}, expected one of {', '.join(SUITES)}, all")
    return SUITES if name == "all" else (name,)


def list_files(client: HttpClient, endpoint: str, suite: str) -> list[HubFile]:
    """Returns the HDF5 files of a suite.

    Args:
      client: of the requests.
      endpoint: the hub's address.
      suite: such as `libero_goal`.

    Raises:
      UserError: the hub cannot be reached, or its answer cannot be used.
    """
    url = f"{endpoint}/api/datasets/{DATASET}/tree/{REVISION}/{suite}?recursive=true"
    files: list[HubFile] = []
    for _ in range(MAX_PAGES):
        response = client.get(url)
        files += _listed_files(response.body, url, suite)
        if len(files) > MAX_FILES:
            break
        following = re.search(r'<([^>]+)>;\s*rel="next"', response.headers.get("Link", ""))
        if following is None:
            if not files:
                raise UserError(f"{endpoint}: {DATASET} has no HDF5 file in {suite}; try again later")
            return files
        url = urllib.parse.urljoin(url, following[1])
        if not url.startswith(f"{endpoint}/"):
            raise UserError(f"{endpoint}: its list of {suite} continues at {url}; try again later")
    raise UserError(f"{endpoint}: its list of {suite} does not end after {len(files)} files; check the address")


def _file_url(endpoint: str, file: HubFile) -> str:
    return f"{endpoint}/datasets/{DATASET}/resolve/{REVISION}/{urllib.parse.quote(str(file.name))}"


def _listed_files(body: bytes, url: str, suite: str) -> list[HubFile]:
    """Returns the HDF5 files on a page of the hub's list."""
    try:
        entries = parse_json(body)
        if not isinstance(entries, list):
            raise ValueError(f"{type(entries).__name__} instead of a list")
        return [_hub_file(entry, suite) for entry in entries if str(entry["path"]).endswith(".hdf5")]
    except UserError:
        raise
    except (ValueError, TypeError) as error:
        raise UserError(f"{url}: not a list of files ({first_line(error)}); try again later") from error
    except KeyError as error:
        raise UserError(f"{url}: an entry of the list lacks {error}; try again later") from error


def _hub_file(entry: dict, suite: str) -> HubFile:
    """Returns the file of an entry of the hub's list; refuses names outside the suite's folder."""
    name = PurePosixPath(str(entry["path"]))
    if name.parts[0] != suite or not all(map(_FILE_NAME.fullmatch, name.parts)):
        raise UserError(
            f"the hub lists {str(name)!r:.80} in {suite}, which is not a file of that suite; try again later"
        )
    sha256, size = entry["lfs"]["oid"], entry["lfs"]["size"]
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise UserError(f"the hub lists {name} with the SHA-256 {sha256!r:.80}; try again later")
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise UserError(f"the hub lists {name} with the size {size!r:.80}, expected bytes; try again later")
    return HubFile(name, size, sha256)


def _check_room(out: Path, files: list[HubFile]) -> None:
    """Raises `UserError` where the disk has no room for what is not there yet."""
    needed = sum(file.size for file in files if not (out / file.name).is_file())
    free = shutil.disk_usage(out).free
    if needed > free:
        raise UserError(f"{out}: {needed / 1e9:.1f} GB to fetch, {free / 1e9:.1f} GB free; free some space")


def _fetch(client: HttpClient, endpoint: str, file: HubFile, out: Path, log: Callable[[str], None]) -> Path:
    path = out / file.name
    if _is_complete(path, file):
        log(f"{file.name}: there already")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # Named by the hash, so that a part of an older version is not resumed.
    part = path.with_name(f".{path.name}.{file.sha256[:16]}.part")
    for _ in range(MAX_FETCHES):
        if part.exists() and part.stat().st_size > file.size:
            part.unlink()
        log(f"{file.name}: fetching {file.size / 1e6:.0f} MB")
        client.fetch(_file_url(endpoint, file), part, file.size)
        if file_sha256(part) == file.sha256:
            _set_aside(path, log)
            part.replace(path)
            sync_folder(path.parent)
            return path
        part.unlink()
        log(f"{file.name}: its hash is not the hub's; fetching it again")
    raise UserError(f"{endpoint}: {file.name} came {MAX_FETCHES} times with another SHA-256 than the hub's; try later")


def _set_aside(path: Path, log: Callable[[str], None]) -> None:
    """Renames a file that is not the hub's, such as one that somebody has edited, instead of replacing it."""
    if not os.path.lexists(path):
        return
    names = (path.with_name(f"{path.name}.kept-{number}") for number in itertools.count(1))
    kept = next(name for name in names if not os.path.lexists(name))
    path.rename(kept)
    log(f"{path}: was not the hub's, by its SHA-256; kept as {kept.name}")


def _is_complete(path: Path, file: HubFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and file_sha256(path) == file.sha256
