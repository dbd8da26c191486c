"""Makes the environment that a file of demonstrations describes, as robomimic does, and repeats a demonstration in it.

    python robomimic_environment.py --assets DIR --out FILE.npz DEMOS.hdf5

It is a program of its own because importing the benchmark has effects. It writes the states after every action.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import h5py
import numpy as np

from rlgen.libero.scenes.build import prepare
from rlgen.libero.tasks.suites import package_folder


def main() -> None:
    """Repeats `demo_0` of the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("demos", type=Path)
    parser.add_argument("--assets", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as configuration:
        prepare(arguments.assets, Path(configuration))
        states, image_size = repeat(arguments.demos.resolve())
    np.savez(arguments.out, states=states, image_size=image_size)


def repeat(path: Path) -> tuple[np.ndarray, int]:
    """Returns the flat states after each action of `demo_0`, and the height of the cameras' images."""
    import libero.libero.envs  # noqa: F401  (registers the classes that `make` looks up)
    import robosuite

    with h5py.File(path) as file:
        described = json.loads(file["data"].attrs["env_args"])
        demo = file["data/demo_0"]
        state, actions = demo.attrs["init_state"], demo["actions"][()]
    # The name of the BDDL file is relative to this folder.
    os.chdir(package_folder() / "bddl_files")
    # What robomimic sets where no images are asked for.
    changed = {"has_renderer": False, "has_offscreen_renderer": False, "ignore_done": True, "use_object_obs": True}
    changed |= {"use_camera_obs": False, "camera_depths": False}
    env = robosuite.make(described["env_name"], **{**described["env_kwargs"], **changed})
    env.reset()
    env.sim.set_state_from_flattened(state)
    env.sim.forward()
    # The controller still has the pose before the state was set, and would compute its first goal from it.
    env.robots[0].controller.update(force=True)
    for _ in range(10):  # every public evaluation lets objects settle first
        env.step(np.array([0.0, 0, 0, 0, 0, 0, -1]))
    states = []
    for action in actions:
        env.step(action)
        states.append(env.sim.get_state().flatten())
    return np.array(states), int(described["env_kwargs"]["camera_heights"])


if __name__ == "__main__":
    main()
