"""Success rates and learning curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from rlgen.core.stats import SuccessRate
from rlgen.core.text import percent
from rlgen.report.style import FAINT, INK, Plot, actor, look, new_figure, percentages, plain_numbers


@dataclass(frozen=True)
class LearningCurve:
    """How PPO went.

    Attributes:
      control_steps: environment steps of all environments together, after each update.
      train_success: share of successes among the episodes that ended in the update, exploration noise
        included, in [0, 1]; not a number where none ended.
      clip_fraction: share of ratios that the update clipped, in [0, 1].
      test_steps: control steps at which the policy was tried without noise.
      test_rates: what those trials gave.
      test_label: on which states, for the legend.
    """

    control_steps: Int[np.ndarray, " U"]
    train_success: Float[np.ndarray, " U"]
    clip_fraction: Float[np.ndarray, " U"]
    test_steps: Int[np.ndarray, " V"]
    test_rates: Sequence[SuccessRate]
    test_label: str = "without noise"


@dataclass(frozen=True)
class LossCurve:
    """How a supervised training went.

    Attributes:
      steps: optimiser steps.
      train: loss at those steps, on the batch.
      test_steps: optimiser steps at which the loss on data left out was taken.
      test: that loss.
      label: what the loss is, with its unit if it has one.
    """

    steps: Int[np.ndarray, " U"]
    train: Float[np.ndarray, " U"]
    test_steps: Int[np.ndarray, " V"] | None = None
    test: Float[np.ndarray, " V"] | None = None
    label: str = "mean squared error"


def success_bars(rates: Mapping[str, SuccessRate | None]) -> Plot:
    """One bar an actor, with its 95 % Wilson interval and the counts.

    Args:
      rates: by actor, drawn from top to bottom; None for what was not run.
    """
    with look():
        figure, ((axes,),) = new_figure(0.9 + 0.48 * len(rates))
        for row, (key, rate) in enumerate(rates.items()):
            _success_bar(axes, row, key, rate)
        axes.set_yticks(range(len(rates)), [actor(key).name for key in rates])
        axes.set_ylim(len(rates) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        percentages(axes.xaxis)
        axes.set_xlabel("episodes that reached the goal, with 95 % intervals")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    return Plot(figure, _rates_table("actor", list(rates), list(rates.values())))


def learning_curve(curve: LearningCurve, start: SuccessRate | None = None) -> Plot:
    """Success over control steps, and below it how much of each update was clipped.

    Args:
      curve: the measurements.
      start: of the policy that PPO started from; drawn as a dashed line with its interval.
    """
    blue = actor("ppo").color
    with look():
        figure, ((top,), (bottom,)) = new_figure(4.4, rows=2, sharex=True, height_ratios=[3, 1])
        if start is not None:
            top.axhspan(start.low, start.high, color=actor("bc").color, alpha=0.15, linewidth=0)
            top.axhline(start.rate, color=actor("bc").color, linestyle="--", label="BC, where PPO started")
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
    """One panel for each training: the loss on a logarithmic scale, raw and smoothed.

    Args:
      curves: by actor; at least one.
    """
    with look():
        figure, (row,) = new_figure(2.9, columns=len(curves))
        for axes, (key, curve) in zip(row, curves.items(), strict=True):
            _loss_panel(axes, key, curve)
    return Plot(figure, _loss_table(curves))


def _success_bar(axes: Axes, row: int, key: str, rate: SuccessRate | None) -> None:
    if rate is None:
        axes.text(0.01, row, "not run", va="center", color=FAINT, style="italic")
        return
    error = [[rate.rate - rate.low], [rate.high - rate.rate]]
    axes.barh(row, rate.rate, height=0.62, color=actor(key).color)
    axes.errorbar(rate.rate, row, xerr=error, color=INK, capsize=4, linewidth=1.4)
    beside = axes.get_yaxis_transform()
    axes.text(1.09, row, percent(rate.rate), va="center", ha="right", transform=beside)
    axes.text(1.105, row, f"{rate.successes}/{rate.trials}", va="center", color=FAINT, transform=beside)


def _with_intervals(
    axes: Axes, steps: Int[np.ndarray, " V"], rates: Sequence[SuccessRate], color: str, label: str
) -> None:
    if not len(rates):
        return
    middle = np.array([rate.rate for rate in rates])
    error = np.array([[rate.rate - rate.low for rate in rates], [rate.high - rate.rate for rate in rates]])
    axes.errorbar(steps, middle, yerr=error, color=color, marker="o", markersize=4.5, capsize=3, label=label, zorder=3)


def _loss_panel(axes: Axes, key: str, curve: LossCurve) -> None:
    look_of = actor(key)
    steps, loss = np.asarray(curve.steps), np.asarray(curve.train, dtype=np.float64)
    axes.plot(steps, loss, color=look_of.color, alpha=0.35, linewidth=0.8)
    axes.plot(steps, running_mean(loss), color=look_of.color, label="training")
    if curve.test is not None and curve.test_steps is not None:
        axes.plot(curve.test_steps, curve.test, color=INK, marker="o", markersize=4, linewidth=1, label="left out")
    if loss.min() > 0 and loss.max() > 8 * loss.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    plain_numbers(axes.yaxis)
    axes.set_title(look_of.name)
    axes.set_xlabel("optimiser steps")
    axes.set_ylabel(curve.label)
    plain_numbers(axes.xaxis)
    axes.legend()


def running_mean(values: Float[np.ndarray, " U"], share: float = 0.04) -> Float[np.ndarray, " U"]:
    """Mean over a centred window of `share` of the curve, cut off where the curve ends."""
    values = np.asarray(values, dtype=np.float64)
    reach = int(share * len(values) / 2)
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
    """Both series below each other: a row has either the training's numbers or a trial's."""
    updates, trials = len(curve.control_steps), len(curve.test_rates)
    rates = _rates_table("control_steps", list(curve.test_steps), list(curve.test_rates))
    table = {
        "control_steps": [*curve.control_steps, *rates.pop("control_steps")],
        "train_success": [*curve.train_success, *[None] * trials],
        "clip_fraction": [*curve.clip_fraction, *[None] * trials],
    }
    return table | {f"test_{name}": [*[None] * updates, *column] for name, column in rates.items()}


def _loss_table(curves: Mapping[str, LossCurve]) -> dict[str, list]:
    rows = []
    for key, curve in curves.items():
        rows += [(key, "train", step, loss) for step, loss in zip(curve.steps, curve.train, strict=True)]
        if curve.test is not None and curve.test_steps is not None:
            rows += [(key, "test", step, loss) for step, loss in zip(curve.test_steps, curve.test, strict=True)]
    return {name: [row[i] for row in rows] for i, name in enumerate(["actor", "split", "step", "loss"])}


# Okabe and Ito's, which people with any kind of colour vision tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MARKERS = ("o", "s", "^", "D")
# Panels beside each other; with more, a legend is wider than its panel.
ACROSS = 3


@dataclass(frozen=True)
class TestCurve:
    """One training, scored now and then without noise.

    Attributes:
      control_steps: of all environments together, at each score.
      rates: the scores.
    """

    __test__ = False

    control_steps: Int[np.ndarray, " V"]
    rates: Sequence[SuccessRate]

    @classmethod
    def from_metrics(cls, lines: Sequence[Mapping]) -> "TestCurve":
        """From the lines of a run's metrics."""
        scored = [line for line in lines if "test" in line]
        steps = np.array([line["control_steps"] for line in scored])
        return cls(steps, [SuccessRate.from_json(line["test"]) for line in scored])


def comparison(panels: Mapping[str, Mapping[str, Sequence[TestCurve]]]) -> Plot:
    """One panel for each key, `ACROSS` in a row; in it each variant's seeds, and their mean where all were scored.

    Args:
      panels: curves of every seed by variant, by panel; at least one.
    """
    with look():
        columns = min(ACROSS, len(panels))
        count = -(-len(panels) // columns)
        figure, rows = new_figure(3.0 * count, count, columns, sharey=True)
        places = [axes for row in rows for axes in row]
        for axes in places[len(panels) :]:
            axes.remove()
        for axes, (title, variants) in zip(places, panels.items(), strict=False):
            for number, (name, curves) in enumerate(variants.items()):
                color, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
                for curve in curves:
                    axes.plot(curve.control_steps, _middle(curve), color=color, alpha=0.35, linewidth=1)
                steps, mean = mean_curve(curves)
                axes.plot(steps, mean, color=color, marker=marker, markersize=4, label=name)
            axes.set_title(title)
            axes.set_ylim(0, 1.03)
            percentages(axes.yaxis)
            plain_numbers(axes.xaxis)
            axes.set_xlabel("control steps")
            axes.legend(loc="lower right")
        for row in rows:
            row[0].set_ylabel("success without noise")
    return Plot(figure, _table(panels))


def mean_curve(curves: Sequence[TestCurve]) -> tuple[Float[np.ndarray, " V"], Float[np.ndarray, " V"]]:
    """Mean over seeds, score by score, as far as the shortest goes; control steps are means as well."""
    length = min(len(curve.rates) for curve in curves)
    steps = np.mean([curve.control_steps[:length] for curve in curves], axis=0)
    return steps, np.mean([_middle(curve)[:length] for curve in curves], axis=0)


def _middle(curve: TestCurve) -> Float[np.ndarray, " V"]:
    return np.array([rate.rate for rate in curve.rates])


def _table(panels: Mapping[str, Mapping[str, Sequence[TestCurve]]]) -> dict[str, list]:
    names = ("panel", "variant", "run", "control_steps", "successes", "trials", "low", "high")
    rows = [
        (panel, variant, number, int(step), rate.successes, rate.trials, rate.low, rate.high)
        for panel, variants in panels.items()
        for variant, curves in variants.items()
        for number, curve in enumerate(curves)
        for step, rate in zip(curve.control_steps, curve.rates, strict=True)
    ]
    return {name: [row[column] for row in rows] for column, name in enumerate(names)}
