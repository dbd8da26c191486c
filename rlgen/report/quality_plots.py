"""Figures of the quality of episodes, source by source: length, smoothness, actions over time, paths.

After figures 6 and 7 of the paper: `quality_by_group` and `quality_bars` show efficiency and smoothness,
`action_profiles` how much an action differs between the episodes of a task at the same point of time.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from rlgen.core.stats import Estimate
from rlgen.core.text import count, number
from rlgen.data.metrics.quality import DatasetQuality
from rlgen.report.style import INK, Appearance, Appearances, Plot, appearances, new_figure, plain_numbers, report_style

# The metrics of a source: key in `DatasetQuality.to_json`, heading, and digits behind the point.
METRICS = {
    "length": ("Length, control steps", 0),
    "mean_squared_jerk": ("Mean squared jerk, m²/s⁶", 1),
    "log_dimensionless_jerk": ("Log dimensionless jerk", 2),
    "action_variation": ("Action total variation", 1),
    "gripper_switches": ("Gripper switches", 2),
    "path_distance": ("Distance between paths, m", 3),
}
PANELS = {"length": "(a) Mean length, control steps", "mean_squared_jerk": "(b) Mean squared jerk, m²/s⁶"}


@dataclass(frozen=True)
class SourceQuality:
    """Metrics of the successful episodes of one source.

    Attributes:
      episodes: number of episodes.
      steps: control steps of all episodes together.
      length: control steps of an episode, mean over episodes.
      jerk: mean squared jerk of the end effector's path, m²/s⁶, mean over episodes.
      no_ops: control steps that command neither arm nor gripper to move, in all episodes together.
    """

    episodes: int
    steps: int
    length: Estimate
    jerk: Estimate
    no_ops: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SourceQuality":
        """Reads what `rlgen.data.metrics.quality.DatasetQuality.to_json` wrote."""
        return cls(
            episodes=value["episodes"],
            steps=value["steps"],
            length=_estimate(value["length"]),
            jerk=_estimate(value["mean_squared_jerk"]),
            no_ops=value["noops"],
        )


@dataclass(frozen=True)
class ActionProfile:
    """One action over normalized time, 0 at the start and 1 at the end of an episode.

    Attributes:
      mean: over episodes, at M equally spaced times.
      std: standard deviation over episodes, at the same times.
      episodes: number of episodes.
    """

    mean: Float[np.ndarray, " M"]
    std: Float[np.ndarray, " M"]
    episodes: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any], action: int, episodes: int) -> "ActionProfile":
        """Reads one of the seven actions from what `rlgen.data.metrics.diversity.ActionDistribution.to_json` wrote.

        Args:
          value: the JSON value.
          action: index of the action, 0 to 6.
          episodes: number of episodes, for the title.
        """
        mean, std = np.asarray(value["mean"]), np.asarray(value["std"])
        return cls(mean[:, action], std[:, action], episodes)


def quality_bars(sources: Mapping[str, SourceQuality], styles: Appearances | None = None) -> Plot:
    """Plots mean length, mean squared jerk and no-ops of each source; lower is better in all three.

    Args:
      sources: metrics by source.
      styles: appearances of the sources; their own by default.
    """
    styles = styles or appearances(sources)
    with report_style():
        figure, ((length, jerk, no_ops),) = new_figure(2.9, columns=3)
        _estimate_bars(length, {key: source.length for key, source in sources.items()}, styles)
        length.set_title("Control steps an episode")
        _estimate_bars(jerk, {key: source.jerk for key, source in sources.items()}, styles)
        jerk.set_title("Mean squared jerk, m²/s⁶")
        _bars(no_ops, sources, [source.no_ops for source in sources.values()], styles)
        for x, source in enumerate(sources.values()):
            _above(no_ops, x, source.no_ops, f"{count(source.no_ops)} of {count(source.steps)}")
        no_ops.set_title("No-op steps, in all")
    return Plot(figure, _quality_table(sources))


def action_profiles(
    profiles: Mapping[str, ActionProfile], action: str = "y", styles: Appearances | None = None
) -> Plot:
    """Plots one action over normalized time: the mean as a line, one standard deviation to each side as a shade.

    Args:
      profiles: by source, one panel each on a common scale.
      action: name of the action, for the axis.
      styles: appearances of the sources; their own by default.
    """
    styles = styles or appearances(profiles)
    with report_style():
        figure, (row,) = new_figure(2.9, columns=len(profiles), sharey=True)
        for axes, (key, profile) in zip(row, profiles.items(), strict=True):
            _profile_panel(axes, styles[key], profile)
        row[0].set_ylabel(f"{action} action, in [-1, 1]")
    return Plot(figure, _profile_table(profiles))


def end_effector_paths(
    paths: Mapping[str, Sequence[Float[np.ndarray, "T 3"]]], styles: Appearances | None = None
) -> Plot:
    """Plots the end effector's paths from above and from the side, one column for each source on common scales.

    A ring marks the start of an episode, a dot its end.

    Args:
      paths: by source, the positions in the world of each episode, metres.
      styles: appearances of the sources; their own by default.
    """
    styles = styles or appearances(paths)
    everything = np.concatenate([path for group in paths.values() for path in group])
    low, high = everything.min(axis=0), everything.max(axis=0)
    margin = 0.04 * float((high - low).max()) + 1e-3
    spans = high - low + 2 * margin
    columns = len(paths)
    panel_width = 7.4 / columns
    height = 1.2 + panel_width * float((spans[1] + spans[2]) / spans[0])
    with report_style():
        figure, rows = new_figure(
            min(height, 8.0),
            rows=2,
            columns=columns,
            sharex=True,
            sharey="row",
            height_ratios=[spans[1], spans[2]],
        )
        for column, (key, group) in enumerate(paths.items()):
            for row, vertical in ((0, 1), (1, 2)):
                _path_panel(rows[row][column], group, vertical, styles[key].color)
                rows[row][column].set_ylim(low[vertical] - margin, high[vertical] + margin)
            rows[0][column].set_xlim(low[0] - margin, high[0] + margin)
            rows[0][column].set_title(f"{styles[key].data_name}, {len(group)} episodes")
            rows[1][column].set_xlabel("x, m")
        rows[0][0].set_ylabel("from above: y, m")
        rows[1][0].set_ylabel("from the side: z, m")
    return Plot(figure, _paths_table(paths))


def _in_lines(name: str, width: int = 14) -> str:
    """Returns a name as narrow as a bar: broken at spaces, and a long one without spaces at underscores."""
    spaced = name if " " in name or len(name) <= width else name.replace("_", " ")
    return "\n".join(textwrap.wrap(spaced, width))


def _bars(axes: Axes, sources: Mapping[str, object], values: Sequence[float], styles: Appearances) -> None:
    positions = range(len(sources))
    axes.bar(positions, values, width=0.6, color=[styles[key].color for key in sources])
    axes.set_xticks(positions, [_in_lines(styles[key].data_name) for key in sources])
    axes.set_xlim(-0.6, len(sources) - 0.4)
    axes.margins(y=0.18)
    axes.set_ylim(bottom=0)
    axes.grid(axis="x", visible=False)
    axes.tick_params(axis="x", length=0)
    plain_numbers(axes.yaxis)


def _estimate_bars(axes: Axes, estimates: Mapping[str, Estimate], styles: Appearances) -> None:
    _bars(axes, estimates, [estimate.high for estimate in estimates.values()], styles)
    for bar, estimate in zip(axes.patches, estimates.values(), strict=True):
        cast(Rectangle, bar).set_height(estimate.value)
    for x, estimate in enumerate(estimates.values()):
        error = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
        axes.errorbar(x, estimate.value, yerr=error, color=INK, capsize=4, linewidth=1.4)
        _above(axes, x, estimate.high, number(estimate.value))


def _estimate(value: Mapping[str, float | None]) -> Estimate:
    parts = (value[name] for name in ("mean", "low", "high"))
    return Estimate(*(np.nan if part is None else float(part) for part in parts))


def _above(axes: Axes, x: int, height: float, label: str) -> None:
    height = height if np.isfinite(height) else 0.0
    axes.annotate(label, (x, height), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=9.5)


def _profile_panel(axes: Axes, style: Appearance, profile: ActionProfile) -> None:
    time = np.linspace(0, 1, len(profile.mean))
    low, high = profile.mean - profile.std, profile.mean + profile.std
    axes.axhline(0, color="#c3c7cd", linewidth=0.8)
    axes.fill_between(time, low, high, color=style.color, alpha=0.25, linewidth=0)
    axes.plot(time, profile.mean, color=style.color)
    axes.set_xlim(0, 1)
    axes.set_xlabel("fraction of the episode")
    width = number(float(np.mean(profile.std)), 2)
    axes.set_title(f"{style.data_name}, {profile.episodes}: std {width}")
    plain_numbers(axes.yaxis)


def _path_panel(axes: Axes, group: Sequence[Float[np.ndarray, "T 3"]], vertical: int, color: str) -> None:
    for path in group:
        axes.plot(path[:, 0], path[:, vertical], color=color, linewidth=0.9, alpha=0.5)
    starts = np.array([path[0] for path in group])
    ends = np.array([path[-1] for path in group])
    axes.plot(starts[:, 0], starts[:, vertical], "o", markersize=5, markerfacecolor="white", color=INK)
    axes.plot(ends[:, 0], ends[:, vertical], "o", markersize=2.5, color=INK)
    axes.set_aspect("equal", adjustable="box")


def _quality_table(sources: Mapping[str, SourceQuality]) -> dict[str, list]:
    table: dict[str, list] = {"source": list(sources)}
    for name in ("episodes", "steps", "no_ops"):
        table[name] = [getattr(source, name) for source in sources.values()]
    for name in ("length", "jerk"):
        for part in ("value", "low", "high"):
            column = [getattr(getattr(source, name), part) for source in sources.values()]
            table[name if part == "value" else f"{name}_{part}"] = column
    return table


def _profile_table(profiles: Mapping[str, ActionProfile]) -> dict[str, list]:
    table: dict[str, list] = {"source": [], "time": [], "mean": [], "std": []}
    for key, profile in profiles.items():
        table["source"] += [key] * len(profile.mean)
        table["time"] += list(np.linspace(0, 1, len(profile.mean)))
        table["mean"] += list(profile.mean)
        table["std"] += list(profile.std)
    return table


def _paths_table(paths: Mapping[str, Sequence[Float[np.ndarray, "T 3"]]]) -> dict[str, list]:
    rows = [
        (key, episode, step, *(round(float(value), 5) for value in position))
        for key, group in paths.items()
        for episode, path in enumerate(group)
        for step, position in enumerate(path)
    ]
    return {name: [row[i] for row in rows] for i, name in enumerate(["source", "episode", "step", "x", "y", "z"])}


def quality_by_group(groups: Mapping[str, Mapping[str, DatasetQuality]], styles: Appearances | None = None) -> Plot:
    """Plots mean length and mean squared jerk of every source in every group, with bootstrap intervals.

    Args:
      groups: metrics by source, by group (a suite); a group need not have every source.
      styles: appearances of the sources; their own by default.
    """
    sources = list(dict.fromkeys(source for group in groups.values() for source in group))
    styles = styles or appearances(sources)
    with report_style():
        figure, (row,) = new_figure(3.1, columns=2)
        for axes, (metric, title) in zip(row, PANELS.items(), strict=True):
            width = 0.8 / len(sources)
            for index, source in enumerate(sources):
                offset = (index - (len(sources) - 1) / 2) * width
                _group_bars(axes, groups, source, metric, offset, width, styles[source])
            axes.set_title(title)
            axes.set_xticks(range(len(groups)), [name.replace("_", "\n", 1) for name in groups])
            axes.grid(axis="x", visible=False)
            axes.set_ylim(bottom=0)
            plain_numbers(axes.yaxis)
        row[0].legend()
    return Plot(figure, _group_table(groups))


def _group_bars(
    axes: Axes, groups: Mapping, source: str, metric: str, offset: float, width: float, style: Appearance
) -> None:
    """Plots a source's bar in each group, `offset` beside the group's center; its first one is in the legend."""
    first = next(index for index, group in enumerate(groups.values()) if source in group)
    for index, group in enumerate(groups.values()):
        if source not in group:
            continue
        interval = getattr(group[source], metric)
        if interval.mean is None:
            continue
        x = index + offset
        label = style.data_name if index == first else None
        axes.bar(x, interval.mean, 0.92 * width, color=style.color, label=label)
        error = np.array([[interval.mean - interval.low], [interval.high - interval.mean]])
        axes.errorbar(x, interval.mean, yerr=np.maximum(error, 0), color=INK, capsize=2.5, linewidth=1.1)


def metric_means(quality: DatasetQuality) -> dict[str, Any]:
    """Returns mean, low and high of each of `METRICS` for one source."""
    values = quality.to_json()
    values["path_distance"] = values["diversity"]["distance"]
    return {key: {name: values[key][name] for name in ("mean", "low", "high")} for key in METRICS}


def _group_table(groups: Mapping[str, Mapping[str, DatasetQuality]]) -> dict[str, list]:
    table: dict[str, list] = {name: [] for name in ("group", "source", "episodes", "noops", "noops_per_4500")}
    table |= {f"{key}_{part}": [] for key in METRICS for part in ("mean", "low", "high")}
    table["ways"] = []
    for group, sources in groups.items():
        for source, quality in sources.items():
            fixed = (group, source, quality.episodes, quality.noops, quality.noops_per_4500)
            for name, value in zip(("group", "source", "episodes", "noops", "noops_per_4500"), fixed, strict=True):
                table[name].append(value)
            for key, parts in metric_means(quality).items():
                for part, value in parts.items():
                    table[f"{key}_{part}"].append(value)
            table["ways"].append(quality.diversity.ways)
    return table


def episode_table(sources: Mapping[str, tuple[Sequence[str], DatasetQuality]]) -> dict[str, list]:
    """Returns the metrics of every episode of every source as columns.

    Args:
      sources: by name, the task of each episode and the metrics.
    """
    names = ("length", "noops", "mean_squared_jerk", "log_dimensionless_jerk", "action_variation", "gripper_switches")
    table: dict[str, list] = {name: [] for name in ("source", "task", "episode", *names)}
    for source, (tasks, quality) in sources.items():
        for index, (task, episode) in enumerate(zip(tasks, quality.each, strict=True)):
            for column, value in zip(("source", "task", "episode"), (source, task, index), strict=True):
                table[column].append(value)
            for name in names:
                table[name].append(getattr(episode, name))
    return table
