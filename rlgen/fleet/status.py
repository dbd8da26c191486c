"""The status of a fleet: a table for the terminal, and the page `index.html`, from the ledgers alone.

So is the estimate of what tasks would cost that the fleet has not had; a measured machine with an accelerator may be
given for it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from rlgen.configs.stored import to_json
from rlgen.core.errors import UserError
from rlgen.core.foreign.json_parts import open_json
from rlgen.core.ownership import check_file, has_keys, read_record
from rlgen.core.text import date_and_time
from rlgen.data.metrics.score import ScoreSummary
from rlgen.fleet.assemble import FOLDER as DATASETS
from rlgen.fleet.assemble import MADE, read_states
from rlgen.fleet.ledger import NAME, TaskState, read_ledger
from rlgen.fleet.plan import FleetPlan, open_plan, task_folder
from rlgen.libero.tasks.suites import find_tasks
from rlgen.report.fleet_cost import DeviceRate, MeasuredTask, clock_hours, core_hours, device_hours
from rlgen.report.fleet_page import HEADINGS, ActorFigures, FleetPage, FleetRow, cells, render_fleet, summary
from rlgen.report.pages import is_page

PAGE = "index.html"
CLIPS = ("success.gif", "failure.gif")
# Seconds between two drawings of the table.
EVERY = 5.0
_ENDED = ("done", "failed")
# Machines for which an estimate says the time by the clock.
_CORES = (2, 64)


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


def estimate_lines(root: Path, names: Sequence[str], device: Path | None = None) -> list[str]:
    """Returns lines on what tasks would cost that have not ended in a fleet; see `rlgen.report.fleet_cost`.

    Args:
      root: folder of the fleet.
      names: of the tasks, as of `find_tasks`: suites, tasks, or all.
      device: JSON of `rlgen bench device`, of a machine that is to be considered as well.

    Raises:
      UserError: there is no fleet, no such task, none of them is left or none is done, or no such JSON.
    """
    plan = open_plan(root)
    states = [state for state in read_states(root, plan) if state.state in _ENDED]
    if not any(state.state == "done" for state in states):
        raise UserError(f"{root}: no task is done, expected one at least, whose costs are known")
    ended = {state.task for state in states}
    horizons = [task.horizon for task in find_tasks(*names) if task not in ended]
    if not horizons:
        raise UserError(f"--estimate {' '.join(names)}: all of these have ended in {root}; name others")
    measured = [measured_task(root, plan, state) for state in states]
    basis = f"{len(measured)} tasks (95 % intervals)" if len(measured) > 1 else "one task, which gives no range"
    lines = [
        f"{len(horizons)} tasks would cost {core_hours(measured, horizons)} core-hours, estimated from {basis}; hours"
    ]
    for cores in _CORES:
        lines.append(f"  on {cores} cores: {clock_hours(measured, horizons, cores=cores, threads=plan.threads)}")
    preset = "vision" if plan.config.policy.has_images else "state"
    for rate in [] if device is None else device_rates(device, preset):
        hours = device_hours(measured, horizons, rate)
        lines += [f"  on {rate.name}: {hours}"] if hours is not None else []
    return lines


def measured_task(root: Path, plan: FleetPlan, state: TaskState) -> MeasuredTask:
    """Returns what a task that has ended has cost, stage by stage.

    Args:
      root: folder of the fleet.
      plan: of the fleet.
      state: of the task.
    """
    costs: dict[str, float] = {}
    for line in read_ledger(task_folder(root, state.task) / NAME):
        stage = line.get("stage") or "figures"
        costs[stage] = costs.get(stage, 0.0) + float(line.get("core_seconds", 0.0))
    iterations = None if state.reasons else state.figures.get("iterations")
    config = plan.run_config(state.task, state.number)
    steps = config.ppo.environments * config.ppo.chunks * (config.ppo.action_steps or config.policy.horizon)
    return MeasuredTask(state.task.horizon, costs, steps * iterations if iterations else None)


def device_rates(path: Path, preset: str) -> list[DeviceRate]:
    """Returns how fast a machine runs whole iterations of PPO, in each world in which that was measured.

    Args:
      path: JSON of `rlgen bench device`.
      preset: `state` or `vision`.

    Raises:
      UserError: it is none, or of a dry run.
    """
    record = open_json(path, "expected the JSON of `rlgen bench device`")
    if (dry := record.optional("dry_run")) is not None and dry.value:
        raise record.error("figures that were measured; those of a dry run mean nothing")
    parts, rates = record.member("parts"), []
    for name, world in ((f"ppo-{preset}", "its cores"), (f"ppo-{preset}-gpu", "the GPU")):
        part = parts.optional(name)
        figures = [] if part is None else part.member("figures").members().values()
        timed = [each for each in figures if each.optional("control_steps_per_s") is not None]
        if part is None or not timed:
            continue
        speed = max(each.member("control_steps_per_s").member("median").number() for each in timed)
        cores = part.member("host").member("cores").plain_integer(1)
        machine = f"{part.member('device').text()} and {cores} cores, environments on {world}"
        rates.append(DeviceRate(machine, cores, speed))
    return rates
