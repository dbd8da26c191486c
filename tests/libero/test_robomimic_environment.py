"""The arguments of the environment in HDF5 files: robomimic makes the benchmark's environment out of them."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest

from rlgen.core.types import Episode
from rlgen.data.formats.hdf5.writer import write_demos
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.replay import replay
from rlgen.libero.scenes.demo_info import demo_file_info

STEPS = 12


@pytest.fixture(scope="module")
def demos(tmp_path_factory, placeholder_scene):
    """A file of one short episode of random actions."""
    scene = placeholder_scene
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, 7))
    actions[:, 6] = -1
    start = scene.stored_states[0]
    states, _ = replay(scene, start, actions)
    arrays = (start, states, actions, np.eye(STEPS)[-1])
    episode = Episode(scene.task.id, scene.task.prompt, "noise", 0, "heldout", 0, *arrays, True)
    path = tmp_path_factory.mktemp("demos") / "x_demo.hdf5"
    write_demos(path, [episode], [Observer(scene)(states).robot], demo_file_info(scene, 64))
    return path, states


def test_a_file_has_the_arguments_of_the_environment(demos, placeholder_scene):
    with h5py.File(demos[0]) as file:
        described, text = json.loads(file["data"].attrs["env_args"]), file["data"].attrs["bddl_file_content"]
    arguments = described["env_kwargs"]
    assert (described["type"], described["env_name"]) == (1, "Libero_Floor_Manipulation")
    assert arguments["bddl_file_name"] == described["bddl_file"] == f"{placeholder_scene.task.id}.bddl"
    assert arguments["camera_heights"] == arguments["camera_widths"] == 64
    assert arguments["control_freq"] == 20 and arguments["robots"] == ["Panda"]
    [package] = find_spec("robosuite").submodule_search_locations
    official = json.loads((Path(package) / "controllers/config/osc_pose.json").read_text())
    assert arguments["controller_configs"] == official
    assert text == placeholder_scene.task.bddl_file.read_text()


@pytest.mark.slow
def test_an_environment_made_of_them_repeats_the_demonstration(demos, placeholder_assets, tmp_path):
    path, states = demos
    program, out = Path(__file__).with_name("robomimic_environment.py"), tmp_path / "states.npz"
    command = [sys.executable, str(program), str(path), "--assets", str(placeholder_assets.path), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(out) as repeated:
        assert repeated["image_size"] == 64
        positions = slice(1, 8)  # of the arm's joints; those of objects settle by fractions of a millimeter
        np.testing.assert_allclose(repeated["states"][:, positions], states[1:, positions], rtol=0, atol=1e-6)
