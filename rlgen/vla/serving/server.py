"""A policy server for openpi's clients: websockets, with requests of several clients in one call of the model.

A connection receives the server's metadata, then an answer for every observation that it sends, in the format of
`rlgen.vla.serving.wire`. An error is answered by a text frame that says what is wrong; then the connection closes.
`/healthz` and `/metrics` answer by HTTP on the same port. Messages are read and prepared in threads, never in the event
loop; `rlgen.vla.serving.connections` limits what clients may send.
"""

import asyncio
import http
import itertools
import logging
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.protocol import State

from rlgen.core.addresses import refusal
from rlgen.core.errors import UserError, first_line
from rlgen.vla.data.inputs import as_noise, as_vector
from rlgen.vla.data.transforms import LIBERO_CAMERAS, PROMPT, STATE, Sample
from rlgen.vla.serving import wire
from rlgen.vla.serving.batcher import Batcher
from rlgen.vla.serving.connections import Gate, LimitedConnection, Limits
from rlgen.vla.serving.metrics import CONTENT_TYPE, ServerMetrics
from rlgen.vla.serving.policy import NOT_FINITE, VlaPolicy, call_sizes, warm_up

KEYS = (*LIBERO_CAMERAS, STATE, PROMPT)
LONGEST_ERROR = 500  # characters
ON_THE_WAY_S = 0.25
"""Seconds in which a request that was sent before the server stops still arrives."""
STOP_S = 20.0
"""Seconds in which a server that stops answers what has begun."""


class PolicyServer:
    """A server that answers clients with a policy.

    Args:
      policy: the model; requests of several clients share its calls.
      metadata: sent to every client first.
      seed: of the noise, which differs between answers.
      limits: what clients may take.
      window_s: seconds after a request in which others join its call of the model.
      compiled: size of the largest call of the model that is compiled; larger ones are compiled one after the other
        while it serves, and taken from then on. None is all.
      tracebacks: whether clients see tracebacks, with this machine's paths.
      log: called with the traceback of an error that is the server's own.
    """

    def __init__(
        self,
        policy: VlaPolicy,
        metadata: dict[str, Any],
        *,
        seed: int = 0,
        limits: Limits | None = None,
        window_s: float = 0.0,
        compiled: int | None = None,
        tracebacks: bool = False,
        log: Callable[[str], None] = print,
    ):
        self.policy, self.metadata = policy, metadata
        self._tracebacks, self._log = tracebacks, log
        self._seeds = itertools.count(seed + 1)
        self._gate = Gate(limits or Limits())
        self._is_stopping = False
        self._batcher: Batcher[tuple[Sample, np.ndarray], np.ndarray | UserError] = Batcher(
            self._run, policy.batch if compiled is None else compiled, window_s=window_s
        )
        self._to_compile = [] if compiled is None else [size for size in call_sizes(policy) if size > compiled]
        self.metrics = ServerMetrics(waiting=lambda: len(self._batcher), limit=lambda: self._batcher.largest)
        # Two, as the interpreter's lock lets them wait for each other, and the event loop for all.
        self._threads = ThreadPoolExecutor(2)

    async def run(self, host: str, port: int, on_ready: Callable[[int], None] = lambda port: None) -> None:
        """Serves until it is cancelled; then answers what has begun, and closes all connections with code 1001.

        Args:
          host: address to listen on.
          port: 0 for a free one.
          on_ready: called with the port when clients can connect.
        """
        logger = logging.getLogger(__name__)
        # What clients do wrong is their concern and not the terminal's.
        logger.addHandler(logging.NullHandler())
        listening = serve(
            self._converse,
            host,
            port,
            compression=None,
            origins=[None],
            max_size=self._gate.limits.message_bytes,
            max_queue=None,
            close_timeout=5,
            process_request=partial(self._http, host),
            create_connection=partial(LimitedConnection, self._gate),  # type: ignore[arg-type]
            logger=logger,
        )
        with self._threads:
            async with self._batcher, listening as server:
                on_ready(server.sockets[0].getsockname()[1])
                compiling = asyncio.create_task(self._compile_rest())
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    compiling.cancel()
                    await self._stop(server)

    async def _compile_rest(self) -> None:
        """Compiles larger calls of the model while smaller ones answer."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as thread:
            for size in self._to_compile:
                try:
                    await loop.run_in_executor(thread, warm_up, self.policy, [size])
                except Exception as error:
                    self._log(f"calls of {size} observations cannot be compiled: {first_line(error)}")
                    return
                self._batcher.largest = size

    async def _stop(self, server: Server) -> None:
        """Answers what has begun and closes connections, those that are idle first."""
        self._is_stopping = True
        server.close(close_connections=False)
        loop = asyncio.get_running_loop()
        end, closing = loop.time() + STOP_S, set[asyncio.Task]()
        await asyncio.sleep(ON_THE_WAY_S)
        while self._gate.clients and loop.time() < end:
            for connection in [client for client in self._gate.clients if client.is_idle]:
                self._gate.leave(connection)
                closing.add(asyncio.create_task(_close(connection)))
            await asyncio.sleep(0.02)
        self._gate.close()
        if closing:
            await asyncio.wait(closing)

    def _http(self, host: str, connection: ServerConnection, request: Request) -> Response | None:
        headers = request.headers
        reason = refusal(host, headers.get_all("Host"), headers.get_all("Origin"))
        if reason is not None:
            return connection.respond(http.HTTPStatus.FORBIDDEN, f"{reason}\n")
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        if request.path == "/metrics":
            response = connection.respond(http.HTTPStatus.OK, self.metrics.text())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = CONTENT_TYPE
            return response
        assert isinstance(connection, LimitedConnection)
        if not self._gate.let_in(connection):
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many clients; try again later\n")
        return None

    async def _converse(self, connection: ServerConnection) -> None:
        assert isinstance(connection, LimitedConnection)
        self.metrics.connections += 1
        try:
            await self._send(connection, wire.pack(self.metadata))
            previous: float | None = None
            while True:
                previous = await self._answer(connection, await connection.recv(), previous)
        except ConnectionClosed:
            pass
        except Exception as error:
            self.metrics.errors += 1
            connection.is_busy = False
            connection.forget()
            with suppress(ConnectionClosed):
                await self._send(connection, self._error_text(error))
                await connection.close(CloseCode.INTERNAL_ERROR, "the frame before says why")
        finally:
            self.metrics.connections -= 1

    async def _answer(self, connection: LimitedConnection, message: str | bytes, previous: float | None) -> float:
        """Answers one request; returns its seconds, which the next answer of this connection contains."""
        start, connection.is_busy = time.monotonic(), True
        self.metrics.requests += 1
        if isinstance(message, str):
            raise UserError("a text frame; observations are sent as msgpack in binary frames")
        loop = asyncio.get_running_loop()
        size = len(message)
        prepared, noise = await loop.run_in_executor(self._threads, self._prepare, message)
        del message
        connection.release(size)
        ready = time.monotonic()
        actions = await self._batcher.ask((prepared, noise))
        if isinstance(actions, UserError):
            raise actions
        infer_ms = 1000 * (time.monotonic() - ready)
        timing = {"infer_ms": infer_ms} | ({} if previous is None else {"prev_total_ms": 1000 * previous})
        answer = {"actions": actions, "policy_timing": {"infer_ms": infer_ms}, "server_timing": timing}
        await self._send(connection, wire.pack(answer), is_answer=True)
        seconds = time.monotonic() - start
        self.metrics.answered(seconds)
        connection.answers, connection.is_busy = connection.answers + 1, False
        return seconds

    async def _send(self, connection: LimitedConnection, message: str | bytes, *, is_answer: bool = False) -> None:
        """Sends a message; the last answer with the close, so that the client sends no request that would be lost."""
        try:
            async with asyncio.timeout(self._gate.limits.message_s):
                if is_answer and self._is_stopping and connection.state is State.OPEN:
                    connection.protocol.send_binary(message)
                    await _close(connection)
                else:
                    await connection.send(message)
        except TimeoutError:
            # The client does not read, so that a close would wait for it as well.
            connection.transport.abort()

    def _prepare(self, message: bytes) -> tuple[Sample, np.ndarray]:
        """Returns what the model reads for a message, and the noise of the answer."""
        observation = wire.unpack(message)
        if not isinstance(observation, dict):
            raise UserError(f"a message of {type(observation).__name__}; expected a dict of observations")
        sample = {key: observation[key] for key in KEYS if key in observation}
        # Before images are resized: many small ones would become large.
        if STATE in sample and (state := as_vector(STATE, sample[STATE])).ndim != 1:
            raise UserError(f"a state of shape {list(state.shape)}; send one observation at a time")
        config = self.policy.config
        if "noise" in observation:
            # The client's, so that an answer can be repeated.
            noise = as_noise(observation["noise"], (config.horizon, config.action_size))
        else:
            noise = self.policy.sample_noise([next(self._seeds)])[0]
        return self.policy.prepare(sample), noise

    def _run(self, requests: Sequence[tuple[Sample, np.ndarray]]) -> Sequence[np.ndarray | UserError]:
        start, (samples, noises) = time.monotonic(), zip(*requests, strict=True)
        answers = self.policy.sample_actions(stack(samples), np.stack(noises))
        self.metrics.called(len(requests), time.monotonic() - start)
        return [each if np.isfinite(each).all() else UserError(NOT_FINITE) for each in answers]

    def _error_text(self, error: Exception) -> str:
        """Returns what a client receives: a traceback only if that was asked for."""
        if not isinstance(error, UserError):
            self._log("".join(traceback.format_exception(error)))
        if self._tracebacks:
            return "".join(traceback.format_exception(error))
        if isinstance(error, UserError):
            return " ".join(str(error).split())[:LONGEST_ERROR]
        return f"the server cannot answer ({type(error).__name__}); it shows the reason where it runs"


async def _close(connection: LimitedConnection) -> None:
    if connection.state is State.OPEN:
        await connection.close(CloseCode.GOING_AWAY, "the server stops")
    else:
        connection.transport.abort()


def stack(samples: Sequence[Sample]) -> Sample:
    """Stacks prepared samples along a new batch axis."""
    first = samples[0]
    return {
        key: stack([sample[key] for sample in samples])
        if isinstance(value, dict)
        else np.stack([sample[key] for sample in samples])
        for key, value in first.items()
    }


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


def serve_until_signal(
    server: PolicyServer, host: str, port: int, on_ready: Callable[[int], None] = lambda port: None
) -> int:
    """Runs a server until this process is to end, and returns the signal that said so.

    Args:
      server: to run.
      host: address to listen on.
      port: 0 for a free one.
      on_ready: called with the port when clients can connect.
    """

    async def work() -> int:
        loop, received = asyncio.get_running_loop(), list[int]()
        task = asyncio.create_task(server.run(host, port, on_ready))

        def stop(number: int) -> None:
            received.append(number)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)
        with suppress(asyncio.CancelledError):
            await task
        return received[0]

    return asyncio.run(work())
