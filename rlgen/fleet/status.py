"""The status of a fleet: a table for the terminal, and the page `index.html`, from the ledgers alone."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from rlgen.configs.schema import to_json
from rlgen.core.ownership import check_file, has_keys, read_record
from rlgen.core.text import date_and_time
from rlgen.data.metrics.score import ScoreSummary
from rlgen.fleet.assemble import FOLDER as DATASETS
from rlgen.fleet.assemble import MADE, read_states
from rlgen.fleet.ledger import TaskState
from rlgen.fleet.plan import FleetPlan, open_plan, task_folder
from rlgen.report.fleet_page import HEADINGS, ActorFigures, FleetPage, FleetRow, cells, render_fleet, summary
from rlgen.report.pages import is_page

PAGE = "index.html"
CLIPS = ("success.gif", "failure.gif")
# Seconds between two drawings of the table.
EVERY = 5.0
_ENDED = ("done", "failed")


def fleet_rows(root: Path, states: Sequence[TaskState]) -> list[FleetRow]:
    """Returns what table and page show of each task.

    Args:
      root: folder of the fleet.
      states: of its tasks.
    """
    return [fleet_row(state, task_folder(root, state.task) / "clips") for state in states]


def fleet_row(state: TaskState, clips: Path) -> FleetRow:
    """Returns what table and page show of a task.

    Args:
      state: of the task.
      clips: folder of its GIFs.
    """
    figures = state.figures
    noise = figures.get("noise") or {}
    counts = figures.get("collected") or figures.get("demos") or {}
    return FleetRow(
        task=f"{state.task.suite}/{state.task.index}",
        prompt=state.task.prompt,
        state=state.state,
        stage=state.stage,
        horizon=state.task.horizon,
        tries=state.number + 1,
        reason=state.reason,
        before=_actor(figures.get("clone")),
        after=_actor(figures.get("expert") or figures.get("scripted")),
        changes=_changes(figures.get("change") or {}),
        noise=(noise.get("first"), noise.get("last")),
        episodes=counts.get("episodes"),
        clips=[clips / name for name in CLIPS if (clips / name).is_file()] if state.state == "done" else [],
        **state.costs,
    )


def _actor(figures: Mapping[str, Any] | None) -> ActorFigures:
    if not figures:
        return ActorFigures()
    score = ScoreSummary.from_json(figures)
    return ActorFigures(score.rate, score.length, score.mean_squared_jerk, score.noops)


def _changes(change: Mapping[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Returns differences and their intervals by the names of the page; nothing of what could not be compared."""
    names = {"length": "length", "jerk": "mean_squared_jerk", "noops": "noops"}
    found = {name: change.get(stored) for name, stored in names.items()}
    return {
        name: (value["difference"], value["low"], value["high"])
        for name, value in found.items()
        if value and value["difference"] is not None
    }


def status_table(rows: Sequence[FleetRow]) -> Table:
    """Returns the table of a fleet's tasks, with the reasons of those that failed below it."""
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left", caption_style="")
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=True, justify="left" if heading in HEADINGS[:4] else "right")
    for row in rows:
        table.add_row(*cells(row), style="red" if row.state == "failed" else "dim" if row.state == "waiting" else "")
    reasons = [f"{row.task}: {row.reason}" for row in rows if row.state == "failed"]
    table.caption = "\n".join([*reasons, summary(rows)])
    return table


def show(root: Path, console: Console, *, watch: bool, sleep: Callable[[float], None] = time.sleep) -> None:
    """Shows the table of a fleet, once or until all of its jobs have ended, and writes the page.

    Args:
      root: folder of the fleet.
      console: to show it on.
      watch: draw it again every few seconds.
      sleep: waits for some seconds.

    Raises:
      UserError: there is no fleet, or a file of somebody where the page is to be.
    """
    plan = open_plan(root)
    states = read_states(root, plan)
    if watch:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(status_table(fleet_rows(root, states)), refresh=True)
                write_page(root, plan, states)
                if all(state.state in _ENDED for state in states):
                    return
                sleep(EVERY)
                plan = open_plan(root)
                states = read_states(root, plan)
    write_page(root, plan, states)
    console.print(status_table(fleet_rows(root, states)))


def write_page(root: Path, plan: FleetPlan, states: Sequence[TaskState]) -> Path:
    """Writes the page of a fleet, and returns its path.

    Args:
      root: folder of the fleet.
      plan: of the fleet.
      states: of its tasks.

    Raises:
      UserError: a file of somebody is there.
    """
    path = root / PAGE
    check_file(path, is_page, noun="a page", option="--out")
    made = read_record(root / DATASETS / MADE)
    datasets = [f"{DATASETS}/{name}" for name in made["datasets"]] if has_keys(made, "datasets") else []
    page = FleetPage(
        title="Experts for LIBERO tasks",
        created=date_and_time(time.time()),
        source=plan.source,
        assets=plan.assets["label"],
        rows=fleet_rows(root, states),
        datasets=datasets,
        config=to_json(plan.config),
    )
    render_fleet(page, path)
    return path
