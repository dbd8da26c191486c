import codecs
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.libero.tasks.initial_states import LARGEST, read_initial_states
from rlgen.libero.tasks.suites import all_tasks, find_task


def write_archive(path, data: bytes):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return path


def test_every_task_has_50_states():
    for task in all_tasks()[::13]:
        assert read_initial_states(task.initial_states_file).shape[0] == 50


@pytest.mark.parametrize("name", [b"numpy.core", b"numpy._core"])
def test_an_array_survives_both_names_of_numpy(tmp_path, name):
    states = np.random.default_rng(0).normal(size=(3, 5))
    here = np._core.__name__.encode()
    stored = pickle.dumps(states, protocol=2).replace(b"c%s.multiarray\n" % here, b"c%s.multiarray\n" % name)
    assert b"c%s.multiarray\n" % name in stored
    path = write_archive(tmp_path / "x.pruned_init", stored)
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


class Asking:
    """What makes a pickle ask for a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


HUGE = 10**12
REQUESTS = {
    "an array of any size": Asking(np._core.multiarray._reconstruct, np.ndarray, (HUGE,), b"d"),
    "the class of arrays": Asking(np.ndarray, (HUGE,)),
    "a type of any size": Asking(np.dtype, f"V{HUGE // 1000}"),
    "an encoding": Asking(codecs.encode, "x" * 1000, "idna"),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_nothing_that_a_file_asks_for_is_made(tmp_path, request_):
    path = write_archive(tmp_path / "x.pruned_init", pickle.dumps(request_, protocol=2))
    with pytest.raises(UserError, match="initial states"):
        read_initial_states(path)


def test_an_array_that_is_larger_than_its_bytes_is_refused(tmp_path):
    data = pickle.dumps(np.zeros((3, 5)), protocol=2).replace(b"K\x03K\x05\x86", b"K\x03K\xff\x86")
    with pytest.raises(UserError, match=r"120 bytes for an array of shape \(3, 255\)"):
        read_initial_states(write_archive(tmp_path / "x.pruned_init", data))


def test_an_archive_that_unpacks_to_gigabytes_is_refused_unread(tmp_path):
    path = tmp_path / "x.pruned_init"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (LARGEST + 1))
    with pytest.raises(UserError, match=rf"unpacks to {LARGEST + 1} bytes, expected at most {LARGEST}"):
        read_initial_states(path)
    # Nor does it help to say that it is small.
    said = path.read_bytes().replace(struct.pack("<L", LARGEST + 1), struct.pack("<L", 1000))
    path.write_bytes(said)
    tracemalloc.start()
    with pytest.raises(UserError, match="cannot be read"):
        read_initial_states(path)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_truncated_file_is_refused_by_name(tmp_path):
    whole = find_task("libero_object/6").initial_states_file.read_bytes()
    path = tmp_path / "cut.pruned_init"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.pruned_init"):
        read_initial_states(path)
