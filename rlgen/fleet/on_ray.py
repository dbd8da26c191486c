"""The engine `ray`: jobs as tasks of a Ray cluster, whose nodes share the folder of the fleet.

A node that is lost takes its processes with it; Ray starts their tasks again elsewhere, and the jobs go on where they
were. Ray is an extra, and imported here alone.
"""

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError, first_line, missing_extra
from rlgen.core.process import CACHE_VARIABLE, cache_folder, start_child
from rlgen.core.text import size
from rlgen.fleet.engine import CHANGE, Endings, work_command
from rlgen.fleet.jobs import Job, find_job, job_log, job_name, longest_first

# Of Ray: a task is repeated as often as its node or worker is lost.
WITHOUT_END = -1
ADDRESS_VARIABLE = "RAY_ADDRESS"


@dataclass(frozen=True)
class RayEngine:
    """Tasks of the Ray cluster that `RAY_ADDRESS` names, or of one that is started on this machine.

    Attributes:
      threads: cores of a job.
      memory: of a job, bytes.
      log: called with a line where no node can hold a job.
    """

    threads: int
    memory: int
    log: Callable[[str], None]

    def run(self, root: Path, jobs: Sequence[Job], on_change: Callable[[], None]) -> list[str]:
        """Runs jobs. Arguments as of `Engine.run`."""
        ray = import_ray()
        if not ray.is_initialized():
            ray.init(address=os.environ.get(ADDRESS_VARIABLE), log_to_driver=False, logging_level="warning")
        if not any(self._holds_a_job(node) for node in ray.nodes()):
            # Not an error: a cluster that grows by what is asked of it begins with small nodes.
            self.log(
                f"no node of the Ray cluster has {self.threads} cores and {size(self.memory)} of memory, which a job "
                "asks for: jobs wait until one joins; fewer cores with --workers"
            )
        remote = ray.remote(num_cpus=self.threads, memory=self.memory, max_retries=WITHOUT_END)(run_job)
        cache, endings = str(cache_folder()), Endings(root)
        waiting = {remote.remote(str(root.absolute()), job_name(job), cache): job for job in longest_first(jobs)}
        try:
            while waiting:
                ended, _ = ray.wait(list(waiting), num_returns=1, timeout=CHANGE)
                for reference in ended:
                    job = waiting.pop(reference)
                    if endings.again(job, _result(ray, reference)):
                        waiting[remote.remote(str(root.absolute()), job_name(job), cache)] = job
                on_change()
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)
        return endings.unfinished

    def _holds_a_job(self, node: dict[str, Any]) -> bool:
        has = node.get("Resources", {})
        return bool(node.get("Alive")) and has.get("CPU", 0) >= self.threads and has.get("memory", 0) >= self.memory


def import_ray() -> Any:
    """Returns the module `ray`.

    Raises:
      UserError: it is not installed.
    """
    # Ray would have its workers run by `uv run` as well, in a copy of the working directory.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        # By its name: types are checked where it is installed, and where it is not.
        return import_module("ray")
    except ImportError as error:
        raise missing_extra("ray", "ray", "ray", "choose another --engine") from error


def run_job(root: str, name: str, cache: str) -> int:
    """Runs a job in a process of its own, and returns its exit code; on a node of the cluster.

    Args:
      root: folder of the fleet.
      name: of the job.
      cache: folder of scenes and compiled programs.
    """
    job = find_job(name)
    log = job_log(Path(root), job)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as stream:
        process = start_child(
            work_command(Path(root), job),
            {CACHE_VARIABLE: cache},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        return process.wait()
    finally:
        process.kill()


def _result(ray: Any, reference: Any) -> int:
    try:
        return int(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        raise UserError(f"a task of Ray failed: {first_line(error.cause or error)}") from error
