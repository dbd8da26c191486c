"""What the hub says about the public demonstration sets: files, sizes, and their SHA-256."""

import json
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import PurePosixPath

from rlgen.errors import UserError
from rlgen.libero.tasks import HORIZONS
from rlgen.people.http import Http

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
