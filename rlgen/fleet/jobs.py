"""The jobs of a fleet: the tasks of each, the memory that it needs, and how many a machine runs at a time.

A job has one task or, where experts are trained together, several whose programs agree: as many chunks an iteration,
and atoms of the goal, by which the size of an observation goes. Filling up shorter ones instead would change the
networks that a run stores, and what is masked would be computed all the same; the tasks of a suite have one horizon,
and most of them one atom. Who is together with whom is no part of the plan: it changes no number beyond rounding.
"""

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from rlgen.configs.schema import Config
from rlgen.core.errors import UserError
from rlgen.core.text import size
from rlgen.fleet.job import LOG
from rlgen.fleet.plan import FleetPlan, task_folder
from rlgen.libero.tasks.bddl import read_problem
from rlgen.libero.tasks.suites import Task, find_tasks

Job = tuple[Task, ...]

# A process with jax, MuJoCo, a scene and its compiled programs: what a job of the preset `state` was seen to need.
_PROCESS = 1_300_000_000
# Another process, which records demonstrations, for each thread.
_RECORDER = 350_000_000
# Another expert in the same process: its scene, its environments, its state.
_EXPERT = 150_000_000
# Copies of a rollout's observations on the way from the environments to the update.
_COPIES = 3
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def make_jobs(plan: FleetPlan, tasks: Sequence[Task], at_a_time: int | None) -> list[Job]:
    """Divides tasks into jobs.

    Args:
      plan: of the fleet.
      tasks: whose work has not ended.
      at_a_time: jobs that run at the same time, among which tasks are shared out, so that one that ends makes room for
        another; None for as many as there are, each of `plan.together` tasks at most.
    """
    if plan.together == 1:
        return [(task,) for task in tasks]
    alike: dict[tuple[int, int], list[Task]] = {}
    for task in tasks:
        alike.setdefault(_shape(plan, task), []).append(task)
    largest = plan.together if at_a_time is None else max(plan.together, -(-len(tasks) // at_a_time))
    return [job for group in alike.values() for job in _parts(group, -(-len(group) // largest))]


def _shape(plan: FleetPlan, task: Task) -> tuple[int, int]:
    """Returns what the programs of a task's expert follow from, beside the settings that all tasks have."""
    return plan.run_config(task, 0).ppo.chunks, len(read_problem(task.bddl_file).goal)


def _parts(tasks: Sequence[Task], count: int) -> list[Job]:
    """Returns tasks in so many parts, as equal as may be."""
    bounds = [len(tasks) * part // count for part in range(count + 1)]
    return [tuple(tasks[start:stop]) for start, stop in pairwise(bounds)]


def longest_first(jobs: Sequence[Job]) -> list[Job]:
    """Returns jobs in the order in which they are started: the longest first, so that no core is idle at the end."""
    return sorted(jobs, key=lambda job: -sum(task.horizon for task in job))


def job_name(job: Job) -> str:
    """Returns the ids of a job's tasks, as one word of a command line."""
    return ",".join(task.id for task in job)


def find_job(name: str) -> Job:
    """Returns the job of a name; errors as of `find_tasks`."""
    return tuple(find_tasks(*name.split(",")))


def job_log(root: Path, job: Job) -> Path:
    """Returns the file of what a job's process says: in the folder of its first task."""
    return task_folder(root, job[0]) / LOG


def usable_cores() -> int:
    """Returns the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def job_memory(config: Config, together: int = 1) -> int:
    """Returns an estimate of the bytes of memory that a job needs at most.

    Args:
      config: of its runs.
      together: experts that it trains in one program.
    """
    policy, ppo = config.policy, config.ppo
    floats = 4 * (policy.horizon * 7 * (policy.diffusion.num_steps + 1) + 200)
    pixels = 3 * policy.image_encoder.cameras * policy.image_encoder.image_size**2 if policy.has_images else 0
    rollout = ppo.environments * ppo.chunks * (floats + pixels)
    return _PROCESS + _RECORDER * config.workers + _COPIES * rollout * together + _EXPERT * (together - 1)


def free_memory(read: Callable[[str], str] | None = None) -> int | None:
    """Returns the bytes of memory that are free, in the machine and in this process's container; None if unknown.

    Args:
      read: returns the text of a file, for tests.
    """
    read = read or (lambda path: Path(path).read_text())
    found: list[int] = []
    try:
        lines = read("/proc/meminfo").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        pass
    for limit, used in _CGROUPS:
        try:
            left = int(read(limit)) - int(read(used))
        except (OSError, ValueError):
            continue
        # Files that were read count as used, and are dropped when memory is needed.
        found.append(max(0, left + _cached(read, limit)))
    return min(found, default=None)


def _cached(read: Callable[[str], str], limit: str) -> int:
    try:
        lines = read(str(Path(limit).with_name("memory.stat"))).splitlines()
        return sum(
            int(line.split()[1]) for line in lines if line.split()[0] in ("inactive_file", "total_inactive_file")
        )
    except (OSError, ValueError, IndexError):
        return 0


def jobs_at_a_time(
    asked: int | None, threads: int, memory: int, *, cores: int, free: int | None, log: Callable[[str], None]
) -> int:
    """Returns how many jobs run at the same time.

    Args:
      asked: by the user; by default as many as keep all cores busy and have memory.
      threads: of a job.
      memory: of a job, bytes.
      cores: of the machine.
      free: bytes of memory, or None if that is not known.
      log: called with a line where memory allows fewer than cores do.

    Raises:
      UserError: not even one has memory, or fewer than were asked for.
    """
    fitting = None if free is None else free // memory
    need = f"a job needs about {size(memory)} of memory, {size(free or 0)} are free"
    if fitting == 0:
        raise UserError(f"{need}; free some, or choose a smaller --preset or fewer --ppo.environments")
    if asked is not None:
        if fitting is not None and asked > fitting:
            raise UserError(f"--jobs {asked}: {need}; expected at most {fitting}")
        return asked
    wanted = max(1, cores // threads)
    if fitting is not None and fitting < wanted:
        log(f"{need}: {fitting} jobs at a time instead of {wanted}")
        return fitting
    return wanted
