"""Progress of a stage: how much is done, how long the rest will take, and the line on the terminal that shows it."""

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


class StageProgress:
    """Progress of one running stage, made by `Progress.stage`.

    Attributes:
      name: with its position, such as `[3/9] ppo`.
      total: number of units of work; None if that is not known. May be set later.
      done: units of work that are done.
      unit: name of a unit, such as `updates`.
      note: shown at the end of the line: the latest message or the latest result.
      result: the latest note given with `update`; it is also shown when the stage has ended.
    """

    def __init__(self, name: str, total: int | None, done: int, unit: str, clock: Callable[[], float]) -> None:
        self.name, self.total, self.done, self.unit = name, total, done, unit
        self.note = self.result = ""
        self._clock = clock
        self._start = clock()
        self._end: float | None = None
        # Times of the latest advances; the estimate leaves compilation out once it is far enough back.
        self._marks: deque[tuple[float, int]] = deque(maxlen=REMEMBERED)
        self._on_update: Callable[[], None] = lambda: None
        self._on_log: Callable[[str], None] = lambda message: None

    def update(self, advance: int = 1, note: str | None = None) -> None:
        """Counts finished work, and shows how it goes.

        Args:
          advance: units of work done since the last update.
          note: result so far, such as `loss 0.1`; None keeps the one before.
        """
        self.done += advance
        if advance:
            self._marks.append((self._clock(), self.done))
        if note is not None:
            self.result = note
        self.note = self.result
        self._on_update()

    def log(self, message: str) -> None:
        """Shows a message at once, such as `compiling the sampler (about 20 s)`."""
        self._on_log(message)

    def now(self) -> float:
        """Returns the time of the stage's clock, seconds."""
        return self._clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the stage started, up to its end."""
        return (self._clock() if self._end is None else self._end) - self._start

    @property
    def left(self) -> float | None:
        """Estimated seconds to go, at the speed of the latest updates; None before the second update."""
        if self.total is None or len(self._marks) < 2:
            return None
        (first_time, first_done), (last_time, last_done) = self._marks[0], self._marks[-1]
        per_advance = (last_time - first_time) / max(1, last_done - first_done)
        since = self._clock() - last_time
        return max(0.0, per_advance * (self.total - self.done) - since)

    def counted(self, before: str = "") -> str:
        """Returns `before` and `12/40 updates`, or `12 updates` without a total; empty before the first of these."""
        if self.total is None and not self.done:
            return ""
        count = f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
        return before + f"{count} {self.unit}".rstrip()

    def listen(self, on_update: Callable[[], None], on_log: Callable[[str], None]) -> None:
        """Sets the functions that are called after every update and with every message."""
        self._on_update, self._on_log = on_update, on_log

    def close(self) -> None:
        """Stops the stage's clock."""
        self._end = self._clock()


def plain_line(stage: StageProgress) -> str:
    """Returns `[3/9] ppo: 12/40 updates, 1 min 03 s, about 2 min 20 s left  success 0.62 (31/50)`."""
    return "  ".join(part for part in (f"{stage.name}: {_facts(stage)}", stage.note) if part)


def live_line(stage: StageProgress, width: int) -> Text:
    """Returns the same with a bar, cut to one line of `width` columns."""
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


def _facts(stage: StageProgress) -> str:
    parts = [stage.counted(), _whole_seconds(stage.elapsed)]
    if stage.left is not None and stage.done < (stage.total or 0):
        parts.append(f"about {_whole_seconds(max(1.0, stage.left))} left")
    return ", ".join(part for part in parts if part)


def _whole_seconds(seconds: float) -> str:
    """Returns a duration without fractions of a second, which would flicker in a line that is redrawn."""
    return f"{round(seconds)} s" if seconds < 59.5 else duration(seconds)


class Progress:
    """The display of a command's stages: which one runs, how much of it is done, how it goes and how long it will take.

    In a terminal one line is redrawn; elsewhere a stage gets a line when it starts, one every few seconds while
    something happens, and one when it ends. Leaving a stage by an error, or by Ctrl-C, removes the live line and
    restores the cursor.

    Args:
      stages: names in the order in which they will run, for `4/9`.
      stream: where to write; standard output if None.
      clock: monotonic time, seconds.
      live: whether to redraw one line; decided by the stream if None.
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
        self._live = _can_redraw(self._stream) if live is None else live
        self._every = every

    def log(self, message: str) -> None:
        """Writes one line, outside of any stage."""
        _write_line(self._stream, message)

    def skip(self, name: str, why: str) -> None:
        """Writes that a stage is not run, and why."""
        self.log(f"{self._position(name)}{name}: {why}")

    @contextmanager
    def stage(self, name: str, total: int | None = None, done: int = 0, unit: str = "") -> Iterator[StageProgress]:
        """Shows a stage while the block runs.

        Args:
          name: of the stage; one of `stages`, or any other.
          total: number of units of work, if that is known.
          done: units that were done before, if the stage is resumed.
          unit: name of a unit, such as `updates`.
        """
        stage = StageProgress(self._position(name) + name, total, done, unit, self._clock)
        with (_LiveDisplay if self._live else _PlainDisplay)(stage, self._stream, self._every):
            yield stage

    def _position(self, name: str) -> str:
        if name not in self._stages:
            return ""
        return f"[{self._stages.index(name) + 1}/{len(self._stages)}] "


class _PlainDisplay:
    """Lines, no more than one in `every` seconds, besides the first, the last and the messages."""

    def __init__(self, stage: StageProgress, stream: TextIO, every: float) -> None:
        self._stage, self._stream, self._every = stage, stream, every
        self._shown_at = stage.now()

    def __enter__(self) -> None:
        self._stage.listen(on_update=self._on_update, on_log=self._on_log)
        _write_line(self._stream, f"{self._stage.name} ...")

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stage.close()
        _write_line(self._stream, closing_line(self._stage, kind))

    def _on_update(self) -> None:
        if self._stage.now() - self._shown_at >= self._every:
            self._shown_at = self._stage.now()
            _write_line(self._stream, plain_line(self._stage))

    def _on_log(self, message: str) -> None:
        _write_line(self._stream, f"{self._stage.name}: {message}")


class _LiveDisplay:
    """One line, redrawn four times a second by a thread of rich, removed when the stage ends."""

    def __init__(self, stage: StageProgress, stream: TextIO, every: float) -> None:
        self._stage = stage
        self._console = Console(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._live = Live(
            console=self._console,
            get_renderable=lambda: live_line(stage, self._console.width),
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> None:
        self._stage.listen(on_update=lambda: None, on_log=self._on_log)
        self._live.start(refresh=True)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stage.close()
        self._live.stop()
        self._console.print(closing_line(self._stage, kind), soft_wrap=True)

    def _on_log(self, message: str) -> None:
        self._stage.note = message
        self._live.refresh()


def closing_line(stage: StageProgress, error: type | None) -> str:
    """Returns the last line of a stage: how long it took and its result, or where it stopped."""
    if error is None:
        end = f"done in {duration(stage.elapsed)}"
    else:
        word = "interrupted" if issubclass(error, KeyboardInterrupt) else "stopped"
        end = f"{word} after {duration(stage.elapsed)}{stage.counted(' at ')}"
    return "  ".join(part for part in (f"{stage.name}: {end}", stage.result) if part)


def _can_redraw(stream: TextIO) -> bool:
    """Returns whether the stream is a terminal that moves its cursor and can encode the bar."""
    encoding = (getattr(stream, "encoding", "") or "").lower().replace("-", "")
    return encoding == "utf8" and Console(file=stream).is_terminal and not Console(file=stream).is_dumb_terminal


def _write_line(stream: TextIO, line: str) -> None:
    """Writes and flushes a line, with question marks for what the stream cannot encode."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()
