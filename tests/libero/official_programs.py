"""The common part of the programs that record the benchmark's own environment."""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rlgen.libero.scenes.build import prepare
from rlgen.libero.scenes.build_reset_states import fixture_poses, fixture_samplers
from rlgen.libero.tasks.suites import Task, find_task


def record_tasks(record: Callable[[Task], dict[str, np.ndarray]]) -> None:
    """Writes `<suite>-<index>.npz` for every task of the command line: `--assets DIR --out DIR TASK...`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--assets", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as configuration:
        prepare(arguments.assets, Path(configuration))
        for name in arguments.tasks:
            task = find_task(name)
            np.savez(arguments.out / f"{task.suite}-{task.index}.npz", **record(task))


def drawn_fixtures(env) -> np.ndarray:
    """Returns where the fixtures of the benchmark's `ControlEnv` stand, in the order of `Scene.fixture_samplers`."""
    poses = fixture_poses(env)
    return np.array([np.concatenate(poses[sampler["body"]]) for sampler in fixture_samplers(env)]).reshape(-1, 7)
