"""`rlgen bench serve`: a policy server under load from many clients at once, and one more that sends garbage."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect

from rlgen.bench.timing import describe
from rlgen.core.addresses import LOOPBACK
from rlgen.core.process import start_child
from rlgen.vla.checkpoints.model_folder import write_model
from rlgen.vla.data.normalize import NormStats, Statistics
from rlgen.vla.data.spec import InputSpec, make_pipeline
from rlgen.vla.model import pi0
from rlgen.vla.model.presets import preset
from rlgen.vla.serving import wire
from rlgen.vla.serving.client import PolicyClient
from rlgen.vla.serving.connections import Limits
from rlgen.vla.serving.policy import VlaPolicy, warm_up
from rlgen.vla.serving.server import PolicyServer, serving, stack

STATS = NormStats(*(Statistics(*(np.full(size, value, np.float32) for value in (0, 1, -1, 1))) for size in (8, 7)))
GARBAGE: tuple[bytes | str, ...] = (
    b"\xc1 no message",
    b"",
    "a text",
    wire.pack([1, 2, 3]),
    wire.pack({"prompt": "no images"}),
    wire.pack({b"__ndarray__": True, b"data": b"\0", b"dtype": "<f8", b"shape": [1 << 40]}),
)


def make_requests(policy: VlaPolicy, count: int, seed: int = 0) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """Returns observations that bring their own noise, and the actions that a correct server answers.

    Args:
      policy: the policy that is served.
      count: number of observations.
      seed: of the observations.
    """
    random, config = np.random.default_rng(seed), policy.config
    size = policy.pipeline.transforms[-1].state_size
    side = config.image_size
    requests = [
        {
            "observation/image": random.integers(0, 256, (side, side, 3), dtype=np.uint8),
            "observation/wrist_image": random.integers(0, 256, (side, side, 3), dtype=np.uint8),
            "observation/state": random.normal(size=size).astype(np.float32),
            "prompt": f"task {index}",
            "noise": random.standard_normal((config.horizon, config.action_size)).astype(np.float32),
        }
        for index in range(count)
    ]
    noise = np.stack([request["noise"] for request in requests])
    return requests, list(policy.act(stack([policy.prepare(request) for request in requests]), noise))


def load(
    address: str,
    requests: Sequence[dict[str, Any]],
    expected: Sequence[np.ndarray],
    *,
    clients: int,
    count: int,
    tolerance: float = 1e-3,
    until: threading.Event | None = None,
) -> dict[str, Any]:
    """Sends requests from several clients at once while another client sends garbage.

    Args:
      address: `host:port` of the server.
      requests: observations, sent over and over.
      expected: the correct actions of each.
      clients: connections at once.
      count: requests in all.
      tolerance: largest absolute error of an action that counts as correct.
      until: when it is set, clients send no more requests.

    Returns:
      As JSON values, the numbers of answers, of wrong and of lost ones, of garbage sent and of garbage refused
      properly, and the latencies of answers in milliseconds.
    """
    seconds: list[float] = []
    wrong, lost, lock, done = [0], [0], threading.Lock(), threading.Event()
    refused: list[bool] = []

    def work(client_index: int) -> None:
        client = PolicyClient(address)
        for i in range(client_index, count, clients):
            if until is not None and until.is_set():
                break
            chosen = (i * 7 + client_index) % len(requests)
            start = time.perf_counter()
            try:
                actions = client.infer(requests[chosen])["actions"]
            except ValueError:
                with lock:
                    lost[0] += 1
                client = PolicyClient(address)
                continue
            with lock:
                seconds.append(time.perf_counter() - start)
                wrong[0] += not np.allclose(actions, expected[chosen], atol=tolerance)
        client.close()

    def spoil() -> None:
        while not done.is_set():
            try:
                refused.append(send_garbage(address, GARBAGE[len(refused) % len(GARBAGE)]))
            except (OSError, WebSocketException):
                refused.append(False)
            time.sleep(0.005)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(clients)]
    spoiler = threading.Thread(target=spoil)
    start = time.perf_counter()
    for thread in (*workers, spoiler):
        thread.start()
    for thread in workers:
        thread.join()
    elapsed = time.perf_counter() - start
    done.set()
    spoiler.join()
    p50, p95 = 1000 * np.quantile(seconds, [0.5, 0.95])
    return {
        "clients": clients,
        "requests": len(seconds) + lost[0],
        "answers": len(seconds),
        "wrong": wrong[0],
        "lost": lost[0],
        "garbage": len(refused),
        "garbage_refused": sum(refused),
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "answers_per_s": len(seconds) / elapsed,
    }


def send_garbage(address: str, message: bytes | str) -> bool:
    """Sends a message; returns whether the answer is an error as text and the connection is closed with 1011."""
    with connect(f"ws://{address}", compression=None, max_size=None) as connection:
        connection.recv()
        connection.send(message)
        answer = connection.recv()
        try:
            connection.recv()
        except ConnectionClosed as error:
            return isinstance(answer, str) and error.rcvd is not None and error.rcvd.code == 1011
        with suppress(ConnectionClosed):
            connection.close()
        return False


def make_policy(name: str, batch: int) -> VlaPolicy:
    """Makes a policy of a preset with fresh parameters.

    Args:
      name: of the preset.
      batch: most observations in a call of the model.
    """
    config = preset(name)
    pipeline = make_pipeline(config, InputSpec(), STATS)
    return VlaPolicy(config, pi0.init(config, jax.random.key(0)), pipeline, batch=batch, buckets=True)


def run_preset(
    name: str, *, clients: int, requests: int, batch: int, window_ms: float = 0.0, starts: int = 0
) -> dict[str, Any]:
    """Starts a server of a preset with fresh parameters in this process, and puts it under load.

    Args:
      name: of the preset.
      clients: connections at once.
      requests: number of requests in all.
      batch: most observations in a call of the model.
      window_ms: milliseconds in which requests share a call.
      starts: processes that are started with a full compile cache, see `measure_starts`; 0 measures none.

    Returns:
      The report, as JSON values.
    """
    policy = make_policy(name, batch)
    started = {"start": measure_starts(policy, starts)} if starts else {}
    warm_up(policy)
    sent, expected = make_requests(policy, 24)
    server = PolicyServer(policy, {}, limits=Limits(connections=2 * clients + 8), window_s=window_ms / 1000)
    with serving(server) as address:
        report = load(address, sent, expected, clients=clients, count=requests)
    calls = sum(server.metrics.sizes.counts)
    report |= {"window_ms": window_ms, "requests_a_call": server.metrics.sizes.total / calls}
    return {"preset": name, "device": describe()["device"], "batch": batch, **report, **started}


def measure_starts(policy: VlaPolicy, count: int) -> dict[str, Any]:
    """Measures `rlgen vla serve` from the start of the process to its first answer.

    Args:
      policy: to serve; it is written to a folder.
      count: starts with a full compile cache, behind one with an empty cache.

    Returns:
      Seconds of the cold start and of each warm one, of a clock and of the process on all cores, with medians of the
      warm ones; and the load of the machine before, which a clock's seconds depend on.
    """
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        model, cache = Path(folder) / "model", Path(folder) / "cache"
        write_model(model, policy.config, policy.spec, STATS, policy.params)
        measured = [_start(model, cache, policy.batch) for _ in range(count + 1)]
    cold, *warm = measured
    seconds, cpu = (float(np.median(each)) for each in zip(*warm, strict=True))
    return {"load": load, "cold_s": cold[0], "cold_cpu_s": cold[1], "warm_s": seconds, "warm_cpu_s": cpu, "warm": warm}


def _start(model: Path, cache: Path, batch: int) -> tuple[float, float]:
    """Returns the seconds from the start of a server's process to its first answer, and those that it computed.

    All of its programs are in the cache when it ends.
    """
    port = free_port()
    words = [sys.executable, "-m", "rlgen", "vla", "serve", str(model), "--port", str(port), "--batch", str(batch)]
    blank = np.zeros((256, 256, 3), np.uint8)
    request = {"observation/image": blank, "observation/wrist_image": blank, "prompt": "first"}
    start = time.perf_counter()
    process = start_child(words, {"JAX_COMPILATION_CACHE_DIR": str(cache)}, stderr=subprocess.DEVNULL)
    try:
        client = PolicyClient(f"{LOOPBACK}:{port}", patience_s=600)
        client.infer({**request, "observation/state": np.zeros(8, np.float32)})
        taken = time.perf_counter() - start, process_seconds(process.pid)
        client.close()
        metrics = f"http://{LOOPBACK}:{port}/metrics"
        while f"rlgen_vla_batch_limit {batch}\n" not in urllib.request.urlopen(metrics, timeout=60).read().decode():
            time.sleep(0.2)
        return taken
    finally:
        process.terminate()
        process.wait()


def process_seconds(pid: int) -> float:
    """Returns the seconds that a process has computed on all cores, by Linux's `/proc`."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Returns a port of this machine on which nothing listens."""
    with socket.socket() as one:
        one.bind((LOOPBACK, 0))
        return int(one.getsockname()[1])
