"""The page of a fleet, `index.html`: every task's success before and after, what it cost, and what its episodes are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlgen.core.files import write_bytes
from rlgen.core.stats import SuccessRate
from rlgen.core.text import MISSING, duration, number, percent
from rlgen.report.pages import page_environment
from rlgen.report.style import appearance


@dataclass(frozen=True)
class ActorFigures:
    """Figures of one actor's episodes of a task; means are over its successes.

    Attributes:
      success: None where it was not measured.
      length: mean, control steps; None where nothing succeeded.
      jerk: mean squared jerk, m²/s⁶, likewise.
      noops: mean number of no-ops, likewise.
    """

    success: SuccessRate | None = None
    length: float | None = None
    jerk: float | None = None
    noops: float | None = None


NOBODY = ActorFigures()


@dataclass(frozen=True)
class FleetRow:
    """A task of a fleet.

    Attributes:
      task: `<suite>/<index>`.
      prompt: the instruction.
      state: `waiting`, `running`, `stopped`, `done` or `failed`.
      stage: at work, if any.
      horizon: control steps of its longest episode.
      tries: how many there were.
      reason: why the last try failed, if one did.
      before: the clone.
      after: the expert, or whoever acts in the episodes.
      changes: what PPO changed, by `length`, `jerk` and `noops`: the mean difference of trials in which both succeeded,
        with the ends of its interval.
      noise: success with exploration noise in PPO's first and last iteration.
      core_seconds, device_seconds, wall_seconds: of all its processes.
      episodes: number of those that were collected.
      clips: GIFs, of a success and of a failure; one that is absent is not shown.
    """

    task: str
    prompt: str
    state: str
    stage: str = ""
    horizon: int = 1
    tries: int = 1
    reason: str = ""
    before: ActorFigures = NOBODY
    after: ActorFigures = NOBODY
    changes: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    noise: tuple[float | None, float | None] = (None, None)
    core_seconds: float = 0.0
    device_seconds: float = 0.0
    wall_seconds: float = 0.0
    episodes: int | None = None
    clips: Sequence[Path] = ()


@dataclass(frozen=True)
class FleetPage:
    """Everything that the page shows.

    Attributes:
      title: of the page.
      created: date and time, as shown.
      source: who acts in the episodes.
      assets: label of the object assets.
      rows: of the tasks, in order.
      datasets: paths of the datasets.
      config: of every run, nested.
    """

    title: str
    created: str
    source: str
    assets: str
    rows: Sequence[FleetRow]
    datasets: Sequence[str] = ()
    config: Mapping[str, Any] = field(default_factory=dict)


MEANS = ("length", "jerk", "noops")
HEADINGS = ("task", "state", "before", "after", "with noise", "length", "jerk", "no-ops", "core time")


def cells(row: FleetRow) -> list[str]:
    """Returns a task's cells below `HEADINGS`, as the terminal and the page show them."""
    state = row.state if row.state != "running" else row.stage
    if row.state == "stopped" and row.stage:
        state = f"stopped in {row.stage}"
    state += f", try {row.tries}" if row.tries > 1 else ""
    return [
        row.task,
        state,
        rate(row.before.success),
        rate(row.after.success),
        from_to(*(None if value is None else percent(value) for value in row.noise)),
        *(from_to(*(_text(getattr(actor, name)) for actor in (row.before, row.after))) for name in MEANS),
        duration(row.core_seconds) if row.core_seconds else MISSING,
    ]


def rate(value: SuccessRate | None) -> str:
    """Returns a rate with its interval, as `47/50 (84-98 %)`."""
    if value is None:
        return MISSING
    return f"{value.successes}/{value.trials} ({100 * value.low:.0f}-{100 * value.high:.0f} %)"


def from_to(before: str | None, after: str | None) -> str:
    """Returns `67 to 55`, or the one that is there."""
    there = [text for text in (before, after) if text is not None]
    return " to ".join(there) or MISSING


def _text(value: float | None) -> str | None:
    return None if value is None else number(value)


def summary(rows: Sequence[FleetRow]) -> str:
    """Returns a sentence on how many tasks are how far, and what they have cost."""
    counts = {state: sum(row.state == state for row in rows) for state in dict.fromkeys(row.state for row in rows)}
    parts = [f"{count} {state}" for state, count in counts.items()]
    cores = sum(row.core_seconds for row in rows)
    devices = sum(row.device_seconds for row in rows)
    cost = f"{cores / 3600:.2f} core-hours" + (f", {devices / 3600:.2f} device-hours" if devices else "")
    done = [row for row in rows if row.state == "done"]
    mean = (
        f", {sum(row.core_seconds for row in done) / len(done) / 60:.1f} core-minutes a finished task" if done else ""
    )
    left = hours_left(rows)
    to_go = f"; about {left:.1f} core-hours to go" if left else ""
    return f"{len(rows)} tasks: {', '.join(parts)}; {cost}{mean}{to_go}"


def hours_left(rows: Sequence[FleetRow]) -> float | None:
    """Estimates the core-hours that the tasks which have not ended will still cost; None where none is done yet.

    A task is taken to cost in proportion to its longest episode, as what was spent on the tasks that have ended, given
    up ones too, did. On N cores with a job each it takes an Nth of these hours, and the longest task at least.

    Args:
      rows: of all tasks.
    """
    ended = [row for row in rows if row.state in ("done", "failed")]
    if not any(row.state == "done" for row in ended):
        return None
    rate = sum(row.core_seconds for row in ended) / sum(row.horizon for row in ended)
    others = [row for row in rows if row.state not in ("done", "failed")]
    return sum(max(rate * row.horizon - row.core_seconds, 0.0) for row in others) / 3600


def render_fleet(page: FleetPage, path: Path) -> None:
    """Writes the page to `path`, whole or not at all; any text in it is escaped, and it refers to nothing outside.

    Args:
      page: its content.
      path: of the HTML file.
    """
    template = page_environment().get_template("fleet.html.j2")
    rows = [{"row": row, "cells": cells(row), "bars": _bars(row), "changes": _changes(row)} for row in page.rows]
    write_bytes(
        Path(path),
        template.render(page=page, rows=rows, headings=HEADINGS, summary=summary(page.rows)).encode(),
    )


def _changes(row: FleetRow) -> list[str]:
    """Returns the differences below the cells from `length` on, as `-11 (-13 to -9.6)`; empty where there is none."""
    texts = []
    for name in MEANS:
        values = row.changes.get(name)
        value, low, high = (f"{'+' if v > 0 else ''}{number(v)}" for v in values) if values else ("", "", "")
        texts.append(f"{value} ({low} to {high})" if values else "")
    return texts


def _bars(row: FleetRow) -> list[dict[str, Any]]:
    """Returns the bars of both rates, with percentages of the width, those of the interval, and the numbers."""
    bars = []
    for key, actor in (("bc", row.before), ("ppo", row.after)):
        success = actor.success
        if success is not None:
            ends = {"rate": 100 * success.rate, "low": 100 * success.low, "high": 100 * success.high}
            style = appearance(key)
            bars.append({"name": style.name, "color": style.color, "text": rate(success), **ends})
    return bars
