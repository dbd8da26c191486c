"""Downloads from a hub on this machine: complete, resumed, and never with another hash than the hub lists."""

import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from rlgen.cli.main import main
from rlgen.core.errors import UserError
from rlgen.demos.imports.download import DATASET, MAX_PAGES, download, list_files
from rlgen.demos.imports.http import LARGEST_RESPONSE, HttpClient

SUITE = "libero_object"
PATIENT = HttpClient(timeout=5.0, tries=3, pause=0.01)


class Hub:
    """A server's files, and the ways in which it misbehaves.

    Attributes:
      files: contents by path in the dataset.
      listed: SHA-256 by path, where it is not the contents'.
      breaks_after: bytes after which each response with a file breaks off; None for never.
      ranges: whether it supports ranges.
      status: of every response, if not 200.
      page: body of every page of the list, in place of the files'.
      endless: whether every page is followed by another.
      requests: the path and the range of every request for a file.
    """

    def __init__(self):
        random = np.random.default_rng(0)
        self.files = {f"{SUITE}/{name}_demo.hdf5": random.bytes(300_000) for name in "ab"}
        self.files["README.md"] = b"not one of them"
        self.listed: dict[str, str] = {}
        self.breaks_after: int | None = None
        self.ranges = True
        self.status = 200
        self.page: bytes | None = None
        self.endless = False
        self.pages = 0
        self.requests: list[tuple[str, str | None]] = []
        self.address = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def do_GET(self):
        if self.hub.status != 200:
            self.send_error(self.hub.status)
        elif self.path.startswith(f"/api/datasets/{DATASET}/tree/main/"):
            self._list()
        else:
            self._file(self.path.removeprefix(f"/datasets/{DATASET}/resolve/main/"))

    def _list(self):
        """Sends one entry per page, as a hub may."""
        self.hub.pages += 1
        if self.hub.page is not None:
            self._send_page(self.hub.page, f"{self.hub.address}{self.path}" if self.hub.endless else None)
            return
        names = sorted(name for name in self.hub.files if name.startswith(SUITE))
        page = int(self.path.partition("page=")[2] or 0)
        name = names[page]
        data = self.hub.files[name]
        sha256 = self.hub.listed.get(name, hashlib.sha256(data).hexdigest())
        entry = {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
        body = json.dumps([entry | {"lfs": {"oid": sha256, "size": len(data), "pointerSize": 1}}]).encode()
        following = f"{self.hub.address}{self.path.partition('?')[0]}?page={page + 1}"
        self._send_page(body, following if page + 1 < len(names) else None)

    def _send_page(self, body, following):
        self.send_response(200)
        if following is not None:
            self.send_header("Link", f'<{following}>; rel="next"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def _file(self, name):
        wanted = self.headers.get("Range")
        self.hub.requests.append((name, wanted))
        data = self.hub.files[name]
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.hub.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = len(data) if self.hub.breaks_after is None else start + self.hub.breaks_after
        self.wfile.write(data[start:end])
        if end < len(data):
            self.close_connection = True


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub = Hub()
    server.hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.hub
    server.shutdown()
    server.server_close()
    thread.join()


def check(hub: Hub, out) -> None:
    for name in sorted(hub.files):
        if name.startswith(SUITE):
            assert (out / name).read_bytes() == hub.files[name]
    assert not list(out.rglob("*.part"))


def test_every_file_of_a_suite_comes_whole_and_once(hub, tmp_path):
    files = download(SUITE, tmp_path, hub.address, client=PATIENT)
    assert [path.name for path in files] == ["a_demo.hdf5", "b_demo.hdf5"]
    check(hub, tmp_path)
    assert len(hub.requests) == 2
    download(SUITE, tmp_path, hub.address, client=PATIENT)
    assert len(hub.requests) == 2
    (tmp_path / SUITE / "a_demo.hdf5").write_bytes(b"x" * 300_000)  # its size is right
    lines: list[str] = []
    download(SUITE, tmp_path, hub.address, client=PATIENT, log=lines.append)
    check(hub, tmp_path)
    assert len(hub.requests) == 3
    # It may be somebody's, who took failures out by hand.
    assert (tmp_path / SUITE / "a_demo.hdf5.kept-1").read_bytes() == b"x" * 300_000
    assert any("kept as a_demo.hdf5.kept-1" in line for line in lines)


def test_broken_connections_are_resumed_where_they_broke(hub, tmp_path):
    hub.breaks_after = 70_000
    download(SUITE, tmp_path, hub.address, client=PATIENT)
    check(hub, tmp_path)
    first = [wanted for name, wanted in hub.requests if name.endswith("a_demo.hdf5")]
    assert first == [None, "bytes=70000-", "bytes=140000-", "bytes=210000-", "bytes=280000-"]


def test_an_interrupted_download_is_resumed(hub, tmp_path):
    hub.breaks_after = 0
    with pytest.raises(UserError, match="no network, or no answer"):
        download(SUITE, tmp_path, hub.address, client=PATIENT)
    name = f"{SUITE}/a_demo.hdf5"
    sha256 = hashlib.sha256(hub.files[name]).hexdigest()
    part = tmp_path / SUITE / f".a_demo.hdf5.{sha256[:16]}.part"
    part.write_bytes(hub.files[name][:100_000])
    hub.breaks_after, hub.requests = None, []
    download(SUITE, tmp_path, hub.address, client=PATIENT)
    check(hub, tmp_path)
    assert hub.requests[0] == (name, "bytes=100000-")


def test_a_server_without_ranges_sends_the_whole_file_again(hub, tmp_path):
    name = f"{SUITE}/a_demo.hdf5"
    part = tmp_path / SUITE / f".a_demo.hdf5.{hashlib.sha256(hub.files[name]).hexdigest()[:16]}.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * 1000)
    hub.ranges = False
    download(SUITE, tmp_path, hub.address, client=PATIENT)
    check(hub, tmp_path)


def test_a_wrong_part_is_fetched_from_its_beginning(hub, tmp_path):
    name = f"{SUITE}/a_demo.hdf5"
    part = tmp_path / SUITE / f".a_demo.hdf5.{hashlib.sha256(hub.files[name]).hexdigest()[:16]}.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * 1000)
    lines = []
    download(SUITE, tmp_path, hub.address, client=PATIENT, log=lines.append)
    check(hub, tmp_path)
    assert any("its hash is not the hub's" in line for line in lines)


def test_a_wrong_hash_leaves_no_file(hub, tmp_path):
    hub.listed[f"{SUITE}/a_demo.hdf5"] = "0" * 64
    with pytest.raises(UserError, match=r"a_demo\.hdf5 came 2 times with another SHA-256") as caught:
        download(SUITE, tmp_path, hub.address, client=PATIENT)
    assert "\n" not in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("status", "message"), [(404, "the server says 404"), (503, "no answer .*the server says 503")]
)
def test_a_server_that_refuses(hub, tmp_path, status, message):
    hub.status = status
    with pytest.raises(UserError, match=message):
        download(SUITE, tmp_path, hub.address, client=PATIENT)


@pytest.mark.parametrize("entry", [[], [{"path": f"{SUITE}/README.md"}]], ids=["empty", "other files"])
def test_a_list_that_never_ends_is_left_after_some_pages(hub, entry):
    hub.page, hub.endless = json.dumps(entry).encode(), True
    with pytest.raises(UserError, match=r"its list of libero_object does not end"):
        list_files(PATIENT, hub.address, SUITE)
    assert hub.pages == MAX_PAGES


def test_a_list_of_endless_files_is_left_after_some(hub):
    entry = {"path": f"{SUITE}/a_demo.hdf5", "lfs": {"oid": "0" * 64, "size": 1}}
    hub.page, hub.endless = json.dumps([entry] * 6_000).encode(), True
    with pytest.raises(UserError, match="does not end after 12000 files"):
        list_files(PATIENT, hub.address, SUITE)


def listed(**changes) -> bytes:
    entry = {"path": f"{SUITE}/a_demo.hdf5", "lfs": {"oid": "0" * 64, "size": 300}}
    return json.dumps([{**entry, **changes}]).encode()


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (b"[" * 100_000, "not a list of files"),
        (b'{"error": "x"}', "not a list of files"),
        (b"null", "not a list of files"),
        (b"[5]", "not a list of files"),
        (b"\xff\xfe", "not a list of files"),
        (b'[{"size": 5}]', "lacks 'path'"),
        (listed(lfs={"size": 5}), "lacks 'oid'"),
        (listed(lfs=None), "not a list of files"),
        *[(listed(lfs={"oid": "0" * 64, "size": size}), "expected bytes") for size in (-1, 0, 1e400, "5", None, True)],
        *[(listed(lfs={"oid": oid, "size": 5}), "with the SHA-256") for oid in ("x", 5, "0" * 63, None)],
        *[
            (listed(path=name), "not a file of that suite")
            for name in (
                f"{SUITE}/../../elsewhere_demo.hdf5",
                f"{SUITE}/a\0b_demo.hdf5",
                f"{SUITE}/a\nb_demo.hdf5",
                f"/{SUITE}/a_demo.hdf5",
                f"{SUITE}/.ssh/a_demo.hdf5",
                "libero_goal/a_demo.hdf5",
                "a_demo.hdf5",
            )
        ],
    ],
)
def test_a_page_that_is_no_list_of_files_is_refused_in_one_line(hub, tmp_path, page, message):
    hub.page = page
    with pytest.raises(UserError, match=message) as caught:
        download(SUITE, tmp_path / "out", hub.address, client=PATIENT)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert not (tmp_path / "out").exists()


def test_a_page_that_is_too_large_is_not_read_to_its_end(hub):
    hub.page = b" " * (LARGEST_RESPONSE + 2)
    with pytest.raises(UserError, match="sends more than 16777216 bytes"):
        list_files(PATIENT, hub.address, SUITE)


def test_a_disk_without_room_is_named_before_anything_is_fetched(hub, tmp_path):
    hub.page = listed(lfs={"oid": "0" * 64, "size": 10**16})
    with pytest.raises(UserError, match=r"10000000\.0 GB to fetch, .* GB free; free some space"):
        download(SUITE, tmp_path, hub.address, client=PATIENT)
    assert not hub.requests


def test_no_network_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("RLGEN_OFFLINE", raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    nobody = "http://127.0.0.1:9"  # the discard port, which nothing answers
    for options in (["--endpoint", nobody], []):
        if not options:
            monkeypatch.setenv("RLGEN_OFFLINE", "1")
        with pytest.raises(SystemExit) as stopped:
            main(["demos", "download", SUITE, "--out", str(tmp_path / "sets"), *options])
        error = capsys.readouterr().err
        assert stopped.value.code == 2 and "no network" in error and error.count("\n") == 1
    assert not (tmp_path / "sets").exists()


def test_an_unknown_set_names_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"unknown set 'libero_100', expected one of libero_spatial, .*, all"):
        download("libero_100", tmp_path, "http://127.0.0.1:9")
