"""Success of exported episodes' actions in the benchmark's own environment.

Command:  uv run python experiments/replay_exported.py DATASET... --assets DIR [-n 5] [--json FILE]
Cost:     ten seconds of processor time an episode.
Expected: at least 98 % of the episodes succeed.

DATASET is what `rlgen data export` made, of any format. The actions are read back from it, as any trainer would, and
the initial states are those that lie beside them; nothing else of the recording is used. Each episode gets a
new environment, settles for ten control steps as every evaluation does, and plays its actions; it succeeds if the
benchmark says so at any step. A program of its own, because importing the benchmark edits the environment and draws
from NumPy's global generator.
"""

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.files import write_json
from rlgen.core.process import worker_pool
from rlgen.core.stats import SuccessRate
from rlgen.data.dataset import dataset_folders, open_dataset
from rlgen.data.episode import DatasetEpisode
from rlgen.data.index import read_initial_states
from rlgen.libero.envs.environment import SETTLE_ACTION, SETTLE_STEPS
from rlgen.libero.scenes.build import official_environment, prepare
from rlgen.libero.tasks.suites import find_task


def main() -> None:
    """Replays, counts, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("-n", type=int, dest="count", help="episodes of each task; all by default")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    folders = [folder for path in arguments.datasets for folder in dataset_folders(path)]
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        begin = (_begin, str(arguments.assets.resolve()), Path(name))
        with worker_pool(arguments.workers, *begin) as pool:
            chosen = [pair for folder in folders for pair in choose(folder, arguments.count)]
            replayed = [(episode.file_path, pool.submit(succeeds, episode, state)) for episode, state in chosen]
            for path, reached in replayed:
                row = rows.setdefault(task_of(path), {"successes": 0, "trials": 0, "failed": []})
                row["successes"] += reached.result()
                row["trials"] += 1
                row["failed"] += [] if reached.result() else [path]
                print(task_of(path), row, flush=True)
    if not rows:
        raise UserError(f"{', '.join(map(str, arguments.datasets))}: no dataset there; `rlgen data export` makes one")
    total = SuccessRate(sum(row["successes"] for row in rows.values()), sum(row["trials"] for row in rows.values()))
    print(total)
    if arguments.json is not None:
        write_json(arguments.json, {"mujoco": mujoco.__version__, "total": total.to_json(), "tasks": rows})


def choose(folder: Path, count: int | None) -> Iterator[tuple[DatasetEpisode, np.ndarray]]:
    """Yields the first episodes of each task of a dataset, with their initial states."""
    taken: Counter[str] = Counter()
    episodes = open_dataset(folder)
    for episode, state in zip(episodes, read_initial_states(folder, len(episodes)), strict=True):
        if state is None:
            raise UserError(f"{folder}: no initial state of {episode.file_path}; export it with this project")
        task = task_of(episode.file_path)
        taken[task] += 1
        if count is None or taken[task] <= count:
            yield episode, state


def task_of(path: str) -> str:
    """Returns the task, `<suite>/<name>`, of an episode's `file_path`."""
    return "/".join(path.split("/")[:2])


def _begin(assets: str, folder: Path) -> None:
    """Makes the benchmark importable in a worker, which has a configuration of its own."""
    prepare(assets, Path(tempfile.mkdtemp(dir=folder)))


def succeeds(episode: DatasetEpisode, state: np.ndarray) -> bool:
    """Returns whether the actions reach the goal in the benchmark's environment.

    A new one each time: `set_init_state` leaves the orientation goal of the episode before, and a reset puts the
    fixtures somewhere else.
    """
    env = official_environment(find_task(task_of(episode.file_path)))
    env.set_init_state(state)
    env.robots[0].controller.update(force=True)
    reached = any(_step(env, action) for action in (*[SETTLE_ACTION] * SETTLE_STEPS, *episode.action))
    env.close()
    return reached


def _step(env: Any, action: np.ndarray) -> bool:
    env.env.timestep, env.env.done = 0, False
    return bool(env.step(np.asarray(action, np.float64))[2])


if __name__ == "__main__":
    main()
