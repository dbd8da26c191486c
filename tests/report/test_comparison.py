import numpy as np
import pytest

from rlgen.core.stats import SuccessRate
from rlgen.report.plots import ScoreCurve, comparison, mean_curve
from rlgen.report.style import save


def lines(successes, every: int = 100):
    """Returns lines of metrics with an evaluation on every other one."""
    out = []
    for index, count in enumerate(successes):
        out.append({"step": 2 * index, "control_steps": every * index, "test": SuccessRate(count, 10).to_json()})
        out.append({"step": 2 * index + 1, "control_steps": every * index + 5})
    return out


def test_evaluations_are_read_from_metrics_and_averaged_up_to_the_last_that_all_have():
    curves = [ScoreCurve.from_metrics(lines([0, 4, 8])), ScoreCurve.from_metrics(lines([2, 6], every=200))]
    assert curves[0].control_steps.tolist() == [0, 100, 200]
    steps, mean = mean_curve(curves)
    np.testing.assert_allclose(steps, [0, 150])
    np.testing.assert_allclose(mean, [0.1, 0.5])


def test_every_evaluation_of_every_run_is_in_the_table(tmp_path):
    curve = ScoreCurve.from_metrics(lines([1, 9]))
    plot = comparison({"schedule": {"cosine": [curve, curve], "constant": [curve]}, "steps": {"5": [curve]}})
    assert len(plot.table["rate" if "rate" in plot.table else "low"]) == 8
    assert plot.table["variant"].count("cosine") == 4 and plot.table["successes"][:2] == [1, 9]
    path = save(plot, tmp_path / "figure.png")
    assert path.stat().st_size > 5000 and path.with_suffix(".csv").is_file()


@pytest.mark.parametrize(("panels", "rows"), [(1, 1), (3, 1), (4, 2), (5, 2)])
def test_panels_that_do_not_fit_go_in_another_row(panels, rows):
    curve = ScoreCurve.from_metrics(lines([1, 9]))
    figure = comparison({f"panel {index}": {"only": [curve]} for index in range(panels)}).figure
    assert [axes.get_title(loc="left") for axes in figure.axes] == [f"panel {index}" for index in range(panels)]
    assert len({axes.get_subplotspec().rowspan.start for axes in figure.axes}) == rows


def test_nothing_to_average_is_an_error():
    with pytest.raises(ValueError):
        mean_curve([])
