"""Counters of a server, in the text format that Prometheus reads."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

PREFIX = "rlgen_vla_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Histogram:
    """Counts of observed values by bounds, with their sum.

    Args:
      bounds: increasing; a value equal to a bound is counted there, larger ones than the last in a bucket of their own.

    Attributes:
      total: sum of the values.
      counts: of each bucket by itself.
    """

    def __init__(self, bounds: tuple[float, ...]):
        self._bounds, self.total, self.counts = bounds, 0.0, [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        """Counts a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def lines(self, name: str) -> list[str]:
        """Returns the samples of Prometheus' text format: buckets that include those before, sum and count."""
        lines, below = [], 0
        for bound, count in zip((*self._bounds, "+Inf"), self.counts, strict=True):
            below += count
            text = bound if isinstance(bound, str) else f"{bound:g}"
            lines.append(f'{name}_bucket{{le="{text}"}} {below}')
        return [*lines, f"{name}_sum {self.total:.9g}", f"{name}_count {below}"]


@dataclass
class ServerMetrics:
    """Counters of a server.

    Attributes:
      requests: received; those that are neither answered nor failed are under way.
      answers: so far.
      errors: connections closed by an error, with the request that was under way.
      connections: open now.
      waiting: returns the requests that wait for the model now.
      limit: returns how many requests a call of the model takes at most by now.
      seconds: latencies of answers, from a request's last byte to the answer's.
      sizes: requests in each call of the model.
      call_seconds: of each call of the model.
    """

    requests: int = 0
    answers: int = 0
    errors: int = 0
    connections: int = 0
    waiting: Callable[[], int] = lambda: 0
    limit: Callable[[], int] = lambda: 1
    seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    sizes: Histogram = field(default_factory=lambda: Histogram(SIZES))
    call_seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS))

    def answered(self, seconds: float) -> None:
        """Counts an answer that took `seconds`."""
        self.answers += 1
        self.seconds.observe(seconds)

    def called(self, size: int, seconds: float) -> None:
        """Counts a call of the model for `size` requests that took `seconds`."""
        self.sizes.observe(size)
        self.call_seconds.observe(seconds)

    def text(self) -> str:
        """Returns all of it as Prometheus' text format."""
        calls = sum(self.sizes.counts)
        simple = (
            ("requests_total", "counter", "Requests received.", self.requests),
            ("answers_total", "counter", "Requests answered.", self.answers),
            ("errors_total", "counter", "Connections closed by an error.", self.errors),
            ("model_calls_total", "counter", "Calls of the model.", calls),
            ("connections", "gauge", "Clients connected.", self.connections),
            ("queue", "gauge", "Requests that wait for the model.", self.waiting()),
            ("batch_limit", "gauge", "Requests that a call of the model takes at most.", self.limit()),
        )
        histograms = (
            ("answer_seconds", "From a request to its answer.", self.seconds),
            ("model_call_seconds", "Calls of the model.", self.call_seconds),
            ("batch_size", "Requests in a call of the model.", self.sizes),
        )
        lines = []
        for name, kind, words, value in simple:
            lines += [*_head(name, kind, words), f"{PREFIX}{name} {value}"]
        for name, words, histogram in histograms:
            lines += [*_head(name, "histogram", words), *histogram.lines(f"{PREFIX}{name}")]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, words: str) -> list[str]:
    return [f"# HELP {PREFIX}{name} {words}", f"# TYPE {PREFIX}{name} {kind}"]
