"""HDF5 as people have it: without attributes, with holes in its numbers, of another project."""

import json

import h5py
import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.data.episode import load_episodes
from rlgen.data.formats.hdf5.reader import read_demos
from rlgen.demos.imports.importer import import_demonstrations
from rlgen.demos.imports.options import ImportOptions

BUTTER = "pick_up_the_butter_and_place_it_in_the_basket"
BDDL = f"libero/bddl_files/libero_object/{BUTTER}.bddl"
ROBOMIMIC = {"env_args": json.dumps({"env_name": "PickPlaceCan", "type": 1, "env_kwargs": {}}), "total": 10}
NAMED = f"libero_object/{BUTTER}_demo.hdf5"
# The file, the attributes of `data`, the numbers of its demonstrations, and the task.
KINDS = {
    "no attributes": (NAMED, {}, (0, 2), f"libero_object/{BUTTER}"),
    "no attributes, regenerated": (
        f"libero_object_no_noops/{BUTTER}_demo.hdf5",
        {},
        (0, 1),
        f"libero_object/{BUTTER}",
    ),
    "environment alone": (
        NAMED,
        {"env_args": json.dumps({"env_name": "Libero_Floor"})},
        (0,),
        f"libero_object/{BUTTER}",
    ),
    "task in env_args": ("x.hdf5", {"env_args": json.dumps({"bddl_file": BDDL})}, (0,), f"libero_object/{BUTTER}"),
    "holes": ("holes.hdf5", {"bddl_file_name": BDDL}, (0, 2, 3, 10), f"libero_object/{BUTTER}"),
    "holes, counted": ("x.hdf5", {"bddl_file_name": BDDL, "num_demos": 3}, (1, 5, 7), f"libero_object/{BUTTER}"),
    "robomimic": ("low_dim.hdf5", ROBOMIMIC, (0, 1), "robosuite/PickPlaceCan"),
    "robosuite": ("demo.hdf5", {"env": "Lift"}, (1, 2), "robosuite/Lift"),
}


def write(path, attributes, numbers, steps=5):
    """Writes a file as LIBERO's are, with no more attributes than these."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs.update(attributes)
        for number in numbers:
            random, demo = np.random.default_rng(number), data.create_group(f"demo_{number}")
            demo["actions"] = random.uniform(-0.9, 0.9, (steps, 7))
            demo["states"] = random.normal(size=(steps, 21))
            demo["rewards"] = (np.arange(steps) == steps - 1).astype(np.uint8)
    return path


def take(path, out, **options):
    lines = []
    total = import_demonstrations(
        path, out, ImportOptions(replay=False, **options), lambda task: None, assets="none", log=lines.append
    )
    return total, lines


@pytest.mark.parametrize("skip_bad", [False, True], ids=["strict", "skip bad"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_demonstrations_are_taken_and_have_their_task(tmp_path, kind, skip_bad):
    name, attributes, numbers, task = KINDS[kind]
    path = write(tmp_path / "in" / name, attributes, numbers)
    total, _ = take(path, tmp_path / "out", skip_bad=skip_bad)
    assert (total["read"], total["kept"], total["bad"]) == (len(numbers), len(numbers), 0)
    episodes = load_episodes(tmp_path / "out" / path.stem)
    assert {episode.task for episode in episodes} == {task}
    assert {episode.prompt for episode in episodes} == {"" if "robosuite" in task else BUTTER.replace("_", " ")}


def test_only_a_count_in_the_file_says_that_one_is_missing(tmp_path):
    path = write(tmp_path / "in/x.hdf5", {"bddl_file_name": BDDL, "num_demos": 4}, (0, 2, 3))
    with pytest.raises(
        UserError, match=r"x\.hdf5: /data/demo_1: missing, num_demos says 4 and there are 3.*--skip-bad"
    ):
        take(path, tmp_path / "out")
    total, [line] = take(path, tmp_path / "out", skip_bad=True)
    assert (total["read"], total["kept"], total["bad"]) == (4, 3, 1) and "1 bad" in line


def test_a_count_that_is_nonsense_takes_no_time(tmp_path):
    path = write(tmp_path / "in/x.hdf5", {"bddl_file_name": BDDL, "num_demos": 10**12}, (0, 1))
    with pytest.raises(UserError, match="demo_2: missing, num_demos says 1000000000000 and there are 2"):
        take(path, tmp_path / "out")
    assert take(path, tmp_path / "out", skip_bad=True)[0]["kept"] == 2


@pytest.mark.parametrize(
    "attributes", [{}, {"env_args": "[" * 10_000}, {"env_args": "[1]"}, {"env_args": '{"env_name": 5}'}]
)
def test_a_file_that_says_no_task_and_is_not_named_by_one_is_refused_in_one_line(tmp_path, attributes):
    path = write(tmp_path / "in/mine.hdf5", attributes, (0,))
    with pytest.raises(UserError, match=r"mine\.hdf5: .*name it <suite>/<task>_demo\.hdf5") as caught:
        read_demos(path)
    assert "\n" not in str(caught.value)
