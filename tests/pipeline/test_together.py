"""PPO of three tasks in one process is that of three runs, though one ends early and the process is interrupted."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import jax
import numpy as np
import pytest
from pipeline.test_expert import CONFIG, _episode

from rlgen.data.formats.hdf5.writer import write_demos
from rlgen.data.metrics.score import make_score
from rlgen.fleet import figures
from rlgen.fleet import plan as plans
from rlgen.fleet.ledger import read_ledger
from rlgen.fleet.plan import make_plan, run_folder, store_plan, task_folder
from rlgen.fleet.together import work
from rlgen.libero.envs.observations import Observer
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.demo_info import demo_file_info
from rlgen.libero.tasks.suites import find_tasks
from rlgen.pipeline import ppo
from rlgen.pipeline.context import Context
from rlgen.rl import population
from rlgen.training.metrics import read_metrics
from rlgen.training.run import create_run, open_run

# Of one atom each, with other objects, horizons and lengths of the state.
TASKS = find_tasks("libero_spatial/0", "libero_object/6", "libero_goal/7")
ITERATIONS = 3


@pytest.fixture
def root_of(tmp_path, monkeypatch, placeholder_assets, cache):
    """Makes fleets with demonstrations that end with PPO; the first task is solved from the first iteration on."""

    def measure(context, *_, **__):
        solved = context.run.config.task == TASKS[0].id
        return make_score(np.array([[1.0, 50.0, 9.0, 0.0] if solved else [0.0] * 4] * 20))

    monkeypatch.setattr(ppo, "measure", measure)
    monkeypatch.setitem(plans._STAGES, "diffusion", ("demos", "bc", "ppo"))
    monkeypatch.setattr(figures, "run_figures", lambda context: {})
    monkeypatch.setattr(figures, "write_clips", lambda context, folder, figures: None)
    assets = {**asdict(placeholder_assets), "path": str(placeholder_assets.path)}
    config = replace(CONFIG, workers=1, bc=replace(CONFIG.bc, stop_success=None))
    config = replace(config, ppo=replace(config.ppo, iterations=ITERATIONS, min_iterations=1))

    def make(name: str, together: int, like: Path | None = None) -> Path:
        root = tmp_path / name
        options = {"source": "diffusion", "tries": 1, "assets": assets, "fit_chunks": False}
        plan = make_plan(TASKS, config, **options, together=together)
        store_plan(root, plan)
        for task in TASKS:
            folder = run_folder(root, task, 0)
            if like is not None:
                shutil.copytree(run_folder(like, task, 0), folder, ignore=shutil.ignore_patterns("ppo"))
                continue
            run = create_run(folder, plan.run_config(task, 0), assets)
            scene, random = load_scene(task, placeholder_assets, cache), np.random.default_rng(0)
            episodes = [_episode(scene, random, number) for number in range(2)]
            robots = [Observer(scene)(episode.states).robot for episode in episodes]
            write_demos(run.stage_folder("demos") / "demos.hdf5", episodes, robots, demo_file_info(scene))
            run.finish("demos", {})
        return root

    return make


def test_three_tasks_in_two_places_are_three_runs(root_of, cache, monkeypatch):
    alone = root_of("alone", 1)
    work(alone, TASKS, cache, print)
    together = root_of("together", 2, like=alone)
    iterate, groups = population.iterate_population, []

    def watched(experts, *rest, **options):
        groups.append(len(experts))
        if len(groups) == 2:
            raise KeyboardInterrupt
        return iterate(experts, *rest, **options)

    monkeypatch.setattr(population, "iterate_population", watched)
    with pytest.raises(KeyboardInterrupt):
        work(together, TASKS, cache, print)
    work(together, TASKS, cache, print)
    # The first task ends after an iteration, in which the third takes its place; the last iteration is one's own.
    assert groups == [2, 2, 2, 2]
    for task, iterations in zip(TASKS, (1, ITERATIONS, ITERATIONS), strict=True):
        runs = [open_run(run_folder(root, task, 0)) for root in (alone, together)]
        results = [run.result("ppo") for run in runs]
        assert results[0] == results[1] and results[0]["iterations"] == iterations
        assert results[0]["ended"] == ("target" if task == TASKS[0] else "iterations")
        params = [ppo.load_policy(Context(run, cache))[1] for run in runs]
        for ours, theirs in zip(*map(jax.tree.leaves, params), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        first, second = (read_metrics(run.folder / "ppo/metrics.jsonl") for run in runs)
        assert [line["step"] for line in second] == list(range(iterations + 1))
        for one, other in zip(first, second, strict=True):
            assert other.keys() - one.keys() <= {"experts"}
            for name, value in one.items():
                if name == "test":
                    assert other[name] == value
                elif not name.startswith("seconds"):
                    assert other[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    lines = [line for task in TASKS for line in read_ledger(task_folder(together, task) / "ledger.jsonl")]
    assert {line["why"] for line in lines if line["kind"] == "stopped"} == {"interrupted"}
    assert not any(line["kind"] == "failed" for line in lines)
    assert {line["stage"]: line.get("together", 1) for line in lines if line["kind"] == "stage"} == {"ppo": 2}
