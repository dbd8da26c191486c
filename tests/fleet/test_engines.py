"""Engines: every job runs to its end whatever its processes do, as many at a time as there is room for."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from rlgen.configs.presets import expert_presets
from rlgen.core.errors import UserError
from rlgen.fleet import engine as engine_module
from rlgen.fleet import on_ray
from rlgen.fleet.engine import MOST_ERRORS, MOST_STARTS, Endings, LocalEngine, end_processes, work_command
from rlgen.fleet.job import AGAIN
from rlgen.fleet.jobs import (
    find_job,
    free_memory,
    job_memory,
    job_name,
    jobs_at_a_time,
    longest_first,
    make_jobs,
)
from rlgen.fleet.plan import make_plan, task_folder
from rlgen.libero.tasks.bddl import read_problem
from rlgen.libero.tasks.suites import find_tasks

TASKS = find_tasks("libero_goal/7", "libero_goal/2", "libero_10/0", "libero_spatial/5")
JOBS = [(task,) for task in TASKS]
# Ends as its folder says: by an exit code or a signal each time, then well. Says when it began and ended.
JOB = """
import os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
ends = (folder / "ends").read_text().split()
with open(folder / "times", "a") as file: file.write(f"{time.monotonic()} ")
time.sleep(float(sys.argv[2]))
with open(folder / "times", "a") as file: file.write(f"{time.monotonic()}\\n")
(folder / "ends").write_text(" ".join(ends[1:]))
if ends and int(ends[0]) < 0: os.kill(os.getpid(), -int(ends[0]))
print("rlgen: the reason" if ends and ends[0] == "2" else "")
sys.exit(int(ends[0]) if ends else 0)
"""


def engine(root, jobs: int, ends: dict, seconds: float = 0.0) -> LocalEngine:
    for task in TASKS:
        task_folder(root, task).mkdir(parents=True)
        (task_folder(root, task) / "ends").write_text(" ".join(map(str, ends.get(task, ()))))
    return LocalEngine(jobs, lambda root, job: [sys.executable, "-c", JOB, str(task_folder(root, *job)), str(seconds)])


def times(root, task) -> list[tuple[float, float]]:
    lines = (task_folder(root, task) / "times").read_text().splitlines()
    return [tuple(map(float, line.split())) for line in lines]


def test_what_was_killed_or_asks_for_it_is_started_again_and_the_rest_goes_on(tmp_path):
    ends = {TASKS[0]: (-9, AGAIN, -11), TASKS[2]: (-9,)}
    changes = []
    assert engine(tmp_path, 2, ends).run(tmp_path, JOBS, lambda: changes.append(1)) == []
    assert [len(times(tmp_path, task)) for task in TASKS] == [4, 1, 2, 1]
    assert len(changes) >= len(TASKS)


def test_no_more_run_at_a_time_than_asked_for(tmp_path):
    engine(tmp_path, 2, {}, seconds=0.3).run(tmp_path, JOBS, lambda: None)
    spans = [span for task in TASKS for span in times(tmp_path, task)]
    most = max(sum(begin <= other < end for begin, end in spans) for other, _ in spans)
    assert most == 2


def test_what_is_refused_ends_all_with_its_line(tmp_path):
    ends = {TASKS[0]: (2,)}
    with pytest.raises(UserError, match=r"^the reason$"):
        engine(tmp_path, 1, ends).run(tmp_path, [JOBS[0]], lambda: None)


def test_who_interrupts_the_end_as_well_leaves_no_process(monkeypatch):
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline()
    wait = processes[0].wait

    def interrupted(timeout=None):
        if timeout is not None:
            raise KeyboardInterrupt
        return wait()

    monkeypatch.setattr(processes[0], "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        end_processes(processes)
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2


def test_a_job_that_dies_without_end_is_listed_and_stops_no_other(tmp_path):
    ends = {TASKS[1]: (1,) * MOST_ERRORS}
    [line] = engine(tmp_path, 2, ends).run(tmp_path, JOBS, lambda: None)
    assert TASKS[1].id in line and "ends with 1" in line
    assert all(times(tmp_path, task) for task in TASKS)
    endings = Endings(tmp_path)
    assert [endings.again(JOBS[0], -9) for _ in range(MOST_STARTS)].count(True) == MOST_STARTS - 1


def test_an_interruption_leaves_no_process(tmp_path):
    made = engine(tmp_path, 2, {}, seconds=60.0)
    started = threading.Event()

    def interrupt() -> None:
        while not all((task_folder(tmp_path, task) / "times").exists() for (task,) in longest_first(JOBS)[:2]):
            time.sleep(0.02)
        started.set()
        os.kill(os.getpid(), signal.SIGINT)

    begin, before = time.monotonic(), children()
    # Tests that were started in the background ignore interruptions.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            made.run(tmp_path, JOBS, lambda: None)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert started.is_set() and time.monotonic() - begin < 10
    # Neither a child that runs nor one that nobody has waited for.
    assert children() <= before


def children() -> set[int]:
    """The children of this process, those included that have ended and that nobody has waited for."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # Behind the name, which may hold anything: the state, then the parent.
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            found |= {int(folder.name)} if int(parent) == os.getpid() else set()
    return found


def test_an_interruption_while_a_process_is_started_leaves_it_not_behind(tmp_path, monkeypatch):
    start, made = engine_module.start_child, engine(tmp_path, 2, {}, seconds=60.0)

    def interrupted(*arguments, **options):
        process = start(*arguments, **options)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        return process

    monkeypatch.setattr(engine_module, "start_child", interrupted)
    before, handler = children(), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            made.run(tmp_path, JOBS, lambda: None)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert children() <= before


def test_the_longest_jobs_begin():
    assert [task.suite for (task,) in longest_first(JOBS)] == [
        *("libero_10", "libero_goal", "libero_goal", "libero_spatial"),
    ]
    assert longest_first([JOBS[2], tuple(TASKS[:2])]) == [tuple(TASKS[:2]), JOBS[2]]


def test_every_engine_runs_the_same_command(tmp_path):
    command = work_command(tmp_path, JOBS[0])
    assert command[0] == sys.executable and command[-4:] == ["work", str(tmp_path), "--task", TASKS[0].id]
    together = tuple(TASKS[:2])
    assert work_command(tmp_path, together)[-1] == f"{TASKS[0].id},{TASKS[1].id}"
    assert find_job(job_name(together)) == together


SUITES = find_tasks("libero_spatial", "libero_goal")


@pytest.mark.parametrize(("together", "at_a_time", "most"), [(1, 2, 1), (4, None, 4), (4, 2, 10), (4, 64, 4)])
def test_every_task_is_in_one_job_with_those_whose_programs_agree(together, at_a_time, most):
    assets = {"kind": "folder", "path": "/assets", "label": "x"}
    config = expert_presets()["state"]
    plan = make_plan(SUITES, config, source="diffusion", tries=1, assets=assets, together=together)
    jobs = make_jobs(plan, SUITES, at_a_time)
    assert sorted((task for job in jobs for task in job), key=SUITES.index) == SUITES
    assert max(map(len, jobs)) == most
    for job in jobs:
        assert len({(task.horizon, len(read_problem(task.bddl_file).goal)) for task in job}) == 1


@pytest.mark.parametrize(
    ("asked", "threads", "cores", "free", "jobs"),
    [
        (None, 1, 2, 8, 2),
        (None, 2, 2, 8, 1),
        (None, 4, 2, 8, 1),
        (None, 1, 64, 8, 8),
        (None, 1, 64, None, 64),
        (3, 1, 2, 8, 3),
    ],
)
def test_cores_are_busy_as_far_as_memory_allows(asked, threads, cores, free, jobs):
    said = []
    free = None if free is None else free * 10**9
    assert jobs_at_a_time(asked, threads, 10**9, cores=cores, free=free, log=said.append) == jobs
    assert bool(said) == (jobs == 8)


def test_what_has_no_memory_is_refused():
    with pytest.raises(UserError, match="a job needs about"):
        jobs_at_a_time(None, 1, 2 * 10**9, cores=2, free=10**9, log=print)
    with pytest.raises(UserError, match=r"--jobs 9.*at most 8"):
        jobs_at_a_time(9, 1, 10**9, cores=2, free=8 * 10**9, log=print)


def test_the_memory_of_a_job_grows_with_its_rollouts():
    presets = expert_presets()
    state, vision = presets["state"], presets["vision"]
    wide = replace(state, ppo=replace(state.ppo, environments=4000))
    assert 1e9 < job_memory(state) < 3e9
    assert job_memory(state) < job_memory(wide) and job_memory(vision) > 2 * job_memory(state)
    assert job_memory(state) < job_memory(state, 4) < 2 * job_memory(state)


def test_the_memory_of_a_container_counts(tmp_path):
    files = {
        "/proc/meminfo": "MemTotal: 100 kB\nMemAvailable:  2000000 kB\n",
        "/sys/fs/cgroup/memory.max": "1000000000",
        "/sys/fs/cgroup/memory.current": "900000000",
        "/sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 300000000\n",
    }

    def read(path: str) -> str:
        if path not in files:
            raise FileNotFoundError(path)
        return files[path]

    assert free_memory(read) == 400_000_000
    files["/sys/fs/cgroup/memory.max"] = "max"
    assert free_memory(read) == 2_000_000 * 1024
    files.clear()
    assert free_memory(read) is None


class FakeRay:
    """As much of Ray as the engine uses: tasks end in the order in which they began, with the codes of `ends`."""

    class exceptions:
        class RayTaskError(Exception):
            cause = OSError(13, "Permission denied")

    def __init__(self, ends: dict):
        self.ends, self.options, self.started, self.cancelled = ends, [], [], []

    def is_initialized(self) -> bool:
        return True

    def nodes(self) -> list[dict]:
        small = {"CPU": 1.0, "memory": 1e9}
        return [
            {"Alive": True, "Resources": small},
            {"Alive": False, "Resources": {"CPU": 64.0, "memory": 1e12}},
            {"Alive": True, "Resources": {}},
        ]

    def remote(self, **options):
        self.options.append(options)
        return lambda function: type("Remote", (), {"remote": staticmethod(self.start)})

    def start(self, root: str, task: str, cache: str) -> int:
        self.started.append(task)
        return len(self.started) - 1

    def wait(self, references, num_returns, timeout):
        return references[:num_returns], references[num_returns:]

    def get(self, reference):
        ends = self.ends.get(self.started[reference], [])
        code = ends.pop(0) if ends else 0
        if code is None:
            raise self.exceptions.RayTaskError
        return code

    def cancel(self, reference, force):
        self.cancelled.append(self.started[reference])


def on_ray_with(monkeypatch, ends: dict) -> FakeRay:
    fake = FakeRay(ends)
    monkeypatch.setattr(on_ray, "import_ray", lambda: fake)
    return fake


def test_ray_repeats_tasks_of_lost_nodes_itself_and_the_engine_those_that_were_killed(monkeypatch, tmp_path):
    fake = on_ray_with(monkeypatch, {TASKS[1].id: [-9, AGAIN]})
    lines: list[str] = []
    assert on_ray.RayEngine(2, 10**9, lines.append).run(tmp_path, JOBS, lambda: None) == []
    # Of two nodes that are alive one has a core, the other none.
    [line] = lines
    assert line.startswith("no node of the Ray cluster has 2 cores and 1.0 GB of memory")
    assert fake.options == [{"num_cpus": 2, "memory": 10**9, "max_retries": -1}]
    assert fake.started.count(TASKS[1].id) == 3 and len(fake.started) == len(TASKS) + 2
    assert fake.cancelled == []


def test_where_a_task_of_ray_is_refused_the_others_are_cancelled(monkeypatch, tmp_path):
    fake = on_ray_with(monkeypatch, {longest_first(JOBS)[0][0].id: [None]})
    with pytest.raises(UserError, match=r"a task of Ray failed: .*Permission denied"):
        on_ray.RayEngine(1, 1, pytest.fail).run(tmp_path, JOBS, lambda: None)
    assert len(fake.cancelled) == len(TASKS) - 1


def test_without_ray_its_extra_is_named(monkeypatch):
    for name in ("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"ray is not installed; `uv sync --extra ray` or `pip install ray`, or choose"):
        on_ray.import_ray()
