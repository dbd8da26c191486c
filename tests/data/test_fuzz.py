"""Damaged files of every kind: no crash, no hang, no traceback, and nothing that is lost or altered unnoticed."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from rlgen.bench.fuzz.hdf5 import KINDS, damage, fuzz
from rlgen.bench.fuzz.readers import ReaderProcess
from rlgen.bench.fuzz.run import MUST_BE_0, Fuzz
from rlgen.bench.fuzz.sources import SOURCES
from rlgen.data.formats.hdf5.layout import DemoFileInfo
from rlgen.data.formats.hdf5.writer import write_demos

# Damage to numbers and names for which robosuite's files have no checksum.
UNDETECTED = ("bits", "bytes", "zeroed", "dtype", "attribute")


def seeds(kinds, count):
    return [(kind, seed) for kind in kinds for seed in range(count)]


@pytest.fixture
def ours(tmp_path, episode_of, robot_of) -> Path:
    path = tmp_path / "ours_demo.hdf5"
    episodes = [episode_of(index, steps=20) for index in range(3)]
    info = DemoFileInfo("Libero_Floor_Manipulation", "libero_object/x.bddl", "x", "<mujoco/>" * 200)
    write_demos(path, episodes, [robot_of(episode) for episode in episodes], info)
    return path


def test_every_episode_of_our_files_comes_back_to_the_bit_or_is_counted(ours, tmp_path):
    found = fuzz(ours, tmp_path, seeds(KINDS, 12))
    assert found["files"] == 120
    assert found["altered"] == found["lost"] == found["errors"] == found["hung"] == 0
    assert found["bad"] > 30 and found["refused"] > 10 and found["whole"] > 20


def test_robosuites_files_lose_no_episode(tmp_path):
    package = Path(find_spec("robosuite").submodule_search_locations[0])
    lift = package / "models/assets/demonstrations/lift/demo.hdf5"
    detected = [kind for kind in KINDS if kind not in UNDETECTED]
    found = fuzz(lift, tmp_path, seeds(detected, 8))
    assert found["altered"] == found["lost"] == found["errors"] == found["hung"] == 0
    found = fuzz(lift, tmp_path, seeds(UNDETECTED, 8))
    assert found["lost"] == found["errors"] == found["hung"] == 0


def test_damage_is_the_same_for_the_same_seed(ours, tmp_path):
    for name in ("a", "b"):
        damage(ours, tmp_path / name, "bits", np.random.default_rng(1))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != ours.read_bytes()


def test_no_reader_of_any_kind_of_file_gives_way(tmp_path):
    """A sample of `experiments/fuzz_readers.py`."""
    outcomes = {}
    with ReaderProcess() as process:
        for index, (name, (kind, hashed, make)) in enumerate(SOURCES.items()):
            fuzz = Fuzz(kind, make(tmp_path / str(index)), tmp_path / "scratch", process, hashed)
            fuzz.run(range(10))
            assert [example for example in fuzz.examples if example] == []
            outcomes[name] = fuzz.total()
    assert all(total["files"] == 10 and not any(total[count] for count in MUST_BE_0) for total in outcomes.values())
    assert sum(total["refused"] + total["noticed"] for total in outcomes.values()) > 30


def test_a_process_that_ends_is_found_out_and_replaced(tmp_path):

    with ReaderProcess() as process:
        assert process.read("no such kind", tmp_path, 60) == "crashed"
        assert process.read("episode", tmp_path / "none.npz", 60).refusals["read"].endswith("no such episode file")
