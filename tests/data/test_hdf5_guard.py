"""A file on which the library crashes or hangs does not affect other files."""

import sys

import pytest

from rlgen.data.formats.hdf5.guard import FileCheck, GuardedReader, check_file
from rlgen.data.formats.hdf5.layout import DemoFileInfo
from rlgen.data.formats.hdf5.writer import write_demos

# A child process that crashes or hangs on some names, as the library does on some damaged files.
CHILD = """
import os, pathlib, signal, time
from rlgen.data.formats.hdf5 import guard

real = guard.check_file

def check_file(path, *, clip):
    if "crash" in path.name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "hang" in path.name:
        time.sleep(600)
    return real(path, clip=clip)

guard.check_file = check_file
guard.main()
"""


@pytest.fixture
def demos(tmp_path, episode_of, robot_of):
    path = tmp_path / "good_demo.hdf5"
    episodes = [episode_of(index) for index in range(2)]
    info = DemoFileInfo("Libero_Floor_Manipulation", "libero_object/x.bddl", "x", "<mujoco/>")
    write_demos(path, episodes, [robot_of(episode) for episode in episodes], info)
    return path


def test_after_a_crash_and_a_hang_the_next_file_is_read(demos):
    good = FileCheck(("demo_0", "demo_1"), {}, "libero_object/pick_up_the_butter_and_place_it_in_the_basket")
    with GuardedReader(timeout=20.0, command=(sys.executable, "-c", CHILD)) as guard:
        assert guard.check(demos) == good
        crashed = guard.check(demos.with_name("crash.hdf5"))
        assert not crashed.good and "crash.hdf5: the HDF5 library crashed" in crashed.problem
        assert guard.check(demos) == good
        guard._timeout = 0.5
        hung = guard.check(demos.with_name("hang.hdf5"))
        assert not hung.good and "hang.hdf5: not read after 0.5 s" in hung.problem
        guard._timeout = 20.0
        assert guard.check(demos) == good


def test_the_child_process_reports_what_a_check_in_this_process_reports(demos, tmp_path):
    (tmp_path / "bad.hdf5").write_bytes(demos.read_bytes()[:3000])
    with GuardedReader() as guard:
        for path in (demos, tmp_path / "bad.hdf5", tmp_path / "none.hdf5"):
            assert guard.check(path) == check_file(path)
    assert "truncated" in check_file(tmp_path / "bad.hdf5").problem
