"""One device, eight devices and two processes compute the same training; each resumes what another left."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jax.sharding import PartitionSpec

from rlgen.training import sharding

HERE = Path(__file__).parent
PATIENCE = 300
QUICKLY = ("--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false")


def start(out: Path, fsdp: int, stop: int, *distributed: object, devices: int = 1) -> subprocess.Popen:
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": " ".join([*QUICKLY, f"--xla_force_host_platform_device_count={devices}"]),
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE.parent)]),
    }
    argv = [sys.executable, str(HERE / "shard_program.py"), str(out), str(fsdp), str(stop), *map(str, distributed)]
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(*processes: subprocess.Popen) -> list[str]:
    printed = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    for process, text in zip(processes, printed, strict=True):
        assert process.returncode == 0, text[-3000:]
    return printed


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def losses(out: Path) -> np.ndarray:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    return np.array([[line[key] for key in ("loss", "validation_loss", "grad_norm")] for line in lines])


def test_eight_devices_and_then_two_processes_train_as_one_device(tmp_path):
    finish(start(tmp_path / "one", 1, 0))
    [printed] = finish(start(tmp_path / "many", 4, 2, devices=8))
    assert "8 step 2 of 4" in printed and "step 3" not in printed
    address = f"127.0.0.1:{free_port()}"
    both = finish(*(start(tmp_path / "many", 2, 0, address, 2, process) for process in (0, 1)))
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
