"""A queue whose requests share calls of a model."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

RequestT, AnswerT = TypeVar("RequestT"), TypeVar("AnswerT")


@dataclass(frozen=True)
class _Waiting(Generic[RequestT]):
    """A request, its answer to be, and the loop's time at which it came."""

    request: RequestT
    answer: asyncio.Future
    since: float


class Batcher(Generic[RequestT, AnswerT]):
    """A queue that collects requests while the model works, and answers them together.

    The requests that arrived during a call make the next batch. A batch that is not full waits until `window_s` after
    its first request came, so that all that came within this time share a call.

    Args:
      run: answers at most `largest` requests, in order, in a thread.
      largest: requests in a batch.
      window_s: seconds to wait for more requests where a batch is not full.

    Attributes:
      largest: as given; it may change while requests are answered.
    """

    def __init__(self, run: Callable[[Sequence[RequestT]], Sequence[AnswerT]], largest: int, *, window_s: float = 0.0):
        self._run, self.largest, self._window = run, largest, window_s
        self._queue = deque[_Waiting[RequestT]]()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Batcher[RequestT, AnswerT]":
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def __len__(self) -> int:
        return len(self._queue)

    async def ask(self, request: RequestT) -> Any:
        """Returns the answer to a request; raises what `run` raised for it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future = loop.create_future()
        self._queue.append(_Waiting(request, answer, loop.time()))
        self._arrived.set()
        return await answer

    async def _work(self) -> None:
        while True:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            await self._fill(self._queue[0].since + self._window)
            batch = [self._queue.popleft() for _ in range(min(self.largest, len(self._queue)))]
            # Clients that have left need no answer.
            batch = [each for each in batch if not each.answer.done()]
            if batch:
                await self._answer(batch)

    async def _fill(self, end: float) -> None:
        """Waits until a batch is full, or until the loop's time `end`."""
        while len(self._queue) < self.largest and (left := end - asyncio.get_running_loop().time()) > 0:
            self._arrived.clear()
            try:
                async with asyncio.timeout(left):
                    await self._arrived.wait()
            except TimeoutError:
                return

    async def _answer(self, waiting: list[_Waiting[RequestT]]) -> None:
        requests = [each.request for each in waiting]
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._run, requests)
        except Exception as error:
            if len(waiting) > 1:
                # One request must not cost the others their answers.
                for each in waiting:
                    await self._answer([each])
            elif not waiting[0].answer.done():
                waiting[0].answer.set_exception(error)
            return
        for each, answer in zip(waiting, answers, strict=True):
            if not each.answer.done():
                each.answer.set_result(answer)
