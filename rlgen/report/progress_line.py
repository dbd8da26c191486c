"""How far a stage is, and the line that says so."""

from collections import deque
from collections.abc import Callable

from rich.text import Text

from rlgen.report.text import duration

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
