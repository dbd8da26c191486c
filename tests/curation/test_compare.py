"""Comparison of sources: diversity and quality, and the page with its tables."""

import csv
import json

import numpy as np
import pytest
from export_of_noise import export

from rlgen.core.errors import UserError
from rlgen.core.stats import SuccessRate, bootstrap_mean
from rlgen.curation.compare import EpisodeSource, read_source, with_unique_names, write_quality
from rlgen.data.metrics.diversity import action_distribution, path_distances, path_diversity, resample, silhouette
from rlgen.data.metrics.quality import Trace, traces_quality
from rlgen.report.quality_plots import quality_by_group


def line(offset, steps=20):
    """A straight path along x, `offset` metres beside the axis."""
    return np.stack([np.linspace(0, 1, steps), np.full(steps, offset), np.zeros(steps)], axis=1)


def trace(offset, task="push", steps=20, action=0.0):
    actions = np.full((steps, 7), action)
    actions[:, 6] = 1
    return Trace(actions, line(offset, steps), task)


def test_distances_do_not_depend_on_speed():
    paths = np.stack([resample(line(0.0, 9), 50), resample(line(0.2, 77), 50)])
    np.testing.assert_allclose(path_distances(paths), [[0, 0.2], [0.2, 0]], atol=1e-12)


def test_diversity_by_hand():
    """Offsets 0, 0, 3 cm: each episode's mean distance to the other two is 1.5, 1.5 and 3 cm."""
    found = path_diversity([line(0), line(0), line(0.03)], ["push"] * 3)
    assert found.distance == bootstrap_mean([0.015, 0.015, 0.03])


def test_tasks_are_not_compared_with_each_other():
    found = path_diversity([line(0), line(0.01), line(5), line(5.01)], ["push", "push", "pull", "pull"])
    assert found.distance.mean == pytest.approx(0.01)
    alone = path_diversity([line(0), line(1)], ["push", "pull"])
    assert alone.distance.mean is None and alone.ways is None


@pytest.mark.parametrize(("centers", "ways"), [((0.0,), 1), ((0.0, 0.3), 2), ((0.0, 0.3, 0.9), 3)])
def test_ways_are_counted(centers, ways):
    noise = np.random.default_rng(0).normal(0, 0.002, (len(centers), 8))
    paths = [line(center + jitter) for center, row in zip(centers, noise, strict=True) for jitter in row]
    shaken = [path + np.random.default_rng(i).normal(0, 0.004, path.shape) for i, path in enumerate(paths)]
    found = path_diversity(shaken, ["push"] * len(paths))
    assert found.ways == ways


def test_a_single_path_is_one_way():
    assert path_diversity([line(0)] * 6, ["push"] * 6).ways == 1.0


def test_silhouette_by_hand():
    distances = np.abs(np.subtract.outer([0.0, 1.0, 10.0], [0.0, 1.0, 10.0]))
    expected = np.mean([(10 - 1) / 10, (9 - 1) / 9, 0.0])
    assert silhouette(distances, np.array([0, 0, 1])) == pytest.approx(expected)


def test_differences_between_tasks_do_not_add_to_the_standard_deviation():
    quality = traces_quality([trace(0, "push", action=0.5), trace(0, "pull", action=-0.5)])
    np.testing.assert_allclose(quality.action_distribution.std[:, :6], 0, atol=1e-12)
    assert action_distribution([trace(0, action=0.5).actions, trace(0, action=-0.5).actions]).std[0, 0] == 0.5


@pytest.fixture
def sources(tmp_path):
    one = EpisodeSource("ours", tmp_path, [trace(i / 100, steps=20 + i) for i in range(4)], ["libero_goal"] * 4)
    two = EpisodeSource(
        "<b>theirs</b>",
        tmp_path,
        [trace(0, "push", 40), trace(0, "push", 60), trace(0, "pull", 30)],
        ["libero_goal", "libero_goal", "libero_10"],
        SuccessRate(2, 3),
    )
    return [one, two]


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_figure_has_a_table_and_the_page_is_self_contained(tmp_path, sources):
    write_quality(sources[1:], tmp_path / "out")
    page = write_quality(sources, tmp_path / "out")  # in place of its own
    figures = ("figure6", "figure7", "totals", "paths")
    assert {path.name for path in page.parent.iterdir()} == {
        "quality.html", "quality.json", "episodes.csv",
        *(f"{name}.{ending}" for name in figures for ending in ("png", "csv")),
    }  # fmt: skip
    text = page.read_text()
    assert "<b>theirs</b>" not in text and "&lt;b&gt;theirs" in text
    assert text.count("data:image/png;base64,") == 4 and "://" not in text
    assert "2/3 = 67 %" in text
    by_group = {(row["group"], row["source"]): row for row in rows(page.parent / "figure6.csv")}
    assert set(by_group) == {
        ("libero_goal", "ours"), ("libero_goal", "<b>theirs</b>"), ("libero_10", "<b>theirs</b>")
    }  # fmt: skip
    assert float(by_group["libero_goal", "<b>theirs</b>"]["length_mean"]) == 50
    assert float(by_group["libero_goal", "ours"]["path_distance_mean"]) == pytest.approx(
        np.mean([2, 4 / 3, 4 / 3, 2]) / 100
    )
    episodes = rows(page.parent / "episodes.csv")
    assert [row["length"] for row in episodes] == ["20", "21", "22", "23", "40", "60", "30"]
    assert {row["source"] for row in rows(page.parent / "figure7.csv")} == {"ours", "<b>theirs</b>"}
    value = json.loads((page.parent / "quality.json").read_text())
    assert value["ours"]["length"]["mean"] == 21.5 and value["ours"]["replay"] is None
    assert value["<b>theirs</b>"]["replay"]["successes"] == 2


@pytest.mark.parametrize("name", ["quality.html", "quality.json", "figure6.png", "episodes.csv"])
def test_files_of_somebody_are_not_replaced(tmp_path, sources, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text('{"mine": {"path": "x"}}')
    with pytest.raises(UserError, match=f"{name} is there and is not part of a comparison that rlgen wrote"):
        write_quality(sources, out)
    assert (out / name).read_text() == '{"mine": {"path": "x"}}' and len(list(out.iterdir())) == 1


def test_the_task_of_the_figures_can_be_chosen(tmp_path, sources):
    page = write_quality(sources, tmp_path, task="pull", axis="gripper")
    [source] = {row["source"] for row in rows(page.parent / "figure7.csv")}
    assert source == "<b>theirs</b>"
    with pytest.raises(UserError, match="no source has episodes of 'fly'"):
        write_quality(sources, tmp_path, task="fly")
    with pytest.raises(UserError, match="axis 'w': expected one of x, y"):
        write_quality(sources, tmp_path, axis="w")


def test_bars_have_their_intervals(sources):
    plot = quality_by_group({"libero_goal": {source.name: source.quality("libero_goal") for source in sources}})
    left, right = plot.figure.axes
    assert [bar.get_height() for bar in left.patches] == [21.5, 50]
    ends = [segment.get_segments()[0][:, 1] for segment in left.collections]
    expected = bootstrap_mean([40, 60])
    np.testing.assert_allclose(ends[1], [expected.low, expected.high])
    assert len({bar.get_facecolor() for bar in right.patches}) == 2


@pytest.mark.parametrize("kind", ["rlds", "array_record", "lerobot", "hdf5"])
def test_datasets_of_every_format_have_the_same_quality(tmp_path, kind):
    folder = export(kind, tmp_path)
    found = read_source(folder, lambda task: pytest.fail("no scene is needed"))
    expected = read_source(export("rlds", tmp_path / "other"), lambda task: None)
    assert found.quality().to_json() == expected.quality().to_json()
    assert found.replay is None and set(found.suites) == {"libero_object"}


def test_equal_names_are_made_unique(sources):
    twice = with_unique_names([sources[0], sources[0], sources[1]])
    assert [source.name for source in twice] == ["ours (1)", "ours (2)", "<b>theirs</b>"]


def test_a_source_without_episodes_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no episodes in it"):
        read_source(tmp_path, lambda task: None)
    with pytest.raises(UserError, match="no such file"):
        read_source(tmp_path / "none.hdf5", lambda task: None)
