"""One device, eight devices and two processes clone and train alike; each resumes what another left."""

import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from fake_devices import finish, loopback, start
from jax.sharding import Mesh
from rl.mesh_program import CONFIGS, POLICIES

from rlgen.configs.devices import RunDevices
from rlgen.core.errors import UserError
from rlgen.rl.ppo import check_mesh
from rlgen.training.sharding import check_divides, first_devices

PROGRAM = Path(__file__).parent / "mesh_program.py"


def metrics(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return sorted(lines, key=lambda line: (line["kind"], line["step"]))


def assert_alike(one: Path, other: Path) -> None:
    """Parameters, statistics and metrics are the same to 1e-5."""
    with np.load(one / "end.npz") as expected, np.load(other / "end.npz") as found:
        np.testing.assert_allclose(found["statistics"], expected["statistics"], rtol=1e-6)
        for part in ("bc net", "bc ema", "ppo net", "ppo critic"):
            # Adam divides by the size of a gradient: where that is next to nothing, rounding decides.
            size = np.sqrt(expected[f"{part} nu"])
            trained = size > 1e-5 * size.max()
            values = (numbers[f"{part} values"][trained] for numbers in (found, expected))
            np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-5, err_msg=part)
            assert trained.mean() > 0.5
    for ours, theirs in zip(metrics(other), metrics(one), strict=True):
        assert ours.keys() == theirs.keys() and ours.pop("kind") == theirs.pop("kind")
        for key in ours:
            assert ours[key] == pytest.approx(theirs[key], rel=1e-5, abs=1e-5), key


@pytest.mark.parametrize("name", ["vectors", pytest.param("images", marks=pytest.mark.slow)])
def test_eight_devices_and_then_two_processes_train_as_one_device(name, tmp_path):
    one, many = tmp_path / "one", tmp_path / "many"
    [printed] = finish(start(PROGRAM, name, one, many, devices=8))
    assert "16 environments on 1 devices" in printed and "16 environments on 8 devices" in printed
    address = loopback()
    both = finish(*(start(PROGRAM, name, many, address, 2, process) for process in (0, 1)))
    assert all("8 environments on 2 devices" in text for text in both)
    assert_alike(one, many)


EIGHT_DEVICES = Mock(spec=Mesh, size=8)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("vectors", {"environments": 24}, r"ppo\.environments 24 on 8 devices: expected a multiple of 16"),
        ("vectors", {"batch": 36}, r"ppo\.batch 36 on 8 devices: expected a multiple of 8"),
        ("images", {"batch": 36}, r"ppo\.batch 36 on 8 devices: expected a multiple of 24"),
    ],
)
def test_counts_that_do_not_divide_are_one_line(name, change, words):
    check_mesh(POLICIES[name], CONFIGS[name], EIGHT_DEVICES)
    with pytest.raises(UserError, match=words) as raised:
        check_mesh(POLICIES[name], replace(CONFIGS[name], **change), EIGHT_DEVICES)
    assert "\n" not in str(raised.value)


def test_devices_that_are_not_there_are_one_line():
    with pytest.raises(UserError, match=r"--devices 99: expected at most \d+, those of a process"):
        first_devices(99)
    with pytest.raises(UserError, match=r"bc\.batch 9 on 8 devices: expected a multiple of 8"):
        check_divides(EIGHT_DEVICES, "bc.batch", 9, 9)
    with pytest.raises(UserError, match="2 processes need --coordinator"):
        RunDevices(processes=2)
