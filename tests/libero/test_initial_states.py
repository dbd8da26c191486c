import os
import pickle
import zipfile

import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.libero.tasks.initial_states import read_initial_states
from rlgen.libero.tasks.suites import all_tasks, find_task


def write_archive(path, data: bytes):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return path


def test_every_task_has_50_states():
    for task in all_tasks()[::13]:
        assert read_initial_states(task.initial_states_file).shape[0] == 50


def test_an_array_survives_both_names_of_numpy(tmp_path):
    states = np.random.default_rng(0).normal(size=(3, 5))
    for protocol in (2, 4):
        path = write_archive(tmp_path / f"{protocol}.pruned_init", pickle.dumps(states, protocol=protocol))
        if protocol == 2:
            np.testing.assert_array_equal(read_initial_states(path), states)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_hostile_file_is_refused_and_nothing_runs(tmp_path):
    ran = tmp_path / "ran"
    path = write_archive(tmp_path / "x.pruned_init", pickle.dumps(Hostile(ran), protocol=2))
    with pytest.raises(UserError, match="mkdir is not part of an array"):
        read_initial_states(path)
    assert not ran.exists()


@pytest.mark.parametrize("states", [np.zeros(3), np.zeros((2, 3), np.float32), np.full((2, 3), np.nan)])
def test_other_arrays_are_refused(tmp_path, states):
    with pytest.raises(UserError, match="initial states"):
        read_initial_states(write_archive(tmp_path / "x.pruned_init", pickle.dumps(states, protocol=2)))


def test_a_truncated_file_is_refused_by_name(tmp_path):
    whole = find_task("libero_object/6").initial_states_file.read_bytes()
    path = tmp_path / "cut.pruned_init"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.pruned_init"):
        read_initial_states(path)
