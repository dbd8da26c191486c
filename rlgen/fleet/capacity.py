"""The number of jobs that a machine runs at a time: by cores, and by the memory that a job needs and that is free."""

import os
from collections.abc import Callable
from pathlib import Path

from rlgen.configs.schema import Config
from rlgen.core.errors import UserError
from rlgen.core.text import size

# A process with jax, MuJoCo, a scene and its compiled programs: what a job of the preset `state` was seen to need.
_PROCESS = 1_300_000_000
# Another process, which records demonstrations, for each thread.
_RECORDER = 350_000_000
# Copies of a rollout's observations on the way from the environments to the update.
_COPIES = 3
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def usable_cores() -> int:
    """Returns the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def job_memory(config: Config) -> int:
    """Returns an estimate of the bytes of memory that a job needs at most.

    Args:
      config: of its run.
    """
    policy, ppo = config.policy, config.ppo
    floats = 4 * (policy.horizon * 7 * (policy.diffusion.num_steps + 1) + 200)
    pixels = 3 * policy.image_encoder.cameras * policy.image_encoder.image_size**2 if policy.has_images else 0
    rollout = ppo.environments * ppo.chunks * (floats + pixels)
    return _PROCESS + _RECORDER * config.workers + _COPIES * rollout


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
