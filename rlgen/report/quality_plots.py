"""Demonstrations beside RL data: length, smoothness, spread of actions, paths."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from rlgen.core.stats import Estimate
from rlgen.core.text import count, number
from rlgen.report.style import INK, Actor, Plot, actors, look, new_figure, plain_numbers

Looks = Mapping[str, Actor]


@dataclass(frozen=True)
class SourceQuality:
    """What was measured on the successful episodes of one source.

    Attributes:
      episodes: how many.
      steps: control steps of all of them.
      length: mean control steps an episode.
      jerk: mean squared jerk of the end effector's path, m^2/s^6, mean over episodes.
      no_ops: control steps in which neither arm nor gripper was told to move, in all episodes together.
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
class Spread:
    """One action over normalised time, 0 the start and 1 the end of an episode.

    Attributes:
      mean: over episodes, at M equally spaced times.
      std: standard deviation over episodes.
      episodes: how many.
    """

    mean: Float[np.ndarray, " M"]
    std: Float[np.ndarray, " M"]
    episodes: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any], action: int, episodes: int) -> "Spread":
        """Reads one of the seven actions from what `rlgen.data.metrics.diversity.ActionSpread.to_json` wrote."""
        mean, std = np.asarray(value["mean"]), np.asarray(value["std"])
        return cls(mean[:, action], std[:, action], episodes)


def quality_bars(sources: Mapping[str, SourceQuality], looks: Looks | None = None) -> Plot:
    """Mean length, mean squared jerk and no-ops of each source; lower is better in all three."""
    looks = looks or actors(sources)
    with look():
        figure, ((length, jerk, no_ops),) = new_figure(2.9, columns=3)
        _estimate_bars(length, {key: source.length for key, source in sources.items()}, looks)
        length.set_title("Control steps an episode")
        _estimate_bars(jerk, {key: source.jerk for key, source in sources.items()}, looks)
        jerk.set_title("Mean squared jerk, m²/s⁶")
        _bars(no_ops, sources, [source.no_ops for source in sources.values()], looks)
        for place, source in enumerate(sources.values()):
            _above(no_ops, place, source.no_ops, f"{count(source.no_ops)} of {count(source.steps)}")
        no_ops.set_title("No-op steps, in all")
    return Plot(figure, _quality_table(sources))


def action_spread(spreads: Mapping[str, Spread], action: str = "y", looks: Looks | None = None) -> Plot:
    """One action over normalised time: mean as a line, one standard deviation to each side as a shade.

    Args:
      spreads: by source, one panel each on a common scale.
      action: name of the action, for the axis.
      looks: of the sources; their own by default.
    """
    looks = looks or actors(spreads)
    with look():
        figure, (row,) = new_figure(2.9, columns=len(spreads), sharey=True)
        for axes, (key, spread) in zip(row, spreads.items(), strict=True):
            _spread_panel(axes, looks[key], spread)
        row[0].set_ylabel(f"{action} action, in [-1, 1]")
    return Plot(figure, _spread_table(spreads))


def end_effector_paths(paths: Mapping[str, Sequence[Float[np.ndarray, "T 3"]]], looks: Looks | None = None) -> Plot:
    """Where the end effector went, from above and from the side, one column a source on common scales.

    A ring marks the start of an episode, a dot its end.

    Args:
      paths: positions in the world by source, metres; one array an episode.
      looks: of the sources; their own by default.
    """
    looks = looks or actors(paths)
    everything = np.concatenate([path for group in paths.values() for path in group])
    low, high = everything.min(axis=0), everything.max(axis=0)
    margin = 0.04 * float((high - low).max()) + 1e-3
    spans = high - low + 2 * margin
    columns = len(paths)
    panel_width = 7.4 / columns
    height = 1.2 + panel_width * float((spans[1] + spans[2]) / spans[0])
    with look():
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
                _path_panel(rows[row][column], group, vertical, looks[key].color)
                rows[row][column].set_ylim(low[vertical] - margin, high[vertical] + margin)
            rows[0][column].set_xlim(low[0] - margin, high[0] + margin)
            rows[0][column].set_title(f"{looks[key].data_name}, {len(group)} episodes")
            rows[1][column].set_xlabel("x, m")
        rows[0][0].set_ylabel("from above: y, m")
        rows[1][0].set_ylabel("from the side: z, m")
    return Plot(figure, _paths_table(paths))


def _in_lines(name: str, width: int = 14) -> str:
    """A name as narrow as a bar: broken at spaces, and a long one without any at underscores."""
    words = name if " " in name or len(name) <= width else name.replace("_", " ")
    return "\n".join(textwrap.wrap(words, width))


def _bars(axes: Axes, sources: Mapping[str, object], values: Sequence[float], looks: Looks) -> None:
    places = range(len(sources))
    axes.bar(places, values, width=0.6, color=[looks[key].color for key in sources])
    axes.set_xticks(places, [_in_lines(looks[key].data_name) for key in sources])
    axes.set_xlim(-0.6, len(sources) - 0.4)
    axes.margins(y=0.18)
    axes.set_ylim(bottom=0)
    axes.grid(axis="x", visible=False)
    axes.tick_params(axis="x", length=0)
    plain_numbers(axes.yaxis)


def _estimate_bars(axes: Axes, estimates: Mapping[str, Estimate], looks: Looks) -> None:
    _bars(axes, estimates, [estimate.high for estimate in estimates.values()], looks)
    for bar, estimate in zip(axes.patches, estimates.values(), strict=True):
        bar.set_height(estimate.value)
    for place, estimate in enumerate(estimates.values()):
        error = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
        axes.errorbar(place, estimate.value, yerr=error, color=INK, capsize=4, linewidth=1.4)
        _above(axes, place, estimate.high, number(estimate.value))


def _estimate(value: Mapping[str, float | None]) -> Estimate:
    parts = (value[name] for name in ("mean", "low", "high"))
    return Estimate(*(np.nan if part is None else float(part) for part in parts))


def _above(axes: Axes, place: int, height: float, words: str) -> None:
    height = height if np.isfinite(height) else 0.0
    axes.annotate(words, (place, height), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=9.5)


def _spread_panel(axes: Axes, look_of: Actor, spread: Spread) -> None:
    time = np.linspace(0, 1, len(spread.mean))
    axes.axhline(0, color="#c3c7cd", linewidth=0.8)
    axes.fill_between(
        time,
        spread.mean - spread.std,
        spread.mean + spread.std,
        color=look_of.color,
        alpha=0.25,
        linewidth=0,
    )
    axes.plot(time, spread.mean, color=look_of.color)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the episode")
    width = number(float(np.mean(spread.std)), 2)
    axes.set_title(f"{look_of.data_name}, {spread.episodes}: spread ±{width}")
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


def _spread_table(spreads: Mapping[str, Spread]) -> dict[str, list]:
    table: dict[str, list] = {"source": [], "time": [], "mean": [], "std": []}
    for key, spread in spreads.items():
        table["source"] += [key] * len(spread.mean)
        table["time"] += list(np.linspace(0, 1, len(spread.mean)))
        table["mean"] += list(spread.mean)
        table["std"] += list(spread.std)
    return table


def _paths_table(paths: Mapping[str, Sequence[Float[np.ndarray, "T 3"]]]) -> dict[str, list]:
    rows = [
        (key, episode, step, *(round(float(value), 5) for value in place))
        for key, group in paths.items()
        for episode, path in enumerate(group)
        for step, place in enumerate(path)
    ]
    return {name: [row[i] for row in rows] for i, name in enumerate(["source", "episode", "step", "x", "y", "z"])}
