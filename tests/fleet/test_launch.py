"""Scripts that run the same jobs elsewhere: their options are read, and run with a program in place of rlgen."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rlgen.fleet.job import AGAIN
from rlgen.fleet.launch import (
    RENDERERS,
    LaunchPlan,
    render_jobset,
    render_skypilot,
    render_slurm,
    submit_command,
    write_scripts,
)
from rlgen.libero.tasks.suites import find_tasks

TASKS = find_tasks("libero_goal/7", "libero_spatial/5", "libero_10/0")
# Writes what it was asked for, and ends with the codes that its folder has for it, one after the other.
PROGRAM = """#!/bin/bash
echo "$@" >> asked
code=$(head -1 codes); sed -i 1d codes
exit ${code:-0}
"""


def plan(root: Path, jobs: int | None = 2) -> LaunchPlan:
    jobs_of_tasks = [(task,) for task in TASKS]
    return LaunchPlan(
        root, jobs_of_tasks, threads=2, memory=1_650_000_000, cache=Path("/shared/my cache"), at_a_time=jobs
    )


def options(script: str) -> dict[str, str]:
    return dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", script, flags=re.M))


def run(script: str, folder: Path, codes: tuple[int, ...] = (), **environment) -> tuple[int, list[str]]:
    """Runs a script with a program in place of rlgen; returns its exit code, and what the program was asked for."""
    program = folder / "rlgen"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    (folder / "codes").write_text("".join(f"{code}\n" for code in codes))
    script = script.replace(f"{shlex.quote(sys.executable)} -P -m rlgen", "rlgen")
    variables = {"PATH": f"{folder}:/usr/bin:/bin", **{name: str(value) for name, value in environment.items()}}
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=variables)
    return done.returncode, (folder / "asked").read_text().splitlines()


@pytest.mark.parametrize("name", ["array.sh", "assemble.sh"])
def test_slurm_scripts_are_bash_with_options_of_slurm(tmp_path, name):
    scripts = render_slurm(plan(tmp_path / "my fleet"))
    assert subprocess.run(["bash", "-n"], input=scripts[name], text=True, capture_output=True).returncode == 0
    found = options(scripts[name])
    assert "requeue" in found and found["open-mode"] == "append" and scripts[name].startswith("#!/bin/bash\n#SBATCH")
    # Slurm reads options up to the first line that is neither a comment nor blank.
    head = scripts[name].split("\nset -u")[0]
    assert len(options(head)) == len(found)


def test_the_array_has_a_job_for_each_task_of_the_plans_size(tmp_path):
    found = options(render_slurm(plan(tmp_path))["array.sh"])
    assert (found["array"], found["cpus-per-task"], found["mem"]) == ("0-2%2", "2", "1600M")
    assert options(render_slurm(plan(tmp_path, None))["array.sh"])["array"] == "0-2%3"


@pytest.mark.parametrize(
    ("codes", "starts", "end"),
    [((), 1, 0), ((AGAIN, 137, 0), 3, 0), ((2,), 1, 2), ((143,), 1, 143), ((139, 1), 2, 1)],
)
def test_a_job_of_the_array_does_its_task_and_again_where_it_was_killed(tmp_path, codes, starts, end):
    script = render_slurm(plan(tmp_path / "my fleet"))["array.sh"]
    code, asked = run(script, tmp_path, codes, SLURM_ARRAY_TASK_ID=1)
    assert code == end and asked == [f"fleet work {tmp_path / 'my fleet'} --task {TASKS[1].id}"] * starts


def test_the_datasets_follow_when_all_jobs_have_ended(tmp_path):
    _, asked = run(render_slurm(plan(tmp_path))["assemble.sh"], tmp_path)
    assert asked == [f"fleet assemble {tmp_path}"]
    line = submit_command(tmp_path / "my fleet", "slurm")
    assert subprocess.run(["bash", "-n"], input=line, text=True).returncode == 0
    (tmp_path / "sbatch").write_text('#!/bin/bash\necho "$@" >> calls\necho "17;cluster"\n')
    (tmp_path / "sbatch").chmod(0o755)
    subprocess.run(["bash", "-c", line], cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True)
    folder = tmp_path / "my fleet" / "launch"
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"--parsable {folder}/array.sh",
        f"--dependency=afterany:17 {folder}/assemble.sh",
    ]


def test_nodes_of_skypilot_share_out_the_tasks_and_the_first_one_assembles(tmp_path):
    files = render_skypilot(plan(tmp_path / "volume" / "fleet"))
    task, volume = yaml.safe_load(files["skypilot.yaml"]), yaml.safe_load(files["skypilot-volume.yaml"])
    assert task["num_nodes"] == 2 and task["resources"]["cpus"] == "2+"
    assert task["volumes"] == {str(tmp_path / "volume"): volume["name"]}
    asked = {}
    for rank in range(2):
        folder = tmp_path / str(rank)
        folder.mkdir()
        _, asked[rank] = run(task["run"], folder, SKYPILOT_NODE_RANK=rank, SKYPILOT_NUM_NODES=2)
    root = tmp_path / "volume" / "fleet"
    assert asked[0] == [
        *(f"fleet work {root} --task {TASKS[index].id}" for index in (0, 2)),
        f"fleet assemble {root} --wait",
    ]
    assert asked[1] == [f"fleet work {root} --task {TASKS[1].id}"]


def test_a_jobset_has_a_pod_for_each_task_and_the_export_after_them(tmp_path):
    jobset = yaml.safe_load(render_jobset(plan(tmp_path / "volume" / "fleet"))["jobset.yaml"])
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    tasks, after = jobset["spec"]["replicatedJobs"]
    assert after["dependsOn"] == [{"name": tasks["name"], "status": "Complete"}] and "dependsOn" not in tasks
    job = tasks["template"]["spec"]
    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 3, 2)
    [container] = job["template"]["spec"]["containers"]
    assert container["resources"]["requests"] == {"cpu": "2", "memory": "1600Mi"}
    [mount] = container["volumeMounts"]
    assert mount["mountPath"] == str(tmp_path / "volume")
    code, asked = run(container["command"][2], tmp_path, (AGAIN,), JOB_COMPLETION_INDEX=2)
    assert code == 0 and asked == [f"fleet work {tmp_path}/volume/fleet --task {TASKS[2].id}"] * 2


@pytest.mark.parametrize("kind", RENDERERS)
def test_scripts_lie_in_the_folder_of_the_fleet(tmp_path, kind):
    paths = write_scripts(plan(tmp_path), kind)
    assert paths and all(path.parent == tmp_path / "launch" and path.read_text() for path in paths)
    # The line that submits them names all of them, wherever it is pasted.
    words = shlex.split(submit_command(tmp_path, kind).replace(")", " "))
    assert {str(path) for path in paths} <= set(words)
