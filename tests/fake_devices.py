"""Programs on fake devices: eight in one process, or one in each of two processes that find each other on loopback."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from compiling import code_generator

TESTS = Path(__file__).resolve().parent
PATIENCE = 300
QUICKLY = "--xla_backend_optimization_level=0"


def start(program: Path, *words: object, devices: int = 1) -> subprocess.Popen:
    """Starts a program of the tests on `devices` devices."""
    generator = (f"--{name}={str(value).lower()}" for name, value in code_generator().items())
    flags = (QUICKLY, *generator, f"--xla_force_host_platform_device_count={devices}")
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": " ".join(flags),
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
    }
    argv = [sys.executable, str(program), *map(str, words)]
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(*processes: subprocess.Popen) -> list[str]:
    """Waits for programs, and returns what they printed."""
    printed = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    for process, text in zip(processes, printed, strict=True):
        assert process.returncode == 0, text[-3000:]
    return printed


def loopback() -> str:
    """Returns an address of this machine that is free."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"
