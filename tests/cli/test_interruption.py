"""Commands that are interrupted, and commands that lose a worker: how they end, and that they resume."""

import os
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points

import pytest

from rlgen.bench.interruption import Ending, descendants, interrupt, start

RLGEN = [sys.executable, "-m", "rlgen"]


@pytest.fixture
def environment(cache, kernels):
    return {**os.environ, "RLGEN_CACHE": str(cache), "RLGEN_OFFLINE": "1"}


def recording(out, episodes=2):
    options = ["--episodes", episodes, "--workers", 2, "--placeholders", "--clean", "--physics", "fast", "--out", out]
    return [*RLGEN, "demos", "record", "libero_goal/7", *map(str, options)]


def test_every_way_into_the_program_handles_signals():
    [script] = [point for point in entry_points(group="console_scripts") if point.name == "rlgen"]
    assert script.value == "rlgen.__main__:main"


# Before and while workers start, and at work. Earlier, the interpreter itself may not have begun to run the program.
@pytest.mark.parametrize("moment", [1.0, 2.0, 4.0])
def test_an_interrupted_recording_ends_with_one_line_and_leaves_no_process(tmp_path, environment, moment):
    ending = interrupt(recording(tmp_path / "demos", 500), tmp_path / "log", moment, environment=environment)
    assert isinstance(ending, Ending)
    assert ending.is_right, ending


def test_a_recording_whose_worker_was_killed_ends_with_one_line(tmp_path, environment):
    process = start(recording(tmp_path / "demos", 500), subprocess.PIPE, subprocess.PIPE, environment)
    # The workers may have to compile the control step first.
    deadline = time.monotonic() + 300
    while not list((tmp_path / "demos").rglob("0*.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # The first is the tracker of multiprocessing, the others are workers.
    worker = sorted(descendants(process.pid))[-1][0]
    os.kill(worker, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    message = errors.decode().splitlines()[-1]
    assert message.startswith("rlgen: ") and "memory" in message and "--workers" in message
    assert "Traceback" not in errors.decode()


@pytest.mark.slow
@pytest.mark.parametrize("moment", [1.0, 3.0, 6.0])
def test_an_interruption_while_xla_compiles_ends_like_any_other(tmp_path, environment, moment):
    command = [*RLGEN, "bench", "update", "--quick"]
    compiling = {**environment, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax")}
    ending = interrupt(command, tmp_path / "log", 3 + moment, environment=compiling)
    assert isinstance(ending, Ending)
    assert ending.is_right, ending
