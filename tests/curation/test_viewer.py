"""Pages of a dataset: as files, and from a server on the loopback address."""

import base64
import re
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from export_of_noise import COUNT, export

from rlgen.core.addresses import LOOPBACK
from rlgen.core.errors import UserError
from rlgen.curation import viewer
from rlgen.curation.viewer import make_server, write_pages
from rlgen.data.dataset import open_dataset
from rlgen.data.index import read_index
from rlgen.report.pages import HEIGHT, curve


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return export("rlds", tmp_path_factory.mktemp("shown"))


def test_every_episode_has_a_page_with_its_images(tmp_path, dataset):
    first = write_pages(dataset, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "index.html", *(f"episode-{index:05d}.html" for index in range(COUNT))
    }  # fmt: skip
    listed = first.read_text()
    for index, entry in enumerate(read_index(dataset)):
        assert f'href="episode-{index:05d}.html"' in listed and entry.name in listed
    page = (tmp_path / "episode-00004.html").read_text()
    episode = open_dataset(dataset)[4]
    encoded = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    assert len(encoded) == 2 * len(episode) and "://" not in page and "<script" not in page
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(encoded[0]), np.uint8), cv2.IMREAD_COLOR_RGB)
    upright = np.asarray(episode.image[0])[:, ::-1]
    difference = np.abs(shown.astype(int) - upright).mean()
    assert difference < np.abs(shown.astype(int) - upright[:, ::-1]).mean() / 2
    assert page.count("<polyline") == 10
    assert "episode-00003.html" in page and "episode-00005.html" in page


def test_a_page_of_somebody_is_not_replaced(tmp_path, dataset):
    write_pages(dataset, tmp_path, [0, 1])
    write_pages(dataset, tmp_path, [1])  # ours are
    (tmp_path / "episode-00001.html").write_text("<!DOCTYPE html><title>mine</title>")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"episode-00001\.html is there and is not a page that rlgen wrote"):
        write_pages(dataset, tmp_path, [0, 1])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_pages_of_some_episodes_can_be_written(tmp_path, dataset):
    write_pages(dataset, tmp_path, [2])
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "episode-00002.html"}
    with pytest.raises(UserError, match="no episode 9; it has 9, counted from 0"):
        write_pages(dataset, tmp_path, [9])


def test_curves_go_from_edge_to_edge():
    points = [tuple(map(float, point.split(","))) for point in curve("x", np.array([0.0, 1.0, -1.0])).points.split()]
    assert [x for x, _ in points] == [0.0, 430.0, 860.0]
    assert points[1][1] < points[0][1] < points[2][1] and points[1][1] == 4 and points[2][1] == HEIGHT - 4
    assert {y for _, y in [tuple(map(float, p.split(","))) for p in curve("x", np.ones(5)).points.split()]} == {37.0}


def test_pages_are_served_on_the_loopback_address_only(dataset):
    with make_server(dataset) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host, port = server.server_address[:2]
        assert host == LOOPBACK
        page = urllib.request.urlopen(f"http://{host}:{port}/episode-00001.html").read().decode()
        assert "Episode 1" in page
        assert "Episodes" in urllib.request.urlopen(f"http://{host}:{port}/").read().decode()
        for path in ("episode-99999.html", "../../etc/passwd", "export.json"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"http://{host}:{port}/{path}")
        with pytest.raises(UserError, match="choose another --port"):
            make_server(dataset, port)
        server.shutdown()


@contextmanager
def shown(dataset):
    with make_server(dataset) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://{LOOPBACK}:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    "header", [{"Host": "evil.example"}, {"Host": "evil.example:80"}, {"Origin": "http://evil.example"}]
)
def test_pages_of_other_sites_are_not_answered(dataset, header):
    with shown(dataset) as url:
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(f"{url}/index.html", headers=header))
        named = urllib.request.Request(f"{url}/index.html", headers={"Host": "localhost:1"})
        assert b"Episodes" in urllib.request.urlopen(named).read()


def test_idle_connections_end_and_browsers_that_leave_print_nothing(dataset, monkeypatch, capfd):
    monkeypatch.setattr(viewer, "CONNECTION_S", 0.2)
    monkeypatch.setattr(viewer, "MOST_CONNECTIONS", 4)
    before = threading.active_count()
    with shown(dataset) as url:
        port = int(url.rsplit(":", 1)[1])
        idle = [socket.create_connection((LOOPBACK, port)) for _ in range(12)]
        assert b"Episodes" in urllib.request.urlopen(f"{url}/").read()
        for _ in range(3):
            with socket.create_connection((LOOPBACK, port)) as leaving:
                leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                leaving.sendall(b"GET /episode-00001.html HTTP/1.0\r\n\r\n")
        for connection in idle:
            connection.settimeout(5)
            assert connection.recv(1) == b""
            connection.close()
        end = time.monotonic() + 5
        while threading.active_count() > before + 1 and time.monotonic() < end:
            time.sleep(0.05)
        assert threading.active_count() <= before + 1
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("port", [-1, 99999])
def test_a_port_that_is_none_is_named(dataset, port):
    with pytest.raises(UserError, match=f"--port {port}"):
        make_server(dataset, port)


def test_a_folder_without_a_dataset_is_named(tmp_path):
    with pytest.raises(UserError, match="no dataset there"):
        write_pages(tmp_path, tmp_path / "out")
