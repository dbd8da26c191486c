"""Success of recorded demonstrations in the benchmark's own tools and environment.

Command:  uv run python experiments/replay_official.py DEMOS --assets DIR [-n 4] [--json FILE]
Cost:     five seconds an episode on one core.
Expected: at least 95 % of the episodes succeed, and each begins in the state that its file says.

DEMOS is a folder of HDF5 files as `rlgen demos record TASK` writes them. A file is opened as the benchmark's
`create_dataset` does: the environment from its attributes, the model from the text stored with each episode, whose
asset files the benchmark finds by itself. Each episode starts from its initial state, settles for ten control steps
as every evaluation does, and plays its actions; it succeeds if the benchmark says so at any step. A program of its
own, because importing the benchmark edits the environment and draws from NumPy's global generator.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rlgen.core.files import write_json
from rlgen.core.stats import SuccessRate
from rlgen.libero.envs.environment import SETTLE_ACTION, SETTLE_STEPS
from rlgen.libero.scenes.build import prepare


def main() -> None:
    """Replays, counts, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demos", type=Path)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("-n", type=int, default=4, dest="count", help="episodes of each file")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    files, out = sorted(arguments.demos.resolve().glob("*/*.hdf5")), arguments.json and arguments.json.resolve()
    rows = {}
    with tempfile.TemporaryDirectory() as configuration:
        prepare(str(arguments.assets.resolve()), Path(configuration))
        # There the benchmark's tools look for object assets: `libero/assets` of the working directory.
        (Path(configuration) / "libero").mkdir()
        os.symlink(arguments.assets.resolve(), Path(configuration) / "libero" / "assets")
        os.chdir(configuration)
        for file in files:
            replays = list(replayed(file, arguments.count))
            reached = sum(success for success, _ in replays)
            row = {"successes": reached, "trials": len(replays), "first_state_away": max(away for _, away in replays)}
            rows[f"{file.parent.name}/{file.stem.removesuffix('_demo')}"] = row
            print(file.stem, row, flush=True)
    total = SuccessRate(sum(row["successes"] for row in rows.values()), sum(row["trials"] for row in rows.values()))
    print(total.to_json())
    if out is not None:
        write_json(out, {"total": total.to_json(), "tasks": rows})


def replayed(path: Path, count: int) -> Iterator[tuple[bool, float]]:
    """Yields for the first episodes of a file whether they succeed, and how far they begin from their first state."""
    from libero.libero.envs.utils import postprocess_model_xml

    with h5py.File(path) as file:
        for name in sorted(file["data"], key=lambda name: int(name.removeprefix("demo_")))[:count]:
            # A new one each time: a reset leaves the gripper's last command as it was.
            demo, env = file["data"][name], environment(file["data"])
            env.reset_from_xml_string(postprocess_model_xml(demo.attrs["model_file"], {}, demo_generation=True))
            env.sim.reset()
            env.sim.set_state_from_flattened(demo.attrs["init_state"])
            env.sim.forward()
            env.robots[0].controller.update(force=True)
            reached = any([_step(env, SETTLE_ACTION) for _ in range(SETTLE_STEPS)])
            away = float(np.abs(env.sim.get_state().flatten()[1:] - demo["states"][0][1:]).max())
            yield reached or any(_step(env, action) for action in demo["actions"][()]), away
            env.close()


def environment(data: h5py.Group) -> Any:
    """Makes the benchmark's environment of a file, from its attributes."""
    from libero.libero import get_libero_path
    from libero.libero.envs import TASK_MAPPING
    from robosuite import load_controller_config

    problem = json.loads(data.attrs["problem_info"])["problem_name"]
    env = TASK_MAPPING[problem](
        bddl_file_name=str(Path(get_libero_path("bddl_files")) / data.attrs["bddl_file_name"]),
        robots=["Panda"],
        controller_configs=load_controller_config(default_controller="OSC_POSE"),
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        control_freq=20,
        ignore_done=True,
        initialization_noise=None,
    )
    env.reset()
    return env


def _step(env: Any, action: np.ndarray) -> bool:
    env.step(np.asarray(action, np.float64))
    return bool(env._check_success())


if __name__ == "__main__":
    main()
