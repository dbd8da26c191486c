"""Requests of several clients answered by one call of the model."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Request, Answer = TypeVar("Request"), TypeVar("Answer")


class Batcher(Generic[Request, Answer]):
    """Collects requests while the model is at work, and hands them over together.

    A request that arrives alone does not wait for others: what came during the last call makes the next batch.
    """

    def __init__(self, run: Callable[[Sequence[Request]], Sequence[Answer]], most: int, *, window_s: float = 0.002):
        """`run` answers at most `most` requests, in order, in a thread; `window_s` is waited for company."""
        self._run, self._most, self._window = run, most, window_s
        self._queue: asyncio.Queue[tuple[Request, asyncio.Future]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1)
        self._task: asyncio.Task[None] | None = None
        self.sizes: list[int] = []

    async def __aenter__(self) -> "Batcher[Request, Answer]":
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def ask(self, request: Request) -> Any:
        """The answer to a request; raises what `run` raised for its batch."""
        answer: asyncio.Future = asyncio.get_running_loop().create_future()
        await self._queue.put((request, answer))
        return await answer

    async def _work(self) -> None:
        while True:
            waiting = [await self._queue.get()]
            if self._queue.qsize() + 1 < self._most:
                await asyncio.sleep(self._window)
            while len(waiting) < self._most and not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            # Who has gone meanwhile is not computed for.
            waiting = [pair for pair in waiting if not pair[1].done()]
            if waiting:
                await self._answer(waiting)

    async def _answer(self, waiting: list[tuple[Request, asyncio.Future]]) -> None:
        requests = [request for request, _ in waiting]
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._run, requests)
        except Exception as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        self.sizes.append(len(requests))
        for (_, future), answer in zip(waiting, answers, strict=True):
            if not future.done():
                future.set_result(answer)
