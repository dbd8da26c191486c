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
from rlgen.report.episode_page import FRAMES, HEIGHT, SIDE, WIDTH, frames, plots


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return export("rlds", tmp_path_factory.mktemp("shown"))


def test_every_episode_has_a_page_with_its_images(tmp_path, dataset):
    first = write_pages([dataset], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "index.html", *(f"episode-{index:05d}.html" for index in range(COUNT))
    }  # fmt: skip
    listed = first.read_text()
    for index, entry in enumerate(read_index(dataset)):
        assert f'href="episode-{index:05d}.html"' in listed and entry.name in listed
    page = (tmp_path / "episode-00004.html").read_text()
    episode = open_dataset(dataset)[4]
    encoded = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    assert len(encoded) == 2 * 2 * len(episode)  # images that play, and small ones
    assert "://" not in page and 'src="data:' in page and page.count("src=") == len(encoded)
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(encoded[0]), np.uint8), cv2.IMREAD_COLOR_RGB)
    upright = np.asarray(episode.image[0])[:, ::-1]
    difference = np.abs(shown.astype(int) - upright).mean()
    assert difference < np.abs(shown.astype(int) - upright[:, ::-1]).mean() / 2
    assert page.count("<polyline") == page.count('<line class="now"') == 7 + 8
    assert "episode-00003.html" in page and "episode-00005.html" in page


def test_a_page_of_somebody_is_not_replaced(tmp_path, dataset):
    write_pages([dataset], tmp_path, [0, 1])
    write_pages([dataset], tmp_path, [1])  # ours are
    (tmp_path / "episode-00001.html").write_text("<!DOCTYPE html><title>mine</title>")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"episode-00001\.html is there and is not a page that rlgen wrote"):
        write_pages([dataset], tmp_path, [0, 1])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_pages_of_some_episodes_can_be_written(tmp_path, dataset):
    write_pages([dataset], tmp_path, [2])
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "episode-00002.html"}
    with pytest.raises(UserError, match="no episode 9; it has 9, counted from 0"):
        write_pages([dataset], tmp_path, [9])


def points(line):
    return [tuple(map(float, point.split(","))) for point in line.split()]


@pytest.mark.unit
def test_plots_go_from_edge_to_edge_and_two_episodes_have_one_scale():
    [plot] = plots(["x"], [np.array([[0.0], [1.0], [-1.0]])])
    assert (plot.low, plot.high) == (-1, 1)
    assert points(plot.lines[0]) == [(0, HEIGHT / 2), (WIDTH / 2, 4), (WIDTH, HEIGHT - 4)]
    [plot] = plots(["x"], [np.zeros((5, 1)), np.array([[1.0], [2.0]])])
    assert [x for x, _ in points(plot.lines[0])] == [0, WIDTH / 4, WIDTH / 2, 3 * WIDTH / 4, WIDTH]
    assert points(plot.lines[1]) == [(0, HEIGHT / 2), (WIDTH / 4, 4)]  # step 1 is below step 1 of the other
    assert {y for _, y in points(plot.lines[0])} == {HEIGHT - 4}
    assert {y for _, y in points(plots(["x"], [np.ones((5, 1))])[0].lines[0])} == {HEIGHT / 2}
    assert points(plots(["x"], [np.ones((1, 1))])[0].lines[0]) == [(0, HEIGHT / 2)]


@pytest.mark.unit
def test_episodes_of_other_widths_have_a_plot_for_every_number():
    first, second = plots(["x"], [np.zeros((3, 1)), np.ones((2, 2))])
    assert (first.name, second.name) == ("number 0", "number 1")
    assert len(points(first.lines[0])) == 3 and points(first.lines[1])[0] == (0, 4)
    assert second.lines[0] == "" and (second.low, second.high) == (1, 1)


@pytest.mark.unit
def test_the_images_of_a_page_are_few_and_small_whatever_the_episode_has():
    noise = np.random.default_rng(0).integers(0, 256, (2, 900, 1200, 3), np.uint8)
    long = [noise[index % 2] for index in range(500)]
    shown = frames(long, FRAMES, SIDE)
    assert len(shown) == FRAMES and (shown[0].step, shown[-1].step) == (0, 499)
    decoded = cv2.imdecode(
        np.frombuffer(base64.b64decode(shown[0].uri.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR_RGB
    )
    assert decoded.shape == (192, 256, 3)
    assert sum(len(frame.uri) for frame in shown) < 3_000_000  # of noise, which is what compresses least
    assert [frame.step for frame in frames(long[:3], FRAMES, SIDE)] == [0, 1, 2]


def test_two_datasets_have_pages_side_by_side(tmp_path, dataset):
    other = export("hdf5", tmp_path / "other")
    out = tmp_path / "pages"
    listed = write_pages([dataset, other], out, [0, 4]).read_text()
    assert {path.name for path in out.iterdir()} == {"index.html", "episode-00000.html", "episode-00004.html"}
    assert listed.count('data-beside="same task"') == COUNT and "no episode beside" not in listed
    page = (out / "episode-00004.html").read_text()
    for folder in (dataset, other):
        entry = read_index(folder)[4]
        assert f"{entry.file}, record {entry.record}" in page
    assert page.count("<polyline") == 2 * (7 + 8) == 2 * page.count('<line class="now"')
    assert page.count('class="film"') == 4
    with pytest.raises(UserError, match="no episode 9; it has 9, counted from 0"):
        write_pages([dataset, other], out, [9])
    with pytest.raises(UserError, match="3 datasets: name one, or two"):
        write_pages([dataset, other, dataset], out)


def test_pages_are_served_on_the_loopback_address_only(dataset):
    with make_server([dataset]) as server:
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
            make_server([dataset], port)
        server.shutdown()


@contextmanager
def shown(dataset):
    with make_server([dataset]) as server:
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
        make_server([dataset], port)


def test_a_folder_without_a_dataset_is_named(tmp_path):
    with pytest.raises(UserError, match="no dataset there"):
        write_pages([tmp_path], tmp_path / "out")
