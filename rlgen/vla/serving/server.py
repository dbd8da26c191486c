"""A policy server for openpi's clients: websockets, with requests of several clients in one call of the model.

A connection receives the server's metadata, then an answer for every observation that it sends, in the format of
`rlgen.vla.serving.wire`. An error is answered by a text frame with its traceback, after which the connection closes.
`/healthz` and `/metrics` answer by HTTP on the same port.
"""

import asyncio
import http
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import jax
import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from rlgen.vla.data.transforms import Sample
from rlgen.vla.serving import wire
from rlgen.vla.serving.policy import VlaPolicy

RequestT, AnswerT = TypeVar("RequestT"), TypeVar("AnswerT")


class Batcher(Generic[RequestT, AnswerT]):
    """A queue that collects requests while the model works, and answers them together.

    The requests that arrived during a call make the next batch. One that arrives while the model is idle waits no
    longer than `window_s` for others.

    Args:
      run: answers at most `largest` requests, in order, in a thread.
      largest: requests in a batch.
      window_s: seconds to wait for more requests where a batch is not full.
    """

    def __init__(
        self, run: Callable[[Sequence[RequestT]], Sequence[AnswerT]], largest: int, *, window_s: float = 0.002
    ):
        self._run, self._largest, self._window = run, largest, window_s
        self._queue: asyncio.Queue[tuple[RequestT, asyncio.Future]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Batcher[RequestT, AnswerT]":
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def ask(self, request: RequestT) -> Any:
        """Returns the answer to a request; raises what `run` raised for its batch."""
        answer: asyncio.Future = asyncio.get_running_loop().create_future()
        await self._queue.put((request, answer))
        return await answer

    async def _work(self) -> None:
        while True:
            waiting = [await self._queue.get()]
            if self._queue.qsize() + 1 < self._largest:
                await asyncio.sleep(self._window)
            while len(waiting) < self._largest and not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            # Clients that have left need no answer.
            waiting = [pair for pair in waiting if not pair[1].done()]
            if waiting:
                await self._answer(waiting)

    async def _answer(self, waiting: list[tuple[RequestT, asyncio.Future]]) -> None:
        requests = [request for request, _ in waiting]
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._run, requests)
        except Exception as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(waiting, answers, strict=True):
            if not future.done():
                future.set_result(answer)


LATENCIES = 4096
"""Latest answers whose latencies the metrics summarize."""


@dataclass
class ServerMetrics:
    """Counters of a server.

    Attributes:
      answers: so far.
      errors: connections closed by an error.
      connections: open now.
      batches: calls of the model.
      seconds: latencies of the latest answers.
    """

    answers: int = 0
    errors: int = 0
    connections: int = 0
    batches: int = 0
    seconds: list[float] = field(default_factory=list)

    def answered(self, seconds: float) -> None:
        """Counts an answer that took `seconds`."""
        self.answers += 1
        self.seconds = [*self.seconds[-LATENCIES + 1 :], seconds]

    def text(self) -> str:
        """Returns Prometheus' text format; latencies in seconds."""
        lines = [
            f"rlgen_vla_answers_total {self.answers}",
            f"rlgen_vla_errors_total {self.errors}",
            f"rlgen_vla_connections {self.connections}",
            f"rlgen_vla_model_calls_total {self.batches}",
        ]
        if self.seconds:
            pairs = zip((0.5, 0.95), np.quantile(self.seconds, [0.5, 0.95]), strict=True)
            lines += [f'rlgen_vla_answer_seconds{{quantile="{q}"}} {value:.6f}' for q, value in pairs]
        return "\n".join(lines) + "\n"


class PolicyServer:
    """A server that answers clients with a policy.

    Args:
      policy: the model; requests of several clients share its calls.
      metadata: sent to every client first.
      seed: of the noise, which differs between answers.
    """

    def __init__(self, policy: VlaPolicy, metadata: dict[str, Any], *, seed: int = 0):
        self.policy, self.metadata, self.metrics = policy, metadata, ServerMetrics()
        self._seed = seed
        self._batcher: Batcher[tuple[Sample, np.ndarray], np.ndarray] = Batcher(self._run, policy.batch)

    async def run(self, host: str, port: int, on_ready: Callable[[int], None] = lambda port: None) -> None:
        """Serves until it is cancelled.

        Args:
          host: address to listen on.
          port: 0 for a free one.
          on_ready: called with the port when clients can connect.
        """
        options = {"compression": None, "max_size": None, "process_request": self._http}
        async with self._batcher, serve(self._converse, host, port, **options) as server:
            on_ready(server.sockets[0].getsockname()[1])
            await asyncio.get_running_loop().create_future()

    def _http(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        if request.path == "/metrics":
            return connection.respond(http.HTTPStatus.OK, self.metrics.text())
        return None

    async def _converse(self, connection: ServerConnection) -> None:
        self.metrics.connections += 1
        try:
            await connection.send(wire.pack(self.metadata))
            previous: float | None = None
            while True:
                previous = await self._answer(connection, await connection.recv(), previous)
        except ConnectionClosed:
            pass
        except Exception:
            self.metrics.errors += 1
            try:
                await connection.send(traceback.format_exc())
                await connection.close(1011, "the request could not be answered; the frame before says why")
            except ConnectionClosed:
                pass
        finally:
            self.metrics.connections -= 1

    async def _answer(self, connection: ServerConnection, message: str | bytes, previous: float | None) -> float:
        """Answers one request; returns its seconds, which the next answer of this connection contains."""
        start = time.monotonic()
        if isinstance(message, str):
            raise ValueError("a text frame; observations are sent as msgpack in binary frames")
        observation = wire.unpack(message)
        if not isinstance(observation, dict):
            raise ValueError(f"a message of {type(observation).__name__}; expected a dict of observations")
        loop = asyncio.get_running_loop()
        prepared = await loop.run_in_executor(None, self.policy.prepare, observation)
        if prepared["state"].ndim != 1:
            raise ValueError(f"a state of shape {list(prepared['state'].shape)}; send one observation at a time")
        noise = self._noise(observation)
        ready = time.monotonic()
        actions = await self._batcher.ask((prepared, noise))
        infer_ms = 1000 * (time.monotonic() - ready)
        timing = {"infer_ms": infer_ms} | ({} if previous is None else {"prev_total_ms": 1000 * previous})
        answer = {"actions": actions, "policy_timing": {"infer_ms": infer_ms}, "server_timing": timing}
        await connection.send(wire.pack(answer))
        seconds = time.monotonic() - start
        self.metrics.answered(seconds)
        return seconds

    def _noise(self, observation: Sample) -> np.ndarray:
        """Returns the client's noise if it sends some, so that an answer can be repeated; else new noise."""
        config = self.policy.config
        if "noise" in observation:
            noise = np.asarray(observation["noise"], np.float32)
            if noise.shape != (config.horizon, config.action_size) or not np.isfinite(noise).all():
                raise ValueError(f"noise of shape {list(noise.shape)}, expected {[config.horizon, config.action_size]}")
            return noise
        self._seed += 1
        return self.policy.sample_noise([self._seed])[0]

    def _run(self, requests: Sequence[tuple[Sample, np.ndarray]]) -> Sequence[np.ndarray]:
        self.metrics.batches += 1
        samples, noises = zip(*requests, strict=True)
        return list(self.policy.act(stack(samples), np.stack(noises)))


def stack(samples: Sequence[Sample]) -> Sample:
    """Stacks prepared samples along a new batch axis."""
    first = samples[0]
    return {
        key: stack([sample[key] for sample in samples])
        if isinstance(value, dict)
        else np.stack([sample[key] for sample in samples])
        for key, value in first.items()
    }


def warm_up(policy: VlaPolicy) -> None:
    """Compiles the model's calls, so that no client waits for it."""
    config = policy.config
    side, state = 2 * [config.image_size], policy.pipeline.transforms[-1].state_size
    blank = {key: np.zeros((1, *side, 3), np.uint8) for key in ("observation/image", "observation/wrist_image")}
    sample = policy.prepare({**blank, "observation/state": np.zeros((1, state)), "prompt": [""]})
    for size in sorted({policy.call_size(count) for count in range(1, policy.batch + 1)}):
        rows = jax.tree.map(lambda x, size=size: np.repeat(x, size, axis=0), sample)
        policy.act(rows, np.zeros((size, config.horizon, config.action_size), np.float32))


@contextmanager
def serving(server: PolicyServer, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Runs a server in a thread and yields its address, `host:port`; stops it at the end.

    Args:
      server: to run.
      host: address to listen on.
      port: 0 for a free one.
    """
    ready, found = threading.Event(), []
    loop = asyncio.new_event_loop()

    def on_ready(port: int) -> None:
        found.append(port)
        ready.set()

    task = loop.create_task(server.run(host, port, on_ready))

    def work() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        ready.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait()
    if not found:
        raise OSError(f"no server on {host}:{port}")
    try:
        yield f"{host}:{found[0]}"
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(timeout=10)
