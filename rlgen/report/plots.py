"""Figures of training and evaluation: success rates, PPO's learning curve, losses, and variants compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from rlgen.core.stats import SuccessRate
from rlgen.core.text import percent
from rlgen.data.metrics.score import ScoreSummary
from rlgen.report.style import FAINT, INK, Plot, appearance, new_figure, percentages, plain_numbers, report_style


@dataclass(frozen=True)
class LearningCurve:
    """Success and clipping over one PPO training.

    Attributes:
      control_steps: control steps of all environments together, after each of U iterations.
      train_success: fraction of successes among the episodes that ended in the iteration, with exploration noise,
        in [0, 1]; NaN if none ended.
      clip_fraction: fraction of probability ratios that the update clipped, in [0, 1].
      test_steps: control steps of the V evaluations without noise.
      test_rates: their success rates.
      test_label: initial states of the evaluations, for the legend.
    """

    control_steps: Int[np.ndarray, " U"]
    train_success: Float[np.ndarray, " U"]
    clip_fraction: Float[np.ndarray, " U"]
    test_steps: Int[np.ndarray, " V"]
    test_rates: Sequence[SuccessRate]
    test_label: str = "without noise"


@dataclass(frozen=True)
class LossCurve:
    """Loss of one supervised training.

    Attributes:
      steps: optimizer steps.
      train: loss of the batch at those steps, a mean squared error.
    """

    steps: Int[np.ndarray, " U"]
    train: Float[np.ndarray, " U"]


def success_bars(rates: Mapping[str, SuccessRate | None]) -> Plot:
    """Plots one bar for each actor, with its 95 % Wilson interval and the counts.

    Args:
      rates: by actor, from top to bottom; None for an actor that was not run.
    """
    with report_style():
        figure, ((axes,),) = new_figure(0.9 + 0.48 * len(rates))
        for row, (key, rate) in enumerate(rates.items()):
            _success_bar(axes, row, key, rate)
        axes.set_yticks(range(len(rates)), [appearance(key).name for key in rates])
        axes.set_ylim(len(rates) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        percentages(axes.xaxis)
        axes.set_xlabel("episodes that reached the goal, with 95 % intervals")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    return Plot(figure, _rates_table("actor", list(rates), list(rates.values())))


def learning_curve(curve: LearningCurve) -> Plot:
    """Plots success over control steps, and below it the clip fraction of each iteration."""
    blue = appearance("ppo").color
    with report_style():
        figure, ((top,), (bottom,)) = new_figure(4.4, rows=2, sharex=True, height_ratios=[3, 1])
        top.plot(curve.control_steps, curve.train_success, color=FAINT, linewidth=1, label="while training")
        _with_intervals(top, curve.test_steps, curve.test_rates, blue, curve.test_label)
        top.set_ylim(0, 1.03)
        percentages(top.yaxis)
        top.set_ylabel("success")
        top.legend(loc="lower right")
        bottom.plot(curve.control_steps, curve.clip_fraction, color=INK, linewidth=1.2)
        bottom.set_ylim(bottom=0)
        percentages(bottom.yaxis)
        bottom.set_ylabel("clipped")
        bottom.set_xlabel("control steps, all environments together")
        plain_numbers(bottom.xaxis)
    return Plot(figure, _learning_table(curve))


def loss_curves(curves: Mapping[str, LossCurve]) -> Plot:
    """Plots one panel for each training: the loss, raw and smoothed, on a logarithmic scale if it falls far.

    Args:
      curves: by actor; at least one.
    """
    with report_style():
        figure, (row,) = new_figure(2.9, columns=len(curves))
        for axes, (key, curve) in zip(row, curves.items(), strict=True):
            _loss_panel(axes, key, curve)
    return Plot(figure, _loss_table(curves))


def _success_bar(axes: Axes, row: int, key: str, rate: SuccessRate | None) -> None:
    if rate is None:
        axes.text(0.01, row, "not run", va="center", color=FAINT, style="italic")
        return
    error = [[rate.rate - rate.low], [rate.high - rate.rate]]
    axes.barh(row, rate.rate, height=0.62, color=appearance(key).color)
    axes.errorbar(rate.rate, row, xerr=error, color=INK, capsize=4, linewidth=1.4)
    beside = axes.get_yaxis_transform()
    axes.text(1.09, row, percent(rate.rate), va="center", ha="right", transform=beside)
    axes.text(1.105, row, f"{rate.successes}/{rate.trials}", va="center", color=FAINT, transform=beside)


def _with_intervals(
    axes: Axes, steps: Int[np.ndarray, " V"], rates: Sequence[SuccessRate], color: str, label: str
) -> None:
    if not len(rates):
        return
    centers = np.array([rate.rate for rate in rates])
    error = np.array([[rate.rate - rate.low for rate in rates], [rate.high - rate.rate for rate in rates]])
    axes.errorbar(steps, centers, yerr=error, color=color, marker="o", markersize=4.5, capsize=3, label=label, zorder=3)


def _loss_panel(axes: Axes, key: str, curve: LossCurve) -> None:
    style = appearance(key)
    steps, loss = np.asarray(curve.steps), np.asarray(curve.train, dtype=np.float64)
    axes.plot(steps, loss, color=style.color, alpha=0.35, linewidth=0.8)
    axes.plot(steps, running_mean(loss), color=style.color, label="training")
    if loss.min() > 0 and loss.max() > 8 * loss.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    plain_numbers(axes.yaxis)
    axes.set_title(style.name)
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel("mean squared error")
    plain_numbers(axes.xaxis)
    axes.legend()


def running_mean(values: Float[np.ndarray, " U"], fraction: float = 0.04) -> Float[np.ndarray, " U"]:
    """Returns the mean over a centered window of a fraction of the curve, cut off at its ends."""
    values = np.asarray(values, dtype=np.float64)
    reach = int(fraction * len(values) / 2)
    index = np.arange(len(values))
    first, last = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(values))
    total = np.concatenate([[0.0], np.cumsum(values)])
    return (total[last] - total[first]) / (last - first)


def _rates_table(name: str, keys: Sequence, rates: Sequence[SuccessRate | None]) -> dict[str, list]:
    return {
        name: list(keys),
        "successes": [rate and rate.successes for rate in rates],
        "trials": [rate and rate.trials for rate in rates],
        "rate": [rate and rate.rate for rate in rates],
        "low": [rate and rate.low for rate in rates],
        "high": [rate and rate.high for rate in rates],
    }


def _learning_table(curve: LearningCurve) -> dict[str, list]:
    """Returns both series one below the other: a row is either an iteration or an evaluation."""
    iterations, evaluations = len(curve.control_steps), len(curve.test_rates)
    rates = _rates_table("control_steps", list(curve.test_steps), list(curve.test_rates))
    table = {
        "control_steps": [*curve.control_steps, *rates.pop("control_steps")],
        "train_success": [*curve.train_success, *[None] * evaluations],
        "clip_fraction": [*curve.clip_fraction, *[None] * evaluations],
    }
    return table | {f"test_{name}": [*[None] * iterations, *column] for name, column in rates.items()}


def _loss_table(curves: Mapping[str, LossCurve]) -> dict[str, list]:
    rows = []
    for key, curve in curves.items():
        rows += [(key, "train", step, loss) for step, loss in zip(curve.steps, curve.train, strict=True)]
    return {name: [row[i] for row in rows] for i, name in enumerate(["actor", "split", "step", "loss"])}


# Okabe and Ito's, which people with any kind of color vision tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MARKERS = ("o", "s", "^", "D")
# Panels in a row; with more, a legend is wider than its panel.
ACROSS = 3


# What a score has, by its label.
FIGURES: Mapping[str, Callable[[ScoreSummary], float | None]] = {
    "success without noise": lambda score: score.rate.rate,
    "control steps of a success": lambda score: score.length,
    "mean squared jerk, m²/s⁶": lambda score: score.mean_squared_jerk,
}
SUCCESS = next(iter(FIGURES))


@dataclass(frozen=True)
class ScoreCurve:
    """Scores of one training's policy without noise.

    Attributes:
      control_steps: control steps of all environments together, at each evaluation.
      scores: of the evaluations.
    """

    control_steps: Int[np.ndarray, " V"]
    scores: Sequence[ScoreSummary]

    @classmethod
    def from_metrics(cls, lines: Sequence[Mapping]) -> "ScoreCurve":
        """Takes the evaluations from the lines of a run's metrics."""
        evaluated = [line for line in lines if "test" in line]
        steps = np.array([line["control_steps"] for line in evaluated])
        return cls(steps, [ScoreSummary.from_json(line["test"]) for line in evaluated])


Panels = Mapping[str, Mapping[str, Sequence[ScoreCurve]]]
"""By title, the curves of all seeds by variant."""


def comparison(panels: Panels) -> Plot:
    """Plots success, a panel for each comparison: each variant's seeds as thin lines and their mean as a thick one.

    Args:
      panels: at least one. They come `ACROSS` in a row.
    """
    with report_style():
        columns = min(ACROSS, len(panels))
        count = -(-len(panels) // columns)
        figure, rows = new_figure(3.0 * count, count, columns, sharey=True)
        panel_axes = [axes for row in rows for axes in row]
        for axes in panel_axes[len(panels) :]:
            axes.remove()
        for axes, (title, variants) in zip(panel_axes, panels.items(), strict=False):
            _variants_panel(axes, variants, SUCCESS)
            axes.set_title(title)
            axes.set_xlabel("control steps")
            axes.legend(loc="lower right")
        for row in rows:
            row[0].set_ylabel(SUCCESS)
    return Plot(figure, _table(panels))


def progress(panels: Panels) -> Plot:
    """Plots a column for each comparison: success, length and jerk of successes, as `comparison` plots success.

    Args:
      panels: at least one.
    """
    with report_style():
        figure, rows = new_figure(2.4 * len(FIGURES), len(FIGURES), len(panels), sharex="col", sharey="row")
        for name, row in zip(FIGURES, rows, strict=True):
            row[0].set_ylabel(name)
            for axes, variants in zip(row, panels.values(), strict=True):
                _variants_panel(axes, variants, name)
        for axes, title in zip(rows[0], panels, strict=True):
            axes.set_title(title)
            axes.legend(loc="lower right")
        for axes in rows[-1]:
            axes.set_xlabel("control steps")
    return Plot(figure, _table(panels))


def _variants_panel(axes: Axes, variants: Mapping[str, Sequence[ScoreCurve]], name: str) -> None:
    for index, (variant, curves) in enumerate(variants.items()):
        color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
        for curve in curves:
            axes.plot(curve.control_steps, _values(curve, name), color=color, alpha=0.35, linewidth=1)
        steps, mean = mean_curve(curves, name)
        axes.plot(steps, mean, color=color, marker=marker, markersize=4, label=variant)
    if name == SUCCESS:
        axes.set_ylim(0, 1.03)
        percentages(axes.yaxis)
    else:
        plain_numbers(axes.yaxis)
    plain_numbers(axes.xaxis)


def mean_curve(
    curves: Sequence[ScoreCurve], name: str = SUCCESS
) -> tuple[Float[np.ndarray, " V"], Float[np.ndarray, " V"]]:
    """Returns the mean over seeds of control steps and a figure, up to the last evaluation that all have.

    Args:
      curves: of the seeds, at least one.
      name: of the figure, as in `FIGURES`; where no episode succeeded it is NaN.
    """
    length = min(len(curve.scores) for curve in curves)
    steps = np.mean([curve.control_steps[:length] for curve in curves], axis=0)
    return steps, np.mean([_values(curve, name)[:length] for curve in curves], axis=0)


def _values(curve: ScoreCurve, name: str) -> Float[np.ndarray, " V"]:
    return np.array([FIGURES[name](score) for score in curve.scores], dtype=np.float64)


def _table(panels: Panels) -> dict[str, list]:
    names = ("panel", "variant", "run", "control_steps", "successes", "trials", "low", "high", "length", "jerk")
    rows = [
        (panel, variant, seed, int(step), *_counts(score.rate), score.length, score.mean_squared_jerk)
        for panel, variants in panels.items()
        for variant, curves in variants.items()
        for seed, curve in enumerate(curves)
        for step, score in zip(curve.control_steps, curve.scores, strict=True)
    ]
    return {name: [row[column] for row in rows] for column, name in enumerate(names)}


def _counts(rate: SuccessRate) -> tuple[int, int, float, float]:
    return rate.successes, rate.trials, rate.low, rate.high
