"""The whole job, killed in its stages and started again, ends as an unbroken one does.

Both runs are of the smoke preset from the built-in placeholder assets, as real processes with SIGKILL.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Nine runs of the whole job: `pytest -m slow`.
pytestmark = pytest.mark.slow

# A run is killed in a stage as soon as something of it is on disk.
KILLED_AT = {
    "demos": "demos/trials/0*.json",
    "bc": "bc/metrics.jsonl",
    "ppo": "ppo/checkpoints/1/commit_success.txt",
    "collect": "collect/episodes/wave-*.json",
    "export": "export/*/.1.0.0.partial/export.json",
    "vla-train": "vla-train/checkpoints/20/commit_success.txt",
    "evaluate": "evaluate/demonstrator/wave-*.json",
}
SAME_FILES = ("demos/demos.hdf5", "bc/metrics.jsonl", "collect/episodes/*.npz", "export/*/1.0.0/*", "evaluate/*/*.npz")
PATIENCE = 600


def start(folder: Path, cache: Path) -> subprocess.Popen:
    environment = {**os.environ, "RLGEN_CACHE": str(cache), "RLGEN_OFFLINE": "1"}
    words = [sys.executable, "-m", "rlgen", "quickstart", "--preset", "smoke", "--placeholders", "--run", str(folder)]
    log = open(folder.with_suffix(".log"), "a")  # noqa: SIM115
    return subprocess.Popen(words, env=environment, stdout=log, stderr=log)


def kill_when(folder: Path, cache: Path, pattern: str) -> None:
    """Starts the run and kills it once a file that matches is there."""
    process = start(folder, cache)
    deadline = time.monotonic() + PATIENCE
    while not list(folder.glob(pattern)):
        assert process.poll() is None, folder.with_suffix(".log").read_text()[-2000:]
        assert time.monotonic() < deadline, f"{pattern} did not appear"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def finish(folder: Path, cache: Path) -> None:
    process = start(folder, cache)
    assert process.wait(timeout=PATIENCE) == 0, folder.with_suffix(".log").read_text()[-2000:]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, cache):
    """An unbroken run, and one that was killed in every stage."""
    folder = tmp_path_factory.mktemp("runs")
    finish(folder / "unbroken", cache)
    for pattern in KILLED_AT.values():
        kill_when(folder / "broken", cache, pattern)
    finish(folder / "broken", cache)
    return folder / "unbroken", folder / "broken"


def content(folder: Path, pattern: str) -> dict[str, str]:
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    assert files, pattern
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("pattern", SAME_FILES)
def test_a_killed_run_leaves_the_same_bytes(runs, pattern):
    unbroken, broken = runs
    assert content(unbroken, pattern) == content(broken, pattern)


def test_a_killed_run_comes_to_the_same(runs):
    first, second = (json.loads((folder / "summary.json").read_text()) for folder in runs)
    assert {**first, "seconds": None} == {**second, "seconds": None}


def test_a_finished_run_is_refused_and_unharmed(runs, cache):
    before = (runs[0] / "summary.json").read_bytes()
    assert start(runs[0], cache).wait(timeout=PATIENCE) == 2
    assert "--resume" in runs[0].with_suffix(".log").read_text()
    assert (runs[0] / "summary.json").read_bytes() == before


def test_the_summary_says_what_the_run_was(runs):
    summary = json.loads((runs[0] / "summary.json").read_text())
    for actor in ("demonstrator", "bc", "ppo", "vla"):
        rate = summary[actor]
        assert 0 <= rate["low"] <= rate["successes"] / rate["trials"] <= rate["high"] <= 1
    assert "placeholder" in summary["assets"]
    assert summary["dataset"]["steps"] > 0 and summary["quality"]["ppo"]["noops"] == 0
    assert set(summary["seconds"]) >= {"demos", "bc", "ppo", "collect", "export", "vla-train", "evaluate"}
    assert {"versions", "initial_states", "task", "config"} <= set(summary)
    page = (runs[0] / "report.html").read_text()
    assert "placeholder" in page and "http://" not in page.replace("http://www.w3.org", "")


def test_the_dataset_opens_with_tfds(runs):
    import tensorflow_datasets as tfds

    [folder] = (runs[0] / "export").glob("*/1.0.0")
    builder = tfds.builder_from_directory(str(folder))
    assert (
        builder.info.splits["train"].num_examples
        == json.loads((runs[0] / "summary.json").read_text())["dataset"]["episodes"]
    )
