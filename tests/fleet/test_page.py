"""The table and the page of a fleet: what the ledgers say, in numbers that are there."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from rlgen.configs.presets import expert_presets
from rlgen.core.errors import UserError
from rlgen.core.stats import SuccessRate
from rlgen.fleet.ledger import Ledger, TaskState
from rlgen.fleet.plan import make_plan, store_plan, task_folder
from rlgen.fleet.status import fleet_row, show
from rlgen.libero.tasks.suites import find_tasks
from rlgen.report.fleet_page import FleetRow, cells, hours_left, summary

TASKS = find_tasks("libero_goal/7", "libero_goal/2", "libero_spatial/5")
COST = {"core_seconds": 600.0, "device_seconds": 0.0, "wall_seconds": 700.0}


def score(successes: int, length: float | None, jerk: float | None) -> dict:
    return {**SuccessRate(successes, 50).to_json(), "length": length, "mean_squared_jerk": jerk, "noops": 2.5}


FIGURES = {
    "clone": score(47, 66.8, 112.0),
    "expert": score(50, 55.4, 82.0),
    "change": {"length": {"difference": -11.4, "low": -13.0, "high": -9.6}, "mean_squared_jerk": None},
    "noise": {"first": 0.2, "last": None},
    "collected": {"episodes": 50, "tried": 51, "mean_length": 55.0},
}


@pytest.fixture
def root(tmp_path) -> Path:
    """A fleet of three tasks: one done after a failure, one given up, one that waits."""
    assets = {"kind": "folder", "path": str(tmp_path), "label": "assets of <somebody>"}
    plan = make_plan(TASKS, expert_presets()["tiny"], source="diffusion", tries=2, assets=assets)
    folder = tmp_path / "fleet"
    store_plan(folder, plan)
    done, failed = (Ledger(task_folder(folder, task) / "ledger.jsonl", task=task.id) for task in (TASKS[0], TASKS[1]))
    done.append("failed", **{"try": 0}, stage="ppo", reason="<b>none</b> succeeded", **COST)
    done.append("done", **{"try": 1}, stage="", figures=FIGURES, **COST)
    failed.append("failed", **{"try": 0}, stage="demos", reason="no grasp", **COST)
    failed.append("failed", **{"try": 1}, stage="demos", reason="no grasp either", **COST)
    clip = task_folder(folder, TASKS[0]) / "clips" / "success.gif"
    clip.parent.mkdir()
    Image.new("RGB", (8, 8)).save(clip)
    return folder


def test_cells_show_both_actors_with_intervals():
    state = TaskState(TASKS[0], "done", 1, figures=FIGURES, costs=COST)
    row = fleet_row(state, Path("none"))
    assert cells(row) == [
        *("libero_goal/7", "done, try 2", "47/50 (84-98 %)", "50/50 (93-100 %)", "20 %"),
        *("66.8 to 55.4", "112 to 82.0", "2.50 to 2.50", "10 min 00 s"),
    ]
    assert row.changes == {"length": (-11.4, -13.0, -9.6)} and row.episodes == 50


def test_what_was_not_measured_is_a_dash():
    row = fleet_row(TaskState(TASKS[0], "waiting"), Path("none"))
    assert cells(row)[1] == "waiting" and set(cells(row)[2:]) == {"\u2013"}
    scripted = {"scripted": score(50, 60.0, 90.0)}
    row = fleet_row(TaskState(TASKS[0], "done", figures=scripted), Path("none"))
    assert cells(row)[2:4] == ["\u2013", "50/50 (93-100 %)"] and cells(row)[5] == "60.0"


def test_the_summary_adds_up_what_all_have_cost():
    rows = [FleetRow("a", "", "done", core_seconds=1200.0), FleetRow("b", "", "failed", core_seconds=2400.0)]
    assert summary(rows) == "2 tasks: 1 done, 1 failed; 1.00 core-hours, 20.0 core-minutes a finished task"
    rows[0] = FleetRow("a", "", "done", core_seconds=1200.0, device_seconds=360.0)
    assert "1.00 core-hours, 0.10 device-hours, 20.0" in summary(rows)


def test_what_is_left_is_estimated_from_what_has_ended_by_the_length_of_episodes():
    ended = [
        FleetRow("a", "", "done", horizon=200, core_seconds=1200.0),
        FleetRow("b", "", "failed", horizon=300, core_seconds=3800.0),
    ]
    left = [FleetRow("c", "", "waiting", horizon=500), FleetRow("d", "", "running", horizon=200, core_seconds=500.0)]
    # 10 core-seconds for each control step of a horizon.
    assert hours_left(ended + left) == pytest.approx((5000 + 1500) / 3600)
    assert hours_left(left) is None and hours_left(ended[1:] + left) is None and hours_left(ended) == 0.0
    assert summary(ended + left).endswith("; about 1.8 core-hours to go")


def test_the_table_and_the_page_show_every_task_with_its_reason(root):
    out = io.StringIO()
    show(root, Console(file=out, width=200), watch=False)
    table, page = out.getvalue(), (root / "index.html").read_text()
    for text in ("libero_goal/7", "66.8 to 55.4", "no grasp either", "waiting"):
        assert text in table, text
    assert "3 tasks: 1 waiting, 1 failed, 1 done" in table
    assert "&lt;b&gt;none&lt;/b&gt; succeeded" in page and "<b>none" not in page and "&lt;somebody&gt;" in page
    assert "An earlier try failed" in page and "Given up: no grasp either" in page
    assert page.count("data:image/gif;base64,") == 1 and "-11.4 (-13.0 to -9.60)" in page
    assert "http://" not in page and "https://" not in page


def test_watching_ends_when_all_jobs_have_ended(root):
    waited = []

    def finish(seconds: float) -> None:
        waited.append(seconds)
        Ledger(task_folder(root, TASKS[2]) / "ledger.jsonl", task=TASKS[2].id).append(
            "done", **{"try": 0}, stage="", figures=FIGURES
        )

    out = io.StringIO()
    show(root, Console(file=out, width=200), watch=True, sleep=finish)
    assert len(waited) == 1 and "3 tasks: 2 done, 1 failed" in out.getvalue()


def test_a_page_of_somebody_stays(root):
    (root / "index.html").write_text("<h1>mine</h1>")
    with pytest.raises(UserError, match="not a page that rlgen wrote"):
        show(root, Console(file=io.StringIO()), watch=False)
    assert (root / "index.html").read_text() == "<h1>mine</h1>"
    assert json.loads((root / "fleet.json").read_text())["tries"] == 2
