"""The parts of `experiments/readers` that need no reader: environments, comparing what two read, times of epochs."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rlgen.data.dataset import FORMATS, VIDEO_FORMATS

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "readers"


@pytest.fixture(scope="module")
def module():
    """Imports a script of the folder, as the scripts import each other."""
    before = list(sys.path)
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path[:] = before


@pytest.fixture(scope="module")
def readers(module):
    return module("run")


def reading() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    images = random.integers(0, 200, (2, 2, 8, 8, 3), np.uint8)
    return {
        "lengths": np.array([3, 2]),
        "actions": random.normal(size=(5, 7)).astype(np.float32),
        "states": random.normal(size=(5, 8)).astype(np.float32),
        "prompts": np.array(["push", "turn"]),
        "first_image": images[0],
        "first_wrist_image": images[1],
    }


def test_equal_readings_are_equal_in_another_type_as_well(readers):
    theirs = {**reading(), "version": "x 1", "actions": reading()["actions"].astype(np.float64)}
    result = readers.compare(reading(), theirs)
    assert (result["version"], result["episodes"], result["frames"]) == ("x 1", 2, 5)
    assert all(result[f"{name} equal"] is True for name in ("lengths", "prompts", "actions", "states"))
    images = result["first image"], result["first wrist image"]
    assert [image["largest difference"] for image in images] == [0, 0] and len({i["sha256"] for i in images}) == 2


def test_what_differs_is_told(readers):
    actions, images = reading()["actions"].copy(), reading()["first_image"].copy()
    actions[4, 6] += 1e-6
    images[1, 7, 7, 2] += 3
    theirs = {**reading(), "actions": actions, "first_image": images, "prompts": np.array(["push", "push"])}
    result = readers.compare(reading(), {**theirs, "states": reading()["states"][:4], "lengths": np.array([2, 2])})
    assert not any(result[f"{name} equal"] for name in ("lengths", "prompts", "actions", "states"))
    assert result["first image"]["largest difference"] == 3
    smaller = readers.compare(reading(), {**reading(), "first_image": reading()["first_image"][:, :4]})
    assert smaller["first image"]["largest difference"] is None


def test_a_level_of_difference_is_48_decibels(readers):
    images = reading()["first_image"]
    assert readers.psnr(images, images) is None
    assert readers.psnr(images, images + np.uint8(1)) == pytest.approx(48.13, abs=0.01)  # 20 log10(255)


def test_environments_are_made_apart_from_this_project(readers):
    for reader in readers.READERS.values():
        assert set(reader.formats) <= {*FORMATS, *VIDEO_FORMATS}
        source = (FOLDER / reader.script).read_text()
        assert "import rlgen" not in source and "from rlgen" not in source
        make, *installs = readers.environment_commands(reader, Path("/environment"), Path("/wheels"))
        assert make[:2] == ["uv", "venv"] and make[-2:] == [reader.python, "/environment"]
        assert [package for install in installs for package in install if package in reader.packages] == [
            *reader.packages
        ]
        for install in installs:
            assert install[:5] == ["uv", "pip", "install", "--python", "/environment/bin/python"]
            assert "/wheels" in install and ("--no-deps" in install) == (install is installs[0] and bool(reader.alone))
        assert ("--override" in installs[-1]) == bool(reader.overrides)
    opened = {kind for reader in readers.READERS.values() for kind in reader.formats}
    assert opened == {*FORMATS, *VIDEO_FORMATS} == set(readers.FORMATS)


def test_what_cannot_be_installed_is_told_in_a_line(readers):
    said = "Using Python 3.11\nerror: Git operation failed\n  cause: no network"
    error = subprocess.CalledProcessError(2, ["uv", "pip", "install", "some-reader"], stderr=said)
    assert readers.reason(error) == "some-reader: error: Git operation failed"
    assert readers.reason(subprocess.CalledProcessError(2, ["uv"])) == "uv: no reason"


def test_epochs_are_timed_apart_from_the_opening(module):
    clock = {"now": 0.0}

    def epoch(seconds):
        for _ in range(3):
            clock["now"] += seconds
            yield 32

    def opened():
        clock["now"] += 5
        return [epoch(2), epoch(1)]

    turns = module("turns")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns.time, "perf_counter", lambda: clock["now"])
        answer = turns.timed_epochs(opened)
    assert (answer["open"], answer["seconds"], answer["frames"]) == (5, [6, 3], [96, 96])
    row = module("loading").summary([{**answer, "cpu_seconds": 1.92}])
    assert row["first"]["median"] == 96 / 11 and row["later"]["high"] == 32
    assert row["cpu_ms"]["low"] == pytest.approx(10)


def test_ratios_are_to_the_other_side(module):
    loading = module("loading")
    rates = {"ours": (60, 90, 2), "ours, decoding on request": (30, 30, 3), "other": (20, 30, 6)}
    rows = {
        name: dict(zip(("first", "later", "cpu_ms"), ({"median": value} for value in values), strict=True))
        for name, values in rates.items()
    }
    assert loading.ratios(rows, "other") == {
        "x": {"ours": {"first": 3, "later": 3}, "ours, decoding on request": {"first": 1.5, "later": 1}},
        "x_cpu": {"ours": 1.5, "ours, decoding on request": 2},  # ours decodes in one of two epochs
    }


def test_requests_are_answered_by_a_process_until_nothing_more_comes(module):
    turns = module("turns")
    program = "from turns import serve; serve(lambda a, b: [print('noise'), a + b][1])"
    side = turns.Side([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(FOLDER)!r}); {program}"])
    assert side.request(a=1, b=2) == 3 and side.request(a=2, b=2) == 4
    side.close()
    assert side._process.returncode == 0
