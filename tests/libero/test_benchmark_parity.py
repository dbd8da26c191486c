"""Tasks against the benchmark's own environment: one control step, twenty, and the goal. All 130 are `slow`."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from once import once
from parity import check_goals_and_steps, check_observations
from sampling import sample, sampled, selected

from rlgen.libero.physics import kernel
from rlgen.libero.scenes.bundles import build_scene_bundles
from rlgen.libero.scenes.goals import CONTAIN, JOINT, STACKED, UNDER
from rlgen.libero.scenes.scene import Scene, load_scene_bundle
from rlgen.libero.tasks.suites import Task, all_tasks


@pytest.fixture(scope="module")
def bundles(request, real_assets, cache) -> dict[Task, Path]:
    """The bundles of the selected tasks from the benchmark's own assets."""
    tasks = sorted(selected(request, sample()), key=all_tasks().index)
    return dict(zip(tasks, build_scene_bundles(tasks, real_assets, cache, workers=workers(tasks)), strict=True))


def workers(tasks: list[Task]) -> int:
    """Returns how many processes are worth their start."""
    return min(os.cpu_count() or 1, 1 + len(tasks) // 20)


@pytest.fixture(scope="module")
def official(bundles, real_assets, together) -> Path:
    """What the benchmark's environment does in the selected tasks, by `record_official.py`."""
    program, tasks = Path(__file__).with_name("record_official.py"), list(bundles)

    def record(out: Path) -> None:
        command = [sys.executable, str(program), "--assets", str(real_assets.path), "--out", str(out)]
        names, count = [f"{task.suite}/{task.index}" for task in tasks], workers(tasks)
        running = [
            subprocess.Popen([*command, *names[worker::count]], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for worker in range(count)
        ]
        for process in running:
            _, errors = process.communicate()
            assert process.returncode == 0, errors.decode()[-2000:]

    return once(together, "official", record)


@pytest.fixture
def pair(task, bundles, official) -> tuple[Scene, dict[str, np.ndarray]]:
    kernel.link_mujoco()
    with np.load(official / f"{task.suite}-{task.index}.npz") as arrays:
        return load_scene_bundle(bundles[task]), dict(arrays)


@pytest.mark.parametrize("task", sampled())
def test_a_task_is_the_benchmarks(pair):
    check_goals_and_steps(*pair)


@pytest.mark.parametrize("task", sampled())
def test_observations_are_the_benchmarks(pair):
    """Every name and number but the images, after each of twenty steps."""
    check_observations(*pair)


def test_the_perturbed_states_lie_on_both_sides_of_every_kind_of_goal(bundles, official):
    """Otherwise the comparison above would say nothing."""
    outcomes: dict[int, list[bool]] = {CONTAIN: [], UNDER: [], STACKED: [], JOINT: []}
    for task, folder in bundles.items():
        kinds = set(load_scene_bundle(folder).goal.kinds.tolist())
        if len(kinds) == 1:
            with np.load(official / f"{task.suite}-{task.index}.npz") as arrays:
                outcomes[kinds.pop()] += arrays["perturbed_success"].tolist()
    for kind, held in outcomes.items():
        assert 0.05 < np.mean(held) < 0.95, (kind, np.mean(held))
