"""A queue whose requests share calls of a model, and counts of what a server does."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

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
        """Returns the answer to a request; raises what `run` raised for it."""
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
            if len(waiting) > 1:
                # One request must not cost the others their answers.
                for pair in waiting:
                    await self._answer([pair])
            elif not waiting[0][1].done():
                waiting[0][1].set_exception(error)
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
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))

    def answered(self, seconds: float) -> None:
        """Counts an answer that took `seconds`."""
        self.answers += 1
        self.seconds.append(seconds)

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
