"""How far a stage is, and the line that says so."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from rlgen.core.text import duration

BAR_WIDTH = 18
REMEMBERED = 20


class Stage:
    """How far a running stage is. Made by `Progress.stage`.

    Attributes:
      name: with its position, such as `[3/9] ppo`.
      total: how many times it will advance; None if that is not known. May be set later.
      done: how many times it has.
      note: shown last; what the caller said latest.
      result: the latest note given with `update`; it stays when the stage has ended.
    """

    def __init__(self, name: str, total: int | None, done: int, unit: str, clock: Callable[[], float]) -> None:
        self.name, self.total, self.done, self.unit = name, total, done, unit
        self.note = self.result = ""
        self._clock = clock
        self._began = clock()
        self._ended: float | None = None
        # Times of the latest advances; the estimate forgets compilation once it lies far enough back.
        self._marks: deque[tuple[float, int]] = deque(maxlen=REMEMBERED)
        self._on_update: Callable[[], None] = lambda: None
        self._on_say: Callable[[str], None] = lambda words: None

    def update(self, advance: int = 1, note: str | None = None) -> None:
        """Counts `advance` more, and shows `note` (the one before stays if None)."""
        self.done += advance
        if advance:
            self._marks.append((self._clock(), self.done))
        if note is not None:
            self.result = note
        self.note = self.result
        self._on_update()

    def say(self, words: str) -> None:
        """Announces something at once, such as `compiling the sampler (about 20 s)`."""
        self._on_say(words)

    def now(self) -> float:
        """The clock, seconds."""
        return self._clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the stage began; once it has ended, what it took."""
        return (self._clock() if self._ended is None else self._ended) - self._began

    @property
    def left(self) -> float | None:
        """Seconds to go, as the latest advances foretell it; None while they tell too little."""
        if self.total is None or len(self._marks) < 2:
            return None
        (first_time, first_done), (last_time, last_done) = self._marks[0], self._marks[-1]
        per_advance = (last_time - first_time) / max(1, last_done - first_done)
        since = self._clock() - last_time
        return max(0.0, per_advance * (self.total - self.done) - since)

    def counted(self, before: str = "") -> str:
        """`12/40 updates`, `12 updates`, or nothing before the first advance of an unknown number."""
        if self.total is None and not self.done:
            return ""
        count = f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
        return before + f"{count} {self.unit}".rstrip()

    def listen(self, on_update: Callable[[], None], on_say: Callable[[str], None]) -> None:
        """Sets who is told about updates and announcements."""
        self._on_update, self._on_say = on_update, on_say

    def close(self) -> None:
        """Stops the stage's clock."""
        self._ended = self._clock()


def plain_line(stage: Stage) -> str:
    """`[3/9] ppo: 12/40 updates, 1 min 03 s, about 2 min 20 s left  success 0.62 (31/50)`."""
    return "  ".join(part for part in (f"{stage.name}: {_facts(stage)}", stage.note) if part)


def live_line(stage: Stage, width: int) -> Text:
    """The same with a bar, cut to one line of `width` columns."""
    line = Text(no_wrap=True, overflow="ellipsis", end="")
    line.append(stage.name, "bold")
    line.append(" ")
    if stage.total:
        filled = round(BAR_WIDTH * min(1.0, stage.done / stage.total))
        line.append("━" * filled, "blue")
        line.append("━" * (BAR_WIDTH - filled), "bright_black")
        line.append(" ")
    line.append(_facts(stage))
    if stage.note:
        line.append(f"  {stage.note}", "cyan")
    line.truncate(max(1, width - 1), overflow="ellipsis")
    return line


def _facts(stage: Stage) -> str:
    parts = [stage.counted(), _whole(stage.elapsed)]
    if stage.left is not None and stage.done < (stage.total or 0):
        parts.append(f"about {_whole(max(1.0, stage.left))} left")
    return ", ".join(part for part in parts if part)


def _whole(seconds: float) -> str:
    """Whole seconds: a line that is drawn again and again must not flicker with digits nobody needs."""
    return f"{round(seconds)} s" if seconds < 59.5 else duration(seconds)


class Progress:
    """Says which stage runs, how far it is, how it goes and how long it will take.

    In a terminal one line is drawn again and again; elsewhere a stage gets a line when it begins, one every
    few seconds while something happens, and one when it ends. Leaving a stage by an error, or by Ctrl-C,
    takes the live line away and gives the cursor back.

    Args:
      stages: names in the order in which they will run, for `4/9`.
      stream: where to write; standard output if None.
      clock: seconds that only grow.
      live: whether to draw a live line; found out from the stream if None.
      every: least seconds between two plain lines of a stage.
    """

    def __init__(
        self,
        stages: Sequence[str] = (),
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        live: bool | None = None,
        every: float = 5.0,
    ) -> None:
        self._stages = list(stages)
        self._stream = sys.stdout if stream is None else stream
        self._clock = clock
        self._live = _can_draw(self._stream) if live is None else live
        self._every = every

    def say(self, words: str) -> None:
        """Writes one line, outside of any stage."""
        _write_line(self._stream, words)

    def skip(self, name: str, why: str) -> None:
        """Says that a stage is not run, and why."""
        self.say(f"{self._position(name)}{name}: {why}")

    @contextmanager
    def stage(self, name: str, total: int | None = None, done: int = 0, unit: str = "") -> Iterator[Stage]:
        """Shows a stage while the block runs.

        Args:
          name: of the stage; one of `stages`, or any other.
          total: how many times it will advance, if that is known.
          done: how many of these were done before, if it is resumed.
          unit: what is counted, such as `updates`.
        """
        stage = Stage(self._position(name) + name, total, done, unit, self._clock)
        with (_LiveDisplay if self._live else _PlainDisplay)(stage, self._stream, self._every):
            yield stage

    def _position(self, name: str) -> str:
        if name not in self._stages:
            return ""
        return f"[{self._stages.index(name) + 1}/{len(self._stages)}] "


class _PlainDisplay:
    """Lines, no more than one in `every` seconds, besides the first, the last and what the stage says."""

    def __init__(self, stage: Stage, stream: TextIO, every: float) -> None:
        self._stage, self._stream, self._every = stage, stream, every
        self._shown_at = stage.now()

    def __enter__(self) -> None:
        self._stage.listen(on_update=self._updated, on_say=self._said)
        _write_line(self._stream, f"{self._stage.name} ...")

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stage.close()
        _write_line(self._stream, closing_line(self._stage, kind))

    def _updated(self) -> None:
        if self._stage.now() - self._shown_at >= self._every:
            self._shown_at = self._stage.now()
            _write_line(self._stream, plain_line(self._stage))

    def _said(self, words: str) -> None:
        _write_line(self._stream, f"{self._stage.name}: {words}")


class _LiveDisplay:
    """One line, drawn four times a second by a thread of rich, gone when the stage ends."""

    def __init__(self, stage: Stage, stream: TextIO, every: float) -> None:
        self._stage = stage
        self._console = Console(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._live = Live(
            console=self._console,
            get_renderable=lambda: live_line(stage, self._console.width),
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> None:
        self._stage.listen(on_update=lambda: None, on_say=self._said)
        self._live.start(refresh=True)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stage.close()
        self._live.stop()
        self._console.print(closing_line(self._stage, kind), soft_wrap=True)

    def _said(self, words: str) -> None:
        self._stage.note = words
        self._live.refresh()


def closing_line(stage: Stage, error: type | None) -> str:
    """What stays of a stage: how long it took and how it went, or where it stopped."""
    if error is None:
        end = f"done in {duration(stage.elapsed)}"
    else:
        word = "interrupted" if issubclass(error, KeyboardInterrupt) else "stopped"
        end = f"{word} after {duration(stage.elapsed)}{stage.counted(' at ')}"
    return "  ".join(part for part in (f"{stage.name}: {end}", stage.result) if part)


def _can_draw(stream: TextIO) -> bool:
    """Whether the stream is a terminal that moves its cursor and has the signs of the bar."""
    encoding = (getattr(stream, "encoding", "") or "").lower().replace("-", "")
    return encoding == "utf8" and Console(file=stream).is_terminal and not Console(file=stream).is_dumb_terminal


def _write_line(stream: TextIO, words: str) -> None:
    """Writes and flushes a line, with question marks for what the stream cannot encode."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(words.encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()
