"""Content of figures and of the tables saved with them."""

import csv
import json

import matplotlib
import numpy as np
import pytest
from PIL import Image

from rlgen.core.errors import UserError
from rlgen.core.stats import Estimate, SuccessRate
from rlgen.core.text import MISSING
from rlgen.core.types import Episode, RobotState
from rlgen.data.metrics.quality import recorded_quality
from rlgen.report import plots
from rlgen.report.quality_plots import ActionProfile, SourceQuality, action_profiles, end_effector_paths, quality_bars
from rlgen.report.style import Plot, new_figure, save


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def texts(plot):
    return [text.get_text() for axes in plot.figure.axes for text in axes.texts]


def curve():
    steps = np.arange(1, 6) * 100
    return plots.LearningCurve(
        steps, np.linspace(0, 1, 5), np.full(5, 0.1), steps[::2], [SuccessRate(n, 5) for n in (1, 3, 5)]
    )


def test_success_bars_have_the_rates_and_the_wilson_ends():
    plot = plots.success_bars({"bc": SuccessRate(22, 50), "vla": None, "ppo": SuccessRate(50, 50)})
    axes = plot.figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.44, 1.0]
    ends = [line.get_segments()[0][:, 0] for line in axes.collections]
    np.testing.assert_allclose(ends[0], [SuccessRate(22, 50).low, SuccessRate(22, 50).high])
    assert "not run" in texts(plot) and "22/50" in texts(plot)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["BC", "VLA", "PPO"]


def test_figures_are_saved_with_their_values_as_csv(tmp_path):
    plot = plots.success_bars({"bc": SuccessRate(22, 50), "vla": None})
    path = save(plot, tmp_path / "deep" / "success.png")
    with Image.open(path) as image:
        assert image.format == "PNG" and image.width == 1260
    assert path.stat().st_size < 60_000
    bc, vla = rows(path.with_suffix(".csv"))
    assert (bc["actor"], bc["successes"], bc["trials"]) == ("bc", "22", "50")
    assert float(bc["low"]) == pytest.approx(SuccessRate(22, 50).low, rel=1e-6)
    assert vla["successes"] == vla["high"] == ""
    assert sorted(p.name for p in path.parent.iterdir()) == ["success.csv", "success.png"]


def test_curves_of_one_point_are_plotted(tmp_path):
    """As they are where the cloned policy reaches the target: PPO has no iteration."""
    first = plots.LearningCurve(np.array([0]), np.array([0.95]), np.array([0.0]), np.array([0]), [SuccessRate(19, 20)])
    losses = {"bc": plots.LossCurve(np.array([4]), np.array([0.5]))}
    for name, plot in (("ppo", plots.learning_curve(first)), ("losses", plots.loss_curves(losses))):
        path = save(plot, tmp_path / f"{name}.png")
        assert path.is_file() and rows(path.with_suffix(".csv"))


def test_learning_curve_table_holds_both_series(tmp_path):
    path = save(plots.learning_curve(curve()), tmp_path / "ppo.png")
    table = rows(path.with_suffix(".csv"))
    iterations = [row for row in table if row["train_success"]]
    evaluations = [row for row in table if row["test_trials"]]
    assert [row["control_steps"] for row in iterations] == ["100", "200", "300", "400", "500"]
    assert [(row["control_steps"], row["test_successes"]) for row in evaluations] == [
        ("100", "1"),
        ("300", "3"),
        ("500", "5"),
    ]


def test_learning_curve_without_evaluations_or_finished_episodes_is_plotted(tmp_path):
    steps = np.array([100, 200])
    empty = plots.LearningCurve(steps, np.array([np.nan, 0.5]), np.zeros(2), np.array([], int), [])
    assert save(plots.learning_curve(empty), tmp_path / "ppo.png").stat().st_size > 0


def test_loss_scale_is_logarithmic_only_where_that_is_possible_and_useful():
    steps = np.arange(4)
    falling = plots.LossCurve(steps, np.array([1.0, 0.3, 0.1, 0.03]))
    signed = plots.LossCurve(steps, np.array([1.0, 0.1, -0.1, 0.01]))
    flat = plots.LossCurve(steps, np.array([0.09, 0.08, 0.07, 0.06]))
    plot = plots.loss_curves({"bc": falling, "vla": signed, "ppo": flat})
    assert [axes.get_yscale() for axes in plot.figure.axes] == ["log", "linear", "linear"]
    assert plot.table["split"] == ["train"] * 12


def test_running_mean_is_a_mean_of_neighbours():
    values = np.arange(101.0) ** 2
    smooth = plots.running_mean(values, fraction=0.04)
    assert smooth[50] == pytest.approx(values[48:53].mean())
    assert smooth[0] == pytest.approx(values[:3].mean())
    assert smooth[-1] == pytest.approx(values[-3:].mean())
    np.testing.assert_array_equal(plots.running_mean(values[:3]), values[:3])


def test_quality_bars_reach_the_means():
    sources = {
        "demonstrator": SourceQuality(50, 6095, Estimate(122, 115, 128), Estimate(32, 29, 35), 217),
        "ppo": SourceQuality(50, 4336, Estimate(87, 85, 88), Estimate(12, 11, 13), 0),
    }
    plot = quality_bars(sources)
    heights = [[bar.get_height() for bar in axes.patches] for axes in plot.figure.axes]
    assert heights == [[122, 87], [32, 12], [217, 0]]
    assert {"122", "87.0", "217 of 6095", "0 of 4336"} <= set(texts(plot))
    assert plot.table["length_low"] == [115, 85]


def test_results_of_the_quality_stage_are_read_and_a_missing_mean_is_a_dash(tmp_path):
    actions = np.array([[0.0, 0.1, 0, 0, 0, 0, -1], [0.2, 0.3, 0, 0, 0, 0, -1]])
    episode = Episode("s/t", "p", "ppo", 0, "train", 0, *np.zeros((2, 3, 1)), actions, np.ones(2), True)
    robot = RobotState(*(np.zeros((3, size)) for size in (3, 3, 2, 7)))
    written = json.loads(json.dumps(recorded_quality([episode] * 2, [robot] * 2).to_json()))
    source = SourceQuality.from_json(written)
    assert (source.length, source.steps, source.no_ops) == (Estimate(2.0, 2.0, 2.0), 4, written["noops"])
    assert np.isnan(source.jerk.value), "three positions have no jerk"
    plot = quality_bars({"ppo": source})
    assert MISSING in texts(plot)
    assert save(plot, tmp_path / "quality.png").exists()
    profile = ActionProfile.from_json(written["spread"], action=1, episodes=2)
    np.testing.assert_allclose(profile.mean, np.linspace(0.1, 0.3, len(profile.mean)), atol=1e-6)
    np.testing.assert_allclose(profile.std, 0, atol=1e-6)


def test_the_shade_is_one_standard_deviation_to_each_side():
    profile = ActionProfile(np.array([0.0, 0.5, 0.2]), np.array([0.1, 0.2, 0.3]), 7)
    plot = action_profiles({"demonstrator": profile, "ppo": profile})
    one, other = plot.figure.axes
    edge = one.collections[0].get_paths()[0].vertices
    for time, low, high in [(0, -0.1, 0.1), (0.5, 0.3, 0.7), (1, -0.1, 0.5)]:
        at = edge[edge[:, 0] == time][:, 1]
        assert (at.min(), at.max()) == (pytest.approx(low), pytest.approx(high))
    assert one.get_ylim() == other.get_ylim()
    assert "std 0.20" in one.get_title(loc="left")


def test_paths_are_plotted_on_equal_scales_and_kept_in_the_table(tmp_path):
    line = np.linspace([0.0, 0.0, 1.0], [0.1, 0.3, 1.2], 4)
    plot = end_effector_paths({"demonstrator": [line, line[:2]], "ppo": [line]})
    above, _, side, _ = plot.figure.axes
    assert above.get_aspect() == side.get_aspect() == 1.0
    np.testing.assert_allclose(above.lines[0].get_ydata(), line[:, 1])
    np.testing.assert_allclose(side.lines[0].get_ydata(), line[:, 2])
    table = rows(save(plot, tmp_path / "paths.png").with_suffix(".csv"))
    assert len(table) == 10
    assert table[5] == {"source": "demonstrator", "episode": "1", "step": "1"} | {
        name: f"{value:.7g}" for name, value in zip("xyz", line[1].round(5), strict=True)
    }


def test_names_are_never_read_as_mathematics(tmp_path):
    plot = plots.success_bars({"a$\\frac$b": SuccessRate(1, 2)})
    assert save(plot, tmp_path / "odd.png").exists()


def test_plotting_leaves_the_settings_alone_and_needs_no_pyplot():
    before = dict(matplotlib.rcParams)
    plots.learning_curve(curve())
    assert dict(matplotlib.rcParams) == before


def test_saving_the_same_figure_twice_gives_the_same_bytes(tmp_path):
    rates = {"bc": SuccessRate(22, 50)}
    one = save(plots.success_bars(rates), tmp_path / "one.png").read_bytes()
    assert save(plots.success_bars(rates), tmp_path / "two.png").read_bytes() == one


def test_only_png_is_accepted(tmp_path):
    with pytest.raises(UserError, match=r"\.png"):
        save(plots.success_bars({}), tmp_path / "success.pdf")
    assert not list(tmp_path.iterdir())


def test_columns_must_match():
    with pytest.raises(ValueError, match="unequal"):
        Plot(new_figure(1)[0], {"a": [1], "b": []})
