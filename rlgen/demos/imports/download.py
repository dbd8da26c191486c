"""What the hub says about the public demonstration sets: files, sizes, and their SHA-256."""

import json
import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rlgen.core.errors import UserError
from rlgen.core.files import disk_errors, sync_folder
from rlgen.data.shards import file_sha256, only_writer
from rlgen.demos.imports.http import Http
from rlgen.libero.tasks.suites import HORIZONS

DATASET = "yifengzhu-hf/LIBERO-datasets"
REVISION = "main"
SUITES = tuple(HORIZONS)


@dataclass(frozen=True)
class HubFile:
    """One file of the dataset.

    Attributes:
      name: path in the dataset, `<suite>/<task>_demo.hdf5`.
      size: bytes.
      sha256: as the hub has it for files in its large-file storage.
    """

    name: PurePosixPath
    size: int
    sha256: str


def default_endpoint() -> str:
    """The hub's address as `huggingface_hub` has it, `HF_ENDPOINT` included."""
    try:
        from huggingface_hub import constants
    except ImportError:
        raise UserError("the hub's address is not known: pip install huggingface_hub, or set HF_ENDPOINT") from None
    return constants.ENDPOINT


def wanted_suites(name: str) -> tuple[str, ...]:
    """The suites that a person means: one of them, or `all`."""
    if name != "all" and name not in SUITES:
        raise UserError(f"unknown set {name!r}, expected one of {', '.join(SUITES)}, all")
    return SUITES if name == "all" else (name,)


def list_files(http: Http, endpoint: str, suite: str) -> list[HubFile]:
    """The HDF5 files of a suite.

    Raises:
      UserError: the hub cannot be reached, or its answer is not what it should be.
    """
    url: str | None = f"{endpoint}/api/datasets/{DATASET}/tree/{REVISION}/{suite}?recursive=true"
    entries: list = []
    while url:
        answer = http.get(url)
        try:
            entries += json.loads(answer.body)
        except (ValueError, TypeError) as error:
            raise UserError(f"{url}: not a list of files ({error}); try again later") from error
        following = re.search(r'<([^>]+)>;\s*rel="next"', answer.headers.get("Link", ""))
        url = urllib.parse.urljoin(url, following[1]) if following else None
        if url and not url.startswith(f"{endpoint}/"):
            raise UserError(f"{endpoint}: its list of {suite} goes on at {url}; try again later")
    try:
        files = [_file(entry, suite) for entry in entries if str(entry["path"]).endswith(".hdf5")]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{endpoint}: the list of {suite} lacks {error}; try again later") from error
    if not files:
        raise UserError(f"{endpoint}: {DATASET} has no HDF5 file in {suite}; try again later")
    return files


def file_url(endpoint: str, file: HubFile) -> str:
    """Where a file is to be had."""
    return f"{endpoint}/datasets/{DATASET}/resolve/{REVISION}/{urllib.parse.quote(str(file.name))}"


def _file(entry: dict, suite: str) -> HubFile:
    name = PurePosixPath(str(entry["path"]))
    if name.parts[0] != suite or ".." in name.parts or name.is_absolute():
        raise UserError(f"the hub lists {str(name)!r} in {suite}, which is not a file of that suite; try again later")
    sha256 = str(entry["lfs"]["oid"])
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError(f"a SHA-256 of {name}")
    return HubFile(name, int(entry["lfs"]["size"]), sha256)


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
