"""Learning curves of several variants beside each other, a panel for each question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from rlgen.report.intervals import SuccessRate
from rlgen.report.style import Plot, look, new_figure, percentages, plain_numbers

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
                colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
                for curve in curves:
                    axes.plot(curve.control_steps, _middle(curve), color=colour, alpha=0.35, linewidth=1)
                steps, mean = mean_curve(curves)
                axes.plot(steps, mean, color=colour, marker=marker, markersize=4, label=name)
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
