"""The tables of fleets, from the plans and ledgers in `results/fleet`; `tables.py` puts them where they are shown."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from rlgen.core.text import MISSING, number, percent
from rlgen.fleet.assemble import read_states
from rlgen.fleet.plan import open_plan
from rlgen.fleet.status import estimate_lines, fleet_rows
from rlgen.report.fleet_page import HEADINGS, FleetRow, cells, summary

FLEETS = Path(__file__).resolve().parent / "results" / "fleet"
SUITES = (
    "suite | tasks done | clone | expert | at 95 % and more | length | shorter | jerk | steadier | no-ops"
    " | with noise | core-min"
)
CHANGED = {"length": "length by", "jerk": "jerk by"}
SOURCES = ("diffusion", "gaussian")
# Of fleets whose names end in them.
FURTHER_SEEDS = (1, 2)
# The bar of success on the stored initial states.
BAR = 0.95


def fleet_table(name: str) -> str:
    """Returns a table of suites: means over their tasks, and in how many of them PPO's change is beyond doubt.

    Args:
      name: of the fleet's folder.
    """
    rows = rows_of(name)
    suites = list(dict.fromkeys(row.task.split("/")[0] for row in rows))
    lines = [f"| {SUITES} |", f"| {' | '.join(['---'] * (SUITES.count('|') + 1))} |"]
    for suite in suites:
        lines.append(f"| {' | '.join(_suite([row for row in rows if row.task.split('/')[0] == suite], suite))} |")
    if len(suites) > 1:
        lines.append(f"| {' | '.join(_suite(rows, 'all'))} |")
    return "\n".join([*lines, "", f"{summary(rows)}."])


def fleet_tasks(name: str) -> str:
    """Returns the table of a fleet's tasks, as `rlgen fleet status` shows it, with intervals of PPO's changes."""
    rows = [row for row in rows_of(name) if row.state != "waiting"]
    reasons = [f"* {row.task}: {row.reason}" for row in rows if row.state == "failed"]
    head = [*HEADINGS, *CHANGED.values()]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"]
    body = [f"| {' | '.join([*cells(row), *(_change(row, figure) for figure in CHANGED)])} |" for row in rows]
    return "\n".join([*lines, *body, *([""] if reasons else []), *reasons])


def seeds_table() -> str:
    """Returns clone and expert of every seed, by task and source, of the tasks that were run from several seeds."""
    head = "task | source | seeds | clone | expert | length | jerk | core-min"
    lines = [f"| {head} |", f"| {' | '.join(['---'] * (head.count('|') + 1))} |"]
    found: dict[tuple[str, str], list[FleetRow]] = {}
    for source in SOURCES:
        for name in (source, *(f"{source}-{seed}" for seed in FURTHER_SEEDS)):
            for row in rows_of(name) if (FLEETS / name).is_dir() else []:
                if row.state == "done" and row.before.success and row.after.success:
                    found.setdefault((row.task, source), []).append(row)
    several = {task for (task, _), rows in found.items() if len(rows) > 1}
    for (task, source), rows in sorted(found.items()):
        if task in several:
            lines.append(f"| {task} | {source} | {len(rows)} | {' | '.join(_seeds(rows))} |")
    return "\n".join(lines) if len(lines) > 2 else "No task has been run from a second seed yet."


def _seeds(rows: Sequence[FleetRow]) -> list[str]:
    def both(figure: Callable) -> str:
        pairs = [(figure(row.before), figure(row.after)) for row in rows]
        return ", ".join(f"{number(before)} → {number(after)}" for before, after in pairs)

    sides = ([row.before.success for row in rows], [row.after.success for row in rows])
    scores = [", ".join(f"{rate.successes}/{rate.trials}" for rate in side if rate) for side in sides]
    costs = ", ".join(number(row.core_seconds / 60) for row in rows)
    return [*scores, both(lambda actor: actor.length), both(lambda actor: actor.jerk), costs]


def _change(row: FleetRow, figure: str) -> str:
    if figure not in row.changes:
        return MISSING
    value, low, high = (f"{'+' if end > 0 else ''}{number(end)}" for end in row.changes[figure])
    return f"{value} ({low} to {high})"


def together_table() -> str:
    """Returns the costs of experts that were trained alone and in one program, and how far their numbers are apart."""
    report = json.loads((FLEETS / "together.json").read_text())
    names = {"alone": f"{len(report['tasks'])} runs, one after the other", "together": "one program"}
    rows = ["| | PPO, core-seconds | most memory of a process, GB |", "| --- | --- | --- |"]
    for name, title in names.items():
        costs = report[name]
        rows.append(f"| {title} | {costs['core_seconds']:.0f} | {costs['peak_bytes'] / 1e9:.2f} |")
    apart = " and ".join(f"{report['largest'][name]:.2g} of a {name}" for name in ("parameter", "metric"))
    return "\n".join([*rows, "", f"Largest difference: {apart}."])


def fleet_estimate(name: str) -> str:
    """Returns what the tasks of all suites would cost that a fleet has not had, as `rlgen fleet status` says it."""
    device = FLEETS.parent / "device" / "device.json"
    first, *others = estimate_lines(FLEETS / name, ["all"], device)
    return "\n".join([f"{first[0].upper()}{first[1:]}:", "", *(f"* {line.strip()}" for line in others)])


def rows_of(name: str) -> list[FleetRow]:
    """Returns the rows of a committed fleet."""
    root = FLEETS / name
    return fleet_rows(root, read_states(root, open_plan(root)))


def _suite(rows: Sequence[FleetRow], name: str) -> list[str]:
    done = [row for row in rows if row.state == "done"]
    compared = [row for row in done if row.before.success and row.after.success]
    return [
        name,
        f"{len(done)} of {len(rows)}",
        _percent(row.before.success.rate for row in compared),
        _percent(row.after.success.rate for row in compared),
        f"{sum(row.after.success.rate >= BAR for row in compared)} of {len(compared)}",
        _pair(compared, lambda actor: actor.length),
        _beyond_doubt(compared, "length"),
        _pair(compared, lambda actor: actor.jerk),
        _beyond_doubt(compared, "jerk"),
        _pair(compared, lambda actor: actor.noops),
        " → ".join(_percent(row.noise[end] for row in compared) for end in (0, 1)),
        number(float(np.mean([row.core_seconds / 60 for row in done]))) if done else MISSING,
    ]


def _percent(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return percent(float(np.mean(known))) if known else MISSING


def _pair(rows: Sequence[FleetRow], figure: Callable) -> str:
    """Returns the means of the clones and of the experts, over tasks in which both have one."""
    pairs = [(figure(row.before), figure(row.after)) for row in rows]
    known = np.array([pair for pair in pairs if None not in pair])
    return " → ".join(number(value) for value in known.mean(axis=0)) if len(known) else MISSING


def _beyond_doubt(rows: Sequence[FleetRow], name: str) -> str:
    """Returns in how many tasks the interval of what PPO changed lies below 0."""
    return f"{sum(name in row.changes and row.changes[name][2] < 0 for row in rows)} of {len(rows)}"
