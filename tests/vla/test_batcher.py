"""Which requests share a call of the model, and how calls and latencies are counted."""

import asyncio
import threading
import time

import pytest

from rlgen.vla.serving.batcher import Batcher
from rlgen.vla.serving.metrics import Histogram, ServerMetrics


class Calls:
    """A model that doubles numbers, remembers its calls, and waits in each until it may go on."""

    def __init__(self):
        self.batches: list[list[int]] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, requests):
        self.batches.append(list(requests))
        assert self.may_go_on.wait(30)
        return [2 * request for request in requests]


def ask(calls, largest, window_s, schedule):
    """Asks with requests 0, 1, ... after the given pauses in seconds; returns the answers and the seconds of all."""

    async def work():
        async with Batcher(calls, largest, window_s=window_s) as batcher:
            start, asked = time.monotonic(), []
            for request, pause in enumerate(schedule):
                await asyncio.sleep(pause)
                asked.append(asyncio.create_task(batcher.ask(request)))
            return await asyncio.gather(*asked), time.monotonic() - start

    return asyncio.run(work())


def test_what_comes_within_the_window_shares_a_call():
    calls = Calls()
    answers, seconds = ask(calls, 8, 1.0, [0, 0.05, 0.05])
    assert answers == [0, 2, 4] and calls.batches == [[0, 1, 2]] and seconds >= 1.0


def test_a_full_batch_does_not_wait_for_its_window():
    calls = Calls()
    answers, seconds = ask(calls, 2, 60.0, [0, 0, 0, 0])
    assert answers == [0, 2, 4, 6] and calls.batches == [[0, 1], [2, 3]] and seconds < 30


def test_without_a_window_nothing_waits_and_what_comes_during_a_call_shares_the_next():
    calls = Calls()

    async def work():
        async with Batcher(calls, 3) as batcher:
            calls.may_go_on.clear()
            asked = [asyncio.create_task(batcher.ask(0))]
            while not calls.batches:
                await asyncio.sleep(0.001)
            asked += [asyncio.create_task(batcher.ask(request)) for request in (1, 2, 3, 4)]
            await asyncio.sleep(0)
            assert len(batcher) == 4
            calls.may_go_on.set()
            return await asyncio.gather(*asked)

    assert asyncio.run(work()) == [0, 2, 4, 6, 8] and calls.batches == [[0], [1, 2, 3], [4]]


def test_time_in_the_queue_counts_towards_the_window():
    """A request that waited for a call as long as its window does not wait again."""
    calls = Calls()

    async def work():
        async with Batcher(calls, 2, window_s=0.5) as batcher:
            calls.may_go_on.clear()
            first = [asyncio.create_task(batcher.ask(request)) for request in (0, 1)]
            while not calls.batches:
                await asyncio.sleep(0.001)
            late = asyncio.create_task(batcher.ask(2))
            await asyncio.sleep(0.6)
            calls.may_go_on.set()
            await asyncio.gather(*first)
            start = time.monotonic()
            await late
            return time.monotonic() - start

    assert asyncio.run(work()) < 0.5 and calls.batches == [[0, 1], [2]]


def test_a_request_that_fails_costs_no_other_its_answer():
    def run(requests):
        if 1 in requests:
            raise ValueError("one")
        return requests

    async def work():
        async with Batcher(run, 4, window_s=0.2) as batcher:
            return await asyncio.gather(*(batcher.ask(i) for i in range(3)), return_exceptions=True)

    first, second, third = asyncio.run(work())
    assert (first, third) == (0, 2) and isinstance(second, ValueError)


def test_buckets_include_those_before_and_the_bound_itself():
    histogram = Histogram((1, 2.5, 10))
    for value in (0.5, 1, 1.5, 2.5, 9, 11, 12):
        histogram.observe(value)
    assert histogram.lines("x") == [
        'x_bucket{le="1"} 2', 'x_bucket{le="2.5"} 4', 'x_bucket{le="10"} 5', 'x_bucket{le="+Inf"} 7',
        "x_sum 37.5", "x_count 7",
    ]  # fmt: skip


@pytest.mark.parametrize("calls", [0, 3])
def test_every_family_has_its_help_and_type_once(calls):
    metrics = ServerMetrics(waiting=lambda: 5)
    for size in range(calls):
        metrics.called(size + 1, 0.1)
    lines = metrics.text().splitlines()
    helped = [line.split(" ")[2] for line in lines if line.startswith("# HELP ")]
    assert helped == [line.split(" ")[2] for line in lines if line.startswith("# TYPE ")]
    assert len(set(helped)) == len(helped) == 10
    assert "rlgen_vla_queue 5" in lines and f"rlgen_vla_model_calls_total {calls}" in lines
    assert f"rlgen_vla_batch_size_sum {calls * (calls + 1) // 2}" in lines
