"""The plan: what a run gets from it, what may change in a folder in use, and what is refused by name."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rlgen.configs.presets import expert_presets
from rlgen.core.errors import UserError
from rlgen.core.ownership import check_contents, check_replaceable
from rlgen.fleet.plan import FLEET, SEEDS_APART, SOURCES, make_plan, open_plan, run_folder, store_plan, tasks_of
from rlgen.libero.tasks.suites import find_tasks

ASSETS = {"kind": "folder", "path": "/assets", "label": "x"}
STATE = expert_presets()["state"]


def plan_of(*tasks: str, source="diffusion", tries=3, config=STATE, **options):
    return make_plan(find_tasks(*tasks), config, source=source, tries=tries, assets=ASSETS, **options)


@pytest.mark.parametrize("source", SOURCES)
def test_a_stored_plan_is_read_as_it_was(tmp_path, source):
    plan = plan_of("libero_spatial", source=source)
    assert store_plan(tmp_path / "fleet", plan) == []
    assert open_plan(tmp_path / "fleet") == plan
    assert store_plan(tmp_path / "fleet", plan) == []


def test_tasks_stand_in_the_order_of_the_benchmark_and_once():
    plan = plan_of("libero_goal/7", "libero_spatial/5", "libero_goal/2", "libero_goal/7")
    assert [(task.suite, task.index) for task in tasks_of(plan)] == [
        ("libero_spatial", 5),
        ("libero_goal", 2),
        ("libero_goal", 7),
    ]


def test_every_try_has_a_seed_of_its_own_and_every_task_its_chunks():
    plan = plan_of("libero_spatial/5", "libero_10/0", config=replace(STATE, seed=2))
    short, long = tasks_of(plan)
    assert [plan.run_config(short, number).seed for number in range(3)] == [2, 2 + SEEDS_APART, 2 + 2 * SEEDS_APART]
    assert (plan.run_config(short, 0).ppo.chunks, plan.run_config(long, 0).ppo.chunks) == (55, 130)
    fixed = plan_of("libero_10/0", fit_chunks=False)
    assert fixed.run_config(long, 0).ppo.chunks == STATE.ppo.chunks
    assert run_folder(Path("f"), short, 1) == Path("f/tasks/libero_spatial-05/1")


def test_the_source_decides_on_algorithm_stages_and_whose_episodes_are_collected():
    plans = {source: plan_of("libero_goal/7", source=source) for source in SOURCES}
    assert plans["gaussian"].config.policy.algorithm == "gaussian"
    assert plans["diffusion"].config.policy.algorithm == "diffusion"
    assert plans["scripted"].stages == ("demos",)
    assert plans["scripted"].config.demos.episodes == STATE.collect.episodes
    chosen = plan_of("libero_goal/7", source="scripted", demonstrations=40, clean=True)
    assert chosen.config.demos.episodes == 40
    # Experts are cloned from clean demonstrations; what they are compared with is human-like, unless asked for.
    assert STATE.demos.clean and plans["diffusion"].config.demos.clean and chosen.config.demos.clean
    assert not plans["scripted"].config.demos.clean
    assert plans["clone"].stages == ("demos", "bc", "collect") and plans["clone"].config.collect.source == "clone"
    for source in ("diffusion", "gaussian"):
        assert plans[source].stages == ("demos", "bc", "ppo", "collect")
        assert plans[source].config.collect.source == "ppo"


def test_tasks_may_be_added_and_tries_changed(tmp_path):
    store_plan(tmp_path / "fleet", plan_of("libero_goal/7", tries=1))
    more = plan_of("libero_goal/7", "libero_goal/2", tries=5)
    assert store_plan(tmp_path / "fleet", more) == ["2 tasks", "tries (1 -> 5)"]
    assert open_plan(tmp_path / "fleet") == more


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (plan_of("libero_goal/7", config=replace(STATE, seed=1)), r"config\.seed \(0 -> 1\)"),
        (plan_of("libero_goal/7", config=replace(STATE, workers=1)), r"config\.workers \(2 -> 1\)"),
        (plan_of("libero_goal/7", source="scripted"), r"source \(diffusion -> scripted\)"),
        (plan_of("libero_goal/2"), "tasks without libero_goal/turn_on_the_stove"),
    ],
)
def test_another_plan_for_a_folder_in_use_is_refused_by_name(tmp_path, other, words):
    store_plan(tmp_path / "fleet", plan_of("libero_goal/7"))
    with pytest.raises(UserError, match=words) as caught:
        store_plan(tmp_path / "fleet", other)
    assert "\n" not in str(caught.value) and "--overwrite" in str(caught.value)
    assert open_plan(tmp_path / "fleet") == plan_of("libero_goal/7")


def test_a_folder_of_somebody_and_a_damaged_plan_are_named(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("x")
    with pytest.raises(UserError, match="holds no fleet"):
        store_plan(tmp_path / "thesis", plan_of("libero_goal/7"))
    store_plan(tmp_path / "fleet", plan_of("libero_goal/7"))
    path = tmp_path / "fleet" / "fleet.json"
    record = json.loads(path.read_text())
    for damage in ({"format": 9}, {"tries": 0}, {"source": "x"}, {"tasks": []}, {"config": 1}, {"tasks": 3}):
        path.write_text(json.dumps(record | damage))
        with pytest.raises(UserError, match="cannot be read") as caught:
            open_plan(tmp_path / "fleet")
        assert "\n" not in str(caught.value)


def test_what_a_fleet_leaves_may_be_removed_and_nothing_else(tmp_path):
    root = tmp_path / "fleet"
    store_plan(root, plan_of("libero_goal/7"))
    left = (
        *(
            "index.html",
            "launch/array.sh",
            "launch/job-3.log",
            "datasets/made.json",
            "datasets/.libero_goal.checked.jsonl",
        ),
        *(f"tasks/libero_goal-07/{name}" for name in ("ledger.jsonl", "running.json", "log.txt", "clips/success.gif")),
        *(f"tasks/libero_goal-07/0/{name}" for name in ("run.json", "demos/demos.hdf5", "ppo/checkpoints/3/state/d/x")),
        *(f"tasks/libero_goal-07/1/{name}" for name in ("collect/clone/00001.npz", "collect/episodes/00001.npz")),
        *(f"datasets/libero_goal_no_noops/1.0.0/{name}" for name in ("export.json", "x-train.tfrecord-00000-of-00004")),
    )
    for name in left:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    check_replaceable(root, FLEET)
    (root / "tasks" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt is not part of a fleet"):
        check_contents(root, FLEET)
