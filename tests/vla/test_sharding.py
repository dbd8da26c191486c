"""One device, eight devices and two processes compute the same training; each resumes what another left."""

import json
from pathlib import Path

import numpy as np
import pytest
from fake_devices import finish, loopback, start
from jax.sharding import PartitionSpec

from rlgen.training import sharding

PROGRAM = Path(__file__).parent / "shard_program.py"


def losses(out: Path) -> np.ndarray:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    return np.array([[line[key] for key in ("loss", "validation_loss", "grad_norm")] for line in lines])


def test_eight_devices_and_then_two_processes_train_as_one_device(tmp_path):
    [printed] = finish(start(PROGRAM, tmp_path / "one", tmp_path / "many", devices=8))
    assert "1 step 4 of 4" in printed and "8 step 2 of 4" in printed and "8 step 3" not in printed
    address = loopback()
    both = finish(*(start(PROGRAM, tmp_path / "many", address, 2, process) for process in (0, 1)))
    assert all("2 step 3 of 4" in text and "2 step 2" not in text for text in both)
    assert all(int(text.split("cut ")[1].split()[0]) > 10 for text in both)
    np.testing.assert_allclose(losses(tmp_path / "many"), losses(tmp_path / "one"), rtol=1e-5)


@pytest.mark.parametrize(
    "shape, wanted",
    [
        ((6, 1024, 4096), PartitionSpec(None, None, "fsdp")),
        ((4096, 1030), PartitionSpec("fsdp", None)),
        ((1023, 4097), PartitionSpec()),
        ((64, 64), PartitionSpec()),
        ((), PartitionSpec()),
    ],
)
def test_large_arrays_are_cut_along_their_longest_fitting_axis(shape, wanted):
    assert sharding.cut_spec(shape, 4, 4) == wanted
    assert sharding.cut_spec(shape, 4, 1) == PartitionSpec()
