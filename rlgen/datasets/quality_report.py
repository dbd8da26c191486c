"""What `rlgen quality` leaves: figures with the numbers behind them, a table of every episode, JSON, and a page."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rlgen.datasets.compare import Measured
from rlgen.errors import UserError
from rlgen.files import write_json
from rlgen.report.contents import FigureFile
from rlgen.report.quality_groups import episode_table, quality_by_group
from rlgen.report.quality_page import SourceRow, render_quality
from rlgen.report.quality_plots import SourceQuality, Spread, action_spread, end_effector_paths, quality_bars
from rlgen.report.style import actors, save, save_table

AXES = ("x", "y", "z", "rx", "ry", "rz", "gripper")
PATHS_SHOWN = 40
PAGE, NUMBERS = "quality.html", "quality.json"


def write_quality(sources: Sequence[Measured], out: Path, *, task: str | None = None, axis: str = "y") -> Path:
    """Writes the page with everything behind it into `out`, and returns the page.

    Args:
      sources: at least one, with different names.
      out: folder; made if absent.
      task: instruction whose actions and paths are shown; by default the one that most sources have, then the one
        with most episodes.
      axis: action shown over time.

    Raises:
      UserError: no source has episodes of `task`, or an unknown axis.
    """
    if axis not in AXES:
        raise UserError(f"axis {axis!r}: expected one of {', '.join(AXES)}")
    shown = task or _common_task(sources)
    measured = {source.name: source.quality() for source in sources}
    of_task = {source.name: _only(source, shown) for source in sources}
    of_task = {name: source for name, source in of_task.items() if source.traces}
    if not of_task:
        raise UserError(f"no source has episodes of {shown!r}; `rlgen tasks` lists the instructions")
    task_quality = {name: source.quality() for name, source in of_task.items()}
    looks = actors(measured)
    suites = dict.fromkeys(group for source in sources for group in source.groups)
    by_suite = {
        suite: {source.name: source.quality(suite) for source in sources if suite in source.groups} for suite in suites
    }
    bars = {name: SourceQuality.from_json(quality.to_json()) for name, quality in measured.items()}
    spreads = {
        name: Spread.from_json(quality.spread.to_json(), AXES.index(axis), quality.episodes)
        for name, quality in task_quality.items()
    }
    paths = {name: [trace.position for trace in source.traces[:PATHS_SHOWN]] for name, source in of_task.items()}
    figures = [
        _figure(out, "figure6", quality_by_group(by_suite, looks), "Efficiency and smoothness",
                "Mean length and mean squared jerk by suite, with bootstrap intervals (the paper's figure 6)."),
        _figure(out, "figure7", action_spread(spreads, axis, looks), "Consistency",
                f"Mean action along {axis} and its standard deviation over episodes of “{shown}” "
                "(the paper's figure 7)."),
        _figure(out, "totals", quality_bars(bars, looks), "All episodes",
                "Length, jerk and no-ops of all suites together."),
        _figure(out, "paths", end_effector_paths(paths, looks), "Paths", f"End-effector paths of “{shown}”."),
    ]  # fmt: skip
    tasks = {source.name: [trace.task for trace in source.traces] for source in sources}
    save_table(episode_table({name: (tasks[name], measured[name]) for name in measured}), out / "episodes.csv")
    rows = [SourceRow(s.name, str(s.path), measured[s.name], s.replay) for s in sources]
    write_json(
        out / NUMBERS,
        {
            row.name: {**row.quality.to_json(), "path": row.path, "replay": row.replay and row.replay.to_json()}
            for row in rows
        },
    )
    render_quality(rows, figures, out / PAGE)
    return out / PAGE


def _figure(out: Path, name: str, plot, title: str, caption: str) -> FigureFile:
    return FigureFile(save(plot, out / f"{name}.png"), title, caption, "data")


def _only(source: Measured, task: str) -> Measured:
    kept = [number for number, trace in enumerate(source.traces) if trace.task == task]
    traces, groups = ([values[number] for number in kept] for values in (source.traces, source.groups))
    return Measured(source.name, source.path, traces, groups, source.replay)


def _common_task(sources: Sequence[Measured]) -> str:
    having = Counter(task for source in sources for task in {trace.task for trace in source.traces})
    counts = Counter(trace.task for source in sources for trace in source.traces)
    return max(sorted(counts), key=lambda task: (having[task], counts[task]))
