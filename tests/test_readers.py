"""The parts of `experiments/readers/run.py` that need no reader: environments, and comparing what two of them read."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from rlgen.data.dataset import FORMATS, VIDEO_FORMATS

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "readers"


@pytest.fixture(scope="module")
def readers():
    spec = importlib.util.spec_from_file_location("readers_run", FOLDER / "run.py")
    sys.modules["readers_run"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
