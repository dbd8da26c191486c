"""The estimate of what tasks would cost: closed forms, its range, and where a user sees it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from rlgen.configs.presets import expert_presets
from rlgen.core.errors import UserError
from rlgen.fleet.ledger import Ledger
from rlgen.fleet.plan import make_plan, store_plan, task_folder
from rlgen.fleet.status import estimate_lines
from rlgen.libero.tasks.suites import find_tasks
from rlgen.report.fleet_cost import (
    DeviceRate,
    MeasuredTask,
    clock_hours,
    core_hours,
    core_seconds,
    device_hours,
    makespan,
)

pytestmark = pytest.mark.unit
ONE = MeasuredTask(200, {"demos": 200.0, "bc": 600.0, "ppo": 1000.0, "collect": 400.0}, control_steps=10_000)


def test_all_but_cloning_goes_by_the_longest_episode():
    assert core_seconds(ONE, 200) == 2200.0 and core_seconds(ONE, 400) == 600.0 + 2 * 1600.0
    assert core_seconds(ONE, 400, only="ppo") == 2000.0 and core_seconds(ONE, 400, only="bc") == 600.0
    total = core_hours([ONE], [200, 400])
    assert total.mean == pytest.approx(6000 / 3600) and total.low is None and total.high is None


def test_the_range_holds_the_sum_as_often_as_it_says():
    draw, held = np.random.default_rng(0), 0
    for _ in range(1000):
        costs = draw.normal(3600.0, 900.0, 45)
        measured = [MeasuredTask(300, {"ppo": cost}) for cost in costs[:5]]
        found = core_hours(measured, [300] * 40)
        held += found.low <= costs[5:].sum() / 3600 <= found.high
    assert 930 <= held <= 970


def test_more_tasks_make_the_range_narrower():
    pair = [replace(ONE, core_seconds={"ppo": seconds}) for seconds in (1000.0, 2000.0)]
    two, six = (core_hours(pair * count, [200] * 10) for count in (1, 3))
    assert two.mean == pytest.approx(six.mean) == pytest.approx(10 * 1500 / 3600)
    assert two.high - two.low > 4 * (six.high - six.low) and two.low == 0.0


@pytest.mark.parametrize(
    ("jobs", "workers", "end"),
    [((5, 4, 3), 1, 12), ((5, 4, 3), 2, 7), ((5, 4, 3), 9, 5), ((1, 1, 1, 3), 2, 3)],
)
def test_the_longest_job_is_taken_first(jobs, workers, end):
    assert makespan(jobs, workers) == end


def test_more_cores_than_jobs_take_as_long_as_the_costliest():
    measured = [ONE, replace(ONE, core_seconds={"ppo": 6600.0})]
    two, many = (clock_hours(measured, [200] * 10, cores=cores, threads=1) for cores in (2, 64))
    assert two.mean == pytest.approx(5 * 4400 / 3600) and many.mean == pytest.approx(4400 / 3600)
    assert many.high >= 6600 / 3600 and many.low < many.mean < many.high
    assert clock_hours([ONE], [200] * 10, cores=64, threads=32).mean == pytest.approx(5 * 2200 / 32 / 3600)


def test_on_a_device_the_steps_of_ppo_take_what_they_were_measured_to_take():
    rate = DeviceRate("a GPU and 16 cores", 16, 1000.0)
    assert device_hours([ONE], [200, 200], rate).mean == pytest.approx(2 * (10.0 + 1200 / 16) / 3600)
    # One that was tried several times has no steps of its own: they are as many for a core-second.
    other = replace(ONE, core_seconds={"ppo": 3000.0}, control_steps=None)
    assert device_hours([ONE, other], [200], rate).mean == pytest.approx((85.0 + 30.0) / 2 / 3600)
    assert device_hours([other], [200], rate) is None


@pytest.fixture
def root(tmp_path):
    """A fleet of two tasks that have ended, one of them given up, and of one that waits."""
    tasks = find_tasks("libero_goal/7", "libero_goal/2", "libero_spatial/5")
    assets = {"kind": "folder", "path": str(tmp_path), "label": "x"}
    config = replace(expert_presets()["state"], workers=1)
    plan = make_plan(tasks, config, source="diffusion", tries=1, assets=assets)
    store_plan(tmp_path / "fleet", plan)
    done, failed = (Ledger(task_folder(tmp_path / "fleet", task) / "ledger.jsonl", task=task.id) for task in tasks[:2])
    for stage, seconds in (("demos", 60.0), ("bc", 300.0), ("ppo", 600.0), ("collect", 100.0)):
        done.append("stage", **{"try": 0}, stage=stage, core_seconds=seconds)
    done.append("done", **{"try": 0}, stage="", figures={"iterations": 10}, core_seconds=40.0)
    failed.append("failed", **{"try": 0}, stage="demos", reason="no grasp", core_seconds=1100.0)
    return tmp_path / "fleet"


def device_json(folder, **parts):
    part = {"device": "NVIDIA H200", "host": {"cores": 16}}
    figures = {"groups 1": {"environments": 200, "control_steps_per_s": {"median": 8000.0}}, "first iteration": {}}
    path = folder / "device.json"
    found = {name: {**part, "figures": figures if measured else {}} for name, measured in parts.items()}
    path.write_text(json.dumps({"dry_run": False, "parts": found}))
    return path


def test_what_is_not_in_the_fleet_is_estimated_by_what_has_ended(root, tmp_path):
    device = device_json(tmp_path, **{"ppo-state": True, "ppo-state-gpu": False, "ppo-vision": True})
    lines = estimate_lines(root, ["libero_goal"], device)
    # Both tasks have cost 1100 core-seconds, so that the range is a point; eight of the suite's ten have not ended.
    assert lines[0].startswith("8 tasks would cost 2.44 (2.44 to 2.44) core-hours, estimated from 2 tasks")
    assert [line.split(":")[0] for line in lines[1:]] == [
        "  on 2 cores",
        "  on 64 cores",
        "  on NVIDIA H200 and 16 cores, environments on its cores",
    ]
    assert "1.22 (" in lines[1] and lines[2].startswith("  on 64 cores: 0.306 (")
    plan_steps = 20 * -(-300 // 4) * 4 * 10
    assert find_tasks("libero_goal/7")[0].horizon == 300
    # The task that was given up had no PPO.
    hours = 8 * ((plan_steps / 8000 + 500 / 16) + 1100 / 16) / 2 / 3600
    assert float(lines[3].split(": ")[1].split()[0]) == pytest.approx(hours, rel=0.01)
    assert len(estimate_lines(root, ["libero_goal"], device_json(tmp_path, **{"ppo-state-gpu": True}))) == 4
    assert len(estimate_lines(root, ["all"])) == 3


def test_what_cannot_be_estimated_is_one_line(root, tmp_path):
    with pytest.raises(UserError, match="all of these have ended"):
        estimate_lines(root, ["libero_goal/7"])
    with pytest.raises(UserError, match="bench device"):
        estimate_lines(root, ["all"], tmp_path / "none.json")
    dry = device_json(tmp_path, **{"ppo-state": True})
    dry.write_text(dry.read_text().replace('"dry_run": false', '"dry_run": true'))
    with pytest.raises(UserError, match="dry run mean nothing"):
        estimate_lines(root, ["all"], dry)
    (task_folder(root, find_tasks("libero_goal/7")[0]) / "ledger.jsonl").unlink()
    with pytest.raises(UserError, match="no task is done"):
        estimate_lines(root, ["all"])
