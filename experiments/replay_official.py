"""Whether demonstrations succeed again in the benchmark's own environment.

Command:  uv run python experiments/replay_official.py DEMOS --assets DIR [-n 4] [--json FILE]
Cost:     five seconds an episode on one core.
Expected: at least 95 % of the episodes succeed.

DEMOS is a folder of HDF5 files as `rlgen demos TASK` writes them. Each episode starts from its initial state, settles
for ten control steps as every evaluation does, and plays its actions; it succeeds if the benchmark says so at any step.
A program of its own, because importing the benchmark edits the environment and draws from NumPy's global generator.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.data.hdf5 import read_demos
from rlgen.files import write_json
from rlgen.libero.build import official_environment, prepare
from rlgen.libero.environment import SETTLE_ACTION, SETTLE_STEPS
from rlgen.libero.tasks import find_task
from rlgen.report.intervals import SuccessRate
from rlgen.types import Episode


def main() -> None:
    """Replays, counts, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demos", type=Path)
    parser.add_argument("--assets", required=True)
    parser.add_argument("-n", type=int, default=4, dest="count", help="episodes of each file")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as configuration:
        prepare(arguments.assets, Path(configuration))
        for file in sorted(arguments.demos.glob("*/*.hdf5")):
            episodes = read_demos(file)[: arguments.count]
            reached = sum(succeeds(episode) for episode in episodes)
            rows[episodes[0].task] = {"successes": reached, "trials": len(episodes)}
            print(episodes[0].task, rows[episodes[0].task], flush=True)
    total = SuccessRate(sum(row["successes"] for row in rows.values()), sum(row["trials"] for row in rows.values()))
    print(total.to_json())
    if arguments.json is not None:
        write_json(arguments.json, {"total": total.to_json(), "tasks": rows})


def succeeds(episode: Episode) -> bool:
    """Whether an episode's actions reach the goal in the benchmark's environment.

    A new one each time: `set_init_state` leaves the orientation goal of the episode before, and a reset puts the
    fixtures somewhere else.
    """
    env = official_environment(find_task(episode.task))
    env.set_init_state(episode.initial_state)
    env.robots[0].controller.update(force=True)
    actions = (*[SETTLE_ACTION] * SETTLE_STEPS, *episode.actions)
    reached = any(_step(env, action) for action in actions)
    env.close()
    return reached


def _step(env: Any, action: np.ndarray) -> bool:
    env.env.timestep, env.env.done = 0, False
    return bool(env.step(np.asarray(action, np.float64))[2])


if __name__ == "__main__":
    main()
