"""Scripts that run the jobs of a fleet elsewhere: a Slurm array, a SkyPilot task, a Kubernetes JobSet.

All of them run the command that the other engines run, `rlgen fleet work`, then `rlgen fleet assemble` once all have
ended. They need a folder that all nodes share and that has locks (a bucket has none).
"""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlgen.core.files import write_bytes
from rlgen.core.process import CACHE_VARIABLE
from rlgen.fleet.engine import MOST_STARTS, work_words
from rlgen.fleet.job import AGAIN
from rlgen.fleet.jobs import Job, job_name

FOLDER = "launch"
# Cores of the job that exports the datasets.
ASSEMBLE_CORES = 4
IMAGE = "registry.example.org/rlgen:latest"
VOLUME = "rlgen-fleet"
_HOURS = 48


@dataclass(frozen=True)
class LaunchPlan:
    """The jobs that the scripts run.

    Attributes:
      root: folder of the fleet, absolute.
      jobs: that have not ended, in the order in which they are started.
      threads: cores of a job.
      memory: of a job, bytes.
      cache: folder of scenes and compiled programs, absolute.
      at_a_time: jobs that run at the same time; None for all of them.
    """

    root: Path
    jobs: Sequence[Job]
    threads: int
    memory: int
    cache: Path
    at_a_time: int | None = None

    @property
    def width(self) -> int:
        """Jobs at a time."""
        return min(self.at_a_time or len(self.jobs), len(self.jobs))

    @property
    def names(self) -> list[str]:
        """Names of the jobs, as words of bash."""
        return [shlex.quote(job_name(job)) for job in self.jobs]

    @property
    def mebibytes(self) -> int:
        """Memory of a job in MiB, rounded up to 100."""
        return -(-self.memory // (100 << 20)) * 100

    def loop(self, python: str, job: str) -> str:
        """Returns lines of bash that do a job, again where it has to be started again.

        Args:
          python: words that run this package.
          job: its name, an expression of bash.
        """
        words = " ".join(map(shlex.quote, work_words(self.root, "")[:-1]))
        return (
            f"for start in $(seq {MOST_STARTS}); do\n"
            f"  code=0\n"
            f'  {python} {words} "{job}" || code=$?\n'
            f"  # {AGAIN} and signals from within: the same job goes on; the others end it.\n"
            f"  case $code in {AGAIN} | 134 | 137 | 139) ;; *) break ;; esac\n"
            f"done\n"
        )


def render_slurm(plan: LaunchPlan) -> dict[str, str]:
    """Returns the scripts of an array job and of the job after it, by file name."""
    root = plan.root
    options = {
        "job-name": "rlgen-fleet",
        "array": f"0-{len(plan.jobs) - 1}%{plan.width}",
        "cpus-per-task": plan.threads,
        "mem": f"{plan.mebibytes}M",
        "time": f"{_HOURS}:00:00",
        "output": root / FOLDER / "job-%a.log",
        "open-mode": "append",
    }
    names = "\n".join(f"  {name}" for name in plan.names)
    body = f"JOBS=(\n{names}\n)\n{plan.loop(_python(), '${JOBS[$SLURM_ARRAY_TASK_ID]}')}exit $code\n"
    after = {
        "job-name": "rlgen-fleet-assemble",
        "cpus-per-task": ASSEMBLE_CORES,
        "mem": f"{plan.mebibytes + 4000}M",
        "time": "12:00:00",
        "output": root / FOLDER / "assemble.log",
        "open-mode": "append",
    }
    command = f"{_python()} fleet assemble {shlex.quote(str(root))}\n"
    return {
        "array.sh": _slurm_head(options, plan) + body,
        "assemble.sh": _slurm_head(after, plan) + command,
    }


def _slurm_head(options: dict[str, Any], plan: LaunchPlan) -> str:
    lines = [f"#SBATCH --{name}={value}" for name, value in options.items()]
    return "\n".join(
        [
            "#!/bin/bash",
            *lines,
            "#SBATCH --requeue",
            "set -u",
            f"export {CACHE_VARIABLE}={shlex.quote(str(plan.cache))}",
            "",
        ]
    )


def submit_command(root: Path, engine: str) -> str:
    """Returns the line that submits the scripts of a fleet, from any working directory.

    Args:
      root: folder of the fleet.
      engine: one of `RENDERERS`.
    """
    folder = shlex.quote(str(root / FOLDER))
    commands = {
        "slurm": f"job=$(sbatch --parsable {folder}/array.sh) && "
        f'sbatch --dependency="afterany:${{job%%;*}}" {folder}/assemble.sh',
        "skypilot": f"sky volumes apply {folder}/skypilot-volume.yaml && sky jobs launch {folder}/skypilot.yaml",
        "jobset": f"kubectl apply -f {folder}/jobset.yaml",
    }
    return commands[engine]


def render_skypilot(plan: LaunchPlan) -> dict[str, str]:
    """Returns a SkyPilot task whose nodes share out the jobs, and the volume that they share, by file name."""
    run = (
        f"export {CACHE_VARIABLE}={shlex.quote(str(plan.cache))}\n"
        f"JOBS=({' '.join(plan.names)})\n"
        "# Each node takes every n-th job.\n"
        "for ((i = SKYPILOT_NODE_RANK; i < ${#JOBS[@]}; i += SKYPILOT_NUM_NODES)); do\n"
        + _indented(plan.loop("rlgen", "${JOBS[$i]}"), 2)
        + "done\n"
        'if [ "$SKYPILOT_NODE_RANK" = 0 ]; then\n'
        "  # Waits for the jobs of the other nodes.\n"
        f"  rlgen fleet assemble {shlex.quote(str(plan.root))} --wait\n"
        "fi\n"
    )
    task = {
        "name": "rlgen-fleet",
        "num_nodes": plan.width,
        "resources": {
            "infra": "kubernetes",
            "cpus": f"{plan.threads}+",
            "memory": f"{-(-plan.mebibytes // 1024)}+",
            "image_id": f"docker:{IMAGE}",
        },
        "volumes": {str(plan.root.parent): VOLUME},
        "run": run,
    }
    volume = {
        "name": VOLUME,
        "type": "k8s-pvc",
        "infra": "kubernetes",
        "size": "100Gi",
        "config": {"access_mode": "ReadWriteMany"},
    }
    return {"skypilot.yaml": _yaml(task), "skypilot-volume.yaml": _yaml(volume)}


def render_jobset(plan: LaunchPlan) -> dict[str, str]:
    """Returns a Kubernetes JobSet: an indexed job with a pod for each job, and the export after it, by file name."""
    body = f"JOBS=({' '.join(plan.names)})\n{plan.loop('rlgen', '${JOBS[$JOB_COMPLETION_INDEX]}')}exit $code\n"
    command = f"rlgen fleet assemble {shlex.quote(str(plan.root))}\n"
    workers = _kubernetes_job(plan, body, plan.threads, plan.mebibytes)
    # A pod that was evicted goes on in another one; one that is refused does not.
    workers["spec"] |= {"completionMode": "Indexed", "completions": len(plan.jobs), "parallelism": plan.width}
    workers["spec"] |= {"backoffLimitPerIndex": 20, "maxFailedIndexes": len(plan.jobs)}
    assemble = _kubernetes_job(plan, command, ASSEMBLE_CORES, plan.mebibytes + 4000)
    jobset = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": "rlgen-fleet"},
        "spec": {
            "failurePolicy": {"maxRestarts": 3},
            "replicatedJobs": [
                {"name": "tasks", "replicas": 1, "template": workers},
                {
                    "name": "assemble",
                    "replicas": 1,
                    "dependsOn": [{"name": "tasks", "status": "Complete"}],
                    "template": assemble,
                },
            ],
        },
    }
    return {"jobset.yaml": _yaml(jobset)}


def _kubernetes_job(plan: LaunchPlan, script: str, cores: int, mebibytes: int) -> dict[str, Any]:
    needs = {"cpu": str(cores), "memory": f"{mebibytes}Mi"}
    container = {
        "name": "rlgen",
        "image": IMAGE,
        "command": ["bash", "-c", script],
        "env": [{"name": CACHE_VARIABLE, "value": str(plan.cache)}],
        "resources": {"requests": needs, "limits": {"memory": needs["memory"]}},
        "volumeMounts": [{"name": "fleet", "mountPath": str(plan.root.parent)}],
    }
    volume = {"name": "fleet", "persistentVolumeClaim": {"claimName": VOLUME}}
    pod = {"restartPolicy": "Never", "containers": [container], "volumes": [volume]}
    return {"spec": {"backoffLimit": 20, "template": {"spec": pod}}}


RENDERERS: dict[str, Callable[[LaunchPlan], dict[str, str]]] = {
    "slurm": render_slurm,
    "skypilot": render_skypilot,
    "jobset": render_jobset,
}


def write_scripts(plan: LaunchPlan, kind: str) -> list[Path]:
    """Writes the scripts of one kind into the folder of the fleet, and returns their paths.

    Args:
      plan: what they run.
      kind: a key of `RENDERERS`.
    """
    paths = []
    for name, text in RENDERERS[kind](plan).items():
        paths.append(plan.root / FOLDER / name)
        write_bytes(paths[-1], text.encode())
    return paths


def _python() -> str:
    return f"{shlex.quote(sys.executable)} -P -m rlgen"


def _indented(text: str, spaces: int) -> str:
    return "".join(f"{' ' * spaces}{line}" for line in text.splitlines(keepends=True))


class _Dumper(yaml.SafeDumper):
    """The writer of YAML with scripts as they are read, a line each."""


def _scalar(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _scalar)


def _yaml(value: dict[str, Any]) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=1000)
