"""Worker and child processes: they never outlive their parent, and the end of one is said in a line."""

import os
import signal
import subprocess
import sys
import time

import pytest

from rlgen.bench.interruption import start
from rlgen.core.errors import UserError
from rlgen.core.process import worker_pool

WORKER = """
import os, time
from rlgen.core.process import worker_pool
if __name__ == "__main__":
    with worker_pool(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""
ENDING = """
import os
from multiprocessing import resource_tracker
from rlgen.core.process import worker_pool
if __name__ == "__main__":
    with worker_pool(1) as pool:
        pool.submit(abs, 1).result()
        print(resource_tracker._resource_tracker._pid, flush=True)
        os._exit(130)
"""
CHILD = """
import os, signal, sys, time
from rlgen.core.process import end_with_parent, start_child
if sys.argv[1:]:
    end_with_parent()
    print(os.getpid(), flush=True)
    # As a child that computes in C, or was stopped, it runs no Python any more.
    os.kill(os.getpid(), signal.SIGSTOP)
start_child([sys.executable, __file__, "child"]).wait()
"""


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def gone(process: int) -> bool:
    deadline = time.monotonic() + 20
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(process)


@pytest.mark.parametrize("code", [WORKER, CHILD], ids=["worker", "child"])
def test_processes_end_with_a_parent_that_is_killed(tmp_path, code):
    program = tmp_path / "parent.py"
    program.write_text(code)
    parent = start([sys.executable, str(program)], subprocess.PIPE)
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone(child)


def test_an_interruption_ends_workers_in_the_middle_of_their_work():
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), worker_pool(2) as pool:
        workers = [pool.submit(os.getpid).result()]
        pool.submit(time.sleep, 600)
        raise KeyboardInterrupt
    assert gone(workers[0])
    assert time.monotonic() - begun < 20


def test_nothing_is_said_of_the_semaphores_of_a_parent_that_ends_at_once(tmp_path):
    program = tmp_path / "parent.py"
    program.write_text(ENDING)
    parent = start([sys.executable, str(program)], subprocess.PIPE, subprocess.PIPE)
    tracker = int(parent.stdout.readline())
    # The tracker holds standard error: it has ended where this returns.
    _, errors = parent.communicate(timeout=20)
    assert (parent.returncode, errors) == (130, b"")
    assert gone(tracker)


def test_ctrl_c_of_a_terminal_reaches_no_worker():
    """A worker is deaf to it before it runs any code of ours."""
    with worker_pool(1) as pool:
        first = pool.submit(os.getpid)
        for _ in range(20):
            for worker in list(pool._processes or ()):
                os.kill(worker, signal.SIGINT)
            time.sleep(0.02)
        os.kill(first.result(), signal.SIGINT)
        assert pool.submit(os.getpid).result() == first.result()


def test_the_end_of_a_worker_that_the_system_killed_is_said_in_a_line():
    with pytest.raises(UserError, match=r"killed by the system.*memory.*--workers") as error, worker_pool(2) as pool:
        worker = pool.submit(os.getpid).result()
        waiting = pool.submit(time.sleep, 600)
        os.kill(worker, signal.SIGKILL)
        waiting.result()
    assert "\n" not in str(error.value)


def test_work_that_was_handed_over_is_done_at_the_end_of_a_pool():
    with worker_pool(1) as pool:
        waiting = [pool.submit(abs, -number) for number in range(5)]
    assert [future.result() for future in waiting] == list(range(5))
