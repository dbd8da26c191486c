"""Pages of datasets in a browser: Chromium without a window, where there is one."""

import re
import shutil
import subprocess
import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
from export_of_noise import export

from rlgen.core.addresses import LOOPBACK
from rlgen.curation.viewer import make_server, write_pages
from rlgen.data.dataset import open_dataset
from rlgen.data.index import Provenance, write_provenance, write_starts
from rlgen.report.episode_page import WIDTH

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
LABEL = 'missed </option><script>document.title = "run"</script>'
ORIGIN = Provenance("libero_object/push", "ppo", "train", 0, 0, "exact", "3.8.1", "fast", "")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two datasets of the same tasks; episode 1 of the first and episode 2 of the second start alike."""
    folders = [export(kind, tmp_path_factory.mktemp(kind)) for kind in ("rlds", "lerobot")]
    for place, folder in enumerate(folders):
        count = len(open_dataset(folder))
        write_provenance(folder, [replace(ORIGIN, label=LABEL if index == 2 else "") for index in range(count)])
        write_starts(folder, [np.full(3, float(index if place == 0 else index - 1)) for index in range(count)])
    return folders


def steps_of_images(page: str) -> list[str]:
    """Returns the steps of the images that play and are visible now."""
    tags = [tag for tag in re.findall(r"<img [^>]*>", page) if 'class="present"' in tag]
    return [re.search(r'data-step="(\d+)"', tag)[1] for tag in tags]  # type: ignore[index]


@pytest.fixture
def chromium(tmp_path):
    def run(address: str, *options: str) -> str:
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        command += ["--virtual-time-budget=10000", "--disable-dev-shm-usage", *options, address]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    return run


def test_a_filter_in_the_address_leaves_the_rows_that_have_the_value(tmp_path, folders, chromium):
    listed = write_pages(folders, tmp_path / "pages", [])
    page = chromium(f"{listed.as_uri()}#other-success=no&task=push&label=nothing-like-it", "--dump-dom")
    body = page[page.index('<tbody class="rows">') :]
    rows = re.findall(r"<tr([^>]*)>.*?</tr>", body, re.DOTALL)
    left = [row for row in rows if " hidden" not in row]
    # Episode 1 of A starts as episode 2 of B does, which failed.
    assert len(rows) == 10 and len(left) == 1 and 'data-other-success="no"' in left[0]
    assert 'data-success="yes"' in left[0] and 'data-beside="same task and initial state"' in left[0]
    assert "1 of 10 rows" in page and '<form id="filters" class="filters">' in page
    title = re.search(r"<title>(.*?)</title>", page)
    assert title and " beside " in title[1]  # no script out of a dataset changed it


def test_the_present_step_is_marked_in_every_plot_as_the_server_shows_it(tmp_path, folders, chromium):
    with make_server(folders) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://{LOOPBACK}:{server.server_address[1]}/episode-00001.html#step=1"
        image = tmp_path / "page.png"
        page = chromium(address, "--dump-dom")
        chromium(address, f"--screenshot={image}", "--window-size=1300,1000", "--hide-scrollbars")
        server.shutdown()
    assert re.findall(r'<line class="now" x1="([\d.]+)"', page) == [f"{WIDTH // 2}"] * 15
    assert steps_of_images(page) == ["1"] * 4
    assert "step 1 of 2, 0.05 s" in page
    pixels = cv2.imread(str(image), cv2.IMREAD_COLOR_RGB).reshape(-1, 3)
    for color in ((0, 0x72, 0xB2), (0xD5, 0x5E, 0)):  # of A and of B
        assert (pixels == color).all(axis=1).sum() > 500


def test_a_page_plays_to_its_last_step(tmp_path, folders, chromium):
    listed = write_pages(folders[:1], tmp_path / "pages", [0])
    path = listed.parent / "episode-00000.html"
    # The page runs no script but its own, so that a click needs another policy.
    text = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", path.read_text())
    (clicked := tmp_path / "clicked.html").write_text(
        text.replace("</body>", '<script>document.getElementById("play").click()</script></body>')
    )
    page = chromium(clicked.as_uri(), "--dump-dom")
    assert "step 2 of 2, 0.10 s" in page and ">Play</button>" in page
    assert steps_of_images(page) == ["2"] * 2
    (refused := tmp_path / "refused.html").write_text(
        path.read_text().replace("</body>", '<script>document.getElementById("play").click()</script></body>')
    )
    assert "step 0 of 2" in chromium(refused.as_uri(), "--dump-dom")
