"""A policy server under attack: what its good clients, its health and its memory have to say.

Command:  uv run python experiments/attack_server.py [--seconds 6] [--json experiments/results/vla/attack_server.json]
Cost:     three minutes on two cores.
Expected: no hostile message answered; of eight good clients no answer lost or wrong; `/healthz` within 0.5 s
          throughout; memory within 300 MB of that at the start; no line from the server; at SIGTERM no request lost,
          connections closed with code 1001, exit code 143.

The server is `rlgen vla serve` with a tiny model. Each kind of attack runs alone for some seconds, then all at once;
the good clients, and one more that sends garbage, ask all the time.
"""

import argparse
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rlgen.bench.attack import Siege, Watch, ask_until_closed
from rlgen.bench.serve import load, make_requests
from rlgen.bench.timing import machine
from rlgen.vla.checkpoints.model_folder import write_model
from rlgen.vla.data.normalize import NormStats, Statistics
from rlgen.vla.data.spec import InputSpec
from rlgen.vla.model import pi0
from rlgen.vla.model.presets import preset
from rlgen.vla.serving import wire
from rlgen.vla.serving.client import PolicyClient
from rlgen.vla.serving.policy import open_policy

CLIENTS = 8
LIBRARIES = ("websockets", "msgpack", "numpy", "jax")


def main() -> None:
    """Starts the server, attacks it, stops it, and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), arguments.preset, arguments.seconds)
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")


def measure(folder: Path, name: str, seconds: float) -> dict[str, Any]:
    """Returns the report, as JSON values.

    Args:
      folder: for the model and the server's output.
      name: of the model's preset.
      seconds: of each kind of attack.
    """
    write_fresh_model(folder / "model", name)
    requests, expected = make_requests(open_policy(folder / "model", buckets=True), 24)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "rlgen", "vla", "serve", str(folder / "model"), "--port", address.split(":")[1]]
    with (
        open(folder / "log", "w") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as server,
        # Attackers and clients must not wait for each other's interpreter.
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as clients,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as attackers,
    ):
        try:
            PolicyClient(address, patience_s=600).close()
            # Both import jax first.
            warm = attackers.submit(besiege, address, requests[0], 0.1, ["other protocols"])
            clients.submit(load, address, requests, expected, clients=CLIENTS, count=200).result()
            warm.result()
            lines_before = (folder / "log").read_text()
            report = {"machine": machine(), "versions": {each: version(each) for each in LIBRARIES}, "preset": name}
            report |= {"load_of_the_machine": os.getloadavg()[0], "seconds": seconds}
            report |= attack(clients, attackers, server.pid, address, requests, expected, seconds)
            message = wire.pack(requests[0])
            ends = ask_until_closed(address, message, clients=4, stop=lambda: server.send_signal(signal.SIGTERM))
            report["stop"] = {
                "clients": 4,
                "lost": sum(lost for lost, _ in ends),
                "close_codes": [code for _, code in ends],
                "exit_code": server.wait(60),
            }
            report["lines_of_the_server"] = (folder / "log").read_text()[len(lines_before) :].splitlines()
        finally:
            server.kill()
    return report


def attack(
    clients: ProcessPoolExecutor,
    attackers: ProcessPoolExecutor,
    pid: int,
    address: str,
    requests: list[dict[str, Any]],
    expected: list[np.ndarray],
    seconds: float,
) -> dict[str, Any]:
    """Attacks with each kind alone and then with all, and returns what happened meanwhile.

    Args:
      clients: a process for the good clients.
      attackers: a process for the attackers.
      pid: the server's process.
      address: `host:port`.
      requests: of the good clients.
      expected: their answers.
      seconds: of each kind.
    """
    kinds = Siege(address, requests[0]).kinds
    plan = [*([kind] for kind in kinds), kinds]
    total = seconds * (len(plan) + 1)
    asking = clients.submit(load_for, total, address, requests, expected)
    rows: dict[str, Any] = {}
    start = None
    for chosen in plan:
        last = len(chosen) > 1
        with Watch(address, pid) as watch:
            tries, answered = attackers.submit(
                besiege, address, requests[0], 2 * seconds if last else seconds, chosen
            ).result()
        start = watch.start_mb if start is None else start
        row = {
            "tries": sum(tries.values()),
            "answered": answered,
            "health_checks": len(watch.health_s),
            "health_most_s": max(watch.health_s),
            "memory_most_mb_above_start": watch.most_mb - start,
        }
        rows["all at once" if last else chosen[0]] = row
        print(chosen if not last else "all at once", row, flush=True)
    served = asking.result()
    return {"memory_start_mb": start, "attacks": rows, "good_clients": served}


def load_for(seconds: float, *arguments: Any) -> dict[str, Any]:
    """Runs the good clients for some seconds; the other arguments are those of `load`."""
    until = threading.Event()
    threading.Timer(seconds, until.set).start()
    return load(*arguments, clients=CLIENTS, count=10**9, until=until)


def besiege(address: str, good: dict[str, Any], seconds: float, kinds: list[str]) -> tuple[dict[str, int], list[str]]:
    """Attacks, and returns how often each kind was tried, and the hostile messages that were answered.

    Args:
      address: `host:port`.
      good: an observation that the server answers.
      seconds: how long.
      kinds: of attacks.
    """
    siege = Siege(address, good)
    siege.run(seconds, kinds)
    return dict(siege.counts), siege.answered


def write_fresh_model(folder: Path, name: str) -> None:
    """Writes a model of a preset with fresh parameters."""
    config = preset(name)
    ones = [Statistics(*(np.full(size, value, np.float32) for value in (0, 1, -1, 1))) for size in (8, 7)]
    params = pi0.init(config, jax.random.key(0))
    write_model(folder, config, InputSpec(), NormStats(*ones), jax.tree.map(np.asarray, params))


if __name__ == "__main__":
    main()
