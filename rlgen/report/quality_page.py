"""Several sources beside each other, group by group: the paper's figure 6, and one table for all figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rlgen.core.files import write_bytes
from rlgen.core.stats import SuccessRate
from rlgen.core.text import MISSING
from rlgen.data.metrics.quality import DatasetQuality
from rlgen.report.html import FigureFile, page_environment
from rlgen.report.quality_plots import Looks
from rlgen.report.style import INK, Plot, actor, actors, look, new_figure, plain_numbers

# What a table says of a source: key in `DatasetQuality.to_json`, words, and digits behind the point.
FIGURES = {
    "length": ("Length, control steps", 0),
    "mean_squared_jerk": ("Mean squared jerk, m²/s⁶", 1),
    "log_dimensionless_jerk": ("Log dimensionless jerk", 2),
    "action_variation": ("Action total variation", 1),
    "gripper_switches": ("Gripper switches", 2),
    "path_distance": ("Distance between paths, m", 3),
}
PANELS = {"length": "(a) Mean length, control steps", "mean_squared_jerk": "(b) Mean squared jerk, m²/s⁶"}


def quality_by_group(groups: Mapping[str, Mapping[str, DatasetQuality]], looks: Looks | None = None) -> Plot:
    """Mean length and mean squared jerk of every source in every group (a suite), with bootstrap intervals.

    After figure 6 of the paper: (a) length, (b) jerk; lower is better in both.
    """
    sources = list(dict.fromkeys(name for of in groups.values() for name in of))
    looks = looks or actors(sources)
    with look():
        figure, (row,) = new_figure(3.1, columns=2)
        for axes, (figure_name, title) in zip(row, PANELS.items(), strict=True):
            for place, source in enumerate(sources):
                _bars(axes, groups, source, figure_name, (place, len(sources)), looks)
            axes.set_title(title)
            axes.set_xticks(range(len(groups)), [name.replace("_", "\n", 1) for name in groups])
            axes.grid(axis="x", visible=False)
            axes.set_ylim(bottom=0)
            plain_numbers(axes.yaxis)
        row[0].legend()
    return Plot(figure, _table(groups))


def figure_rows(quality: DatasetQuality) -> dict[str, Any]:
    """The means of a source, by the keys of `FIGURES`: value, low, high."""
    values = quality.to_json()
    values["path_distance"] = values["diversity"]["distance"]
    return {key: {name: values[key][name] for name in ("mean", "low", "high")} for key in FIGURES}


def episode_table(sources: Mapping[str, tuple[Sequence[str], DatasetQuality]]) -> dict[str, list]:
    """Every episode of every source with its figures, as columns."""
    names = ("length", "noops", "mean_squared_jerk", "log_dimensionless_jerk", "action_variation", "gripper_switches")
    table: dict[str, list] = {name: [] for name in ("source", "task", "episode", *names)}
    for source, (tasks, quality) in sources.items():
        for number, (task, episode) in enumerate(zip(tasks, quality.each, strict=True)):
            for column, value in zip(("source", "task", "episode"), (source, task, number), strict=True):
                table[column].append(value)
            for name in names:
                table[name].append(getattr(episode, name))
    return table


def _bars(axes: Axes, groups: Mapping, source: str, figure: str, place: tuple[int, int], looks: Looks) -> None:
    """A source's bar in each group, the `place[0]`th of `place[1]`."""
    number, count = place
    width = 0.8 / count
    for group, of in enumerate(groups.values()):
        if source not in of:
            continue
        interval = getattr(of[source], figure)
        if interval.mean is None:
            continue
        x = group + (number - (count - 1) / 2) * width
        label = looks[source].data_name if group == _first_group(groups, source) else None
        axes.bar(x, interval.mean, 0.92 * width, color=looks[source].color, label=label)
        error = np.array([[interval.mean - interval.low], [interval.high - interval.mean]])
        axes.errorbar(x, interval.mean, yerr=np.maximum(error, 0), color=INK, capsize=2.5, linewidth=1.1)


def _first_group(groups: Mapping, source: str) -> int:
    return next(index for index, of in enumerate(groups.values()) if source in of)


def _table(groups: Mapping[str, Mapping[str, DatasetQuality]]) -> dict[str, list]:
    table: dict[str, list] = {name: [] for name in ("group", "source", "episodes", "noops", "noops_per_4500")}
    table |= {f"{key}_{part}": [] for key in FIGURES for part in ("mean", "low", "high")}
    table["ways"] = []
    for group, of in groups.items():
        for source, quality in of.items():
            fixed = (group, source, quality.episodes, quality.noops, quality.noops_per_4500)
            for name, value in zip(("group", "source", "episodes", "noops", "noops_per_4500"), fixed, strict=True):
                table[name].append(value)
            for key, parts in figure_rows(quality).items():
                for part, value in parts.items():
                    table[f"{key}_{part}"].append(value)
            table["ways"].append(quality.diversity.ways)
    return table


@dataclass(frozen=True)
class SourceRow:
    """A line of the page's table.

    Attributes:
      name: of the source.
      path: where it lies.
      quality: its figures.
      replay: success under replay; None if that is not known.
    """

    name: str
    path: str
    quality: DatasetQuality
    replay: SuccessRate | None = None


def render_quality(rows: Sequence[SourceRow], figures: Sequence[FigureFile], path: Path) -> None:
    """Writes the page to `path`, whole or not at all; any text in it is escaped."""
    template = page_environment().get_template("quality.html.j2")
    page = template.render(
        rows=[_row(row) for row in rows],
        headings=[words for words, _ in FIGURES.values()],
        axes=("x", "y", "z", "rx", "ry", "rz", "gripper"),
        figures=figures,
    )
    write_bytes(Path(path), page.encode())


def _row(row: SourceRow) -> Mapping[str, Any]:
    quality = row.quality
    digits = {key: places for key, (_, places) in FIGURES.items()}
    cells = [_interval(parts, digits[key]) for key, parts in figure_rows(quality).items()]
    return {
        "name": actor(row.name).data_name,
        "path": row.path,
        "episodes": quality.episodes,
        "steps": quality.steps,
        "noops": f"{quality.noops} ({quality.noops_per_4500:.0f} in 4,500 episodes)",
        "cells": cells,
        "ways": MISSING if quality.diversity.ways is None else f"{quality.diversity.ways:.1f}",
        "spread": [f"{value:.3f}" for value in quality.spread.average],
        "replay": MISSING if row.replay is None else str(row.replay),
    }


def _interval(parts: Mapping[str, float | None], digits: int) -> str:
    if parts["mean"] is None:
        return MISSING
    mean, low, high = (f"{parts[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"
