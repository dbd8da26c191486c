"""`rlgen fleet` as a user runs it: the same bytes whatever engine, number of jobs, kills and full disks come between.

By default the datasets of a fleet whose demonstrations are there; whole commands, which start processes, are `slow`.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rlgen.configs.presets import expert_presets
from rlgen.configs.schema import DemosConfig, ExportConfig
from rlgen.data.card import read_card
from rlgen.data.dataset import open_dataset
from rlgen.demos.trials import Job, run_trial, write_recording
from rlgen.fleet.assemble import assemble
from rlgen.fleet.ledger import Ledger, read_ledger
from rlgen.fleet.plan import make_plan, run_folder, store_plan, task_folder
from rlgen.fleet.status import write_page
from rlgen.fleet.together import work
from rlgen.libero.scenes.assets import find_assets
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.tasks.suites import find_task
from rlgen.training.metrics import read_metrics
from rlgen.training.run import create_run

STOVE, OTHER = "libero_goal/7", "libero_90/KITCHEN_SCENE3_turn_on_the_stove"
DEMONSTRATIONS = ("--source", "scripted", "--demos.clean", "--demos.episodes", "1", "--export.image-size", "16")
EXPERTS = (
    *("--preset", "tiny", "--demos.clean", "--demos.episodes", "4", "--export.image-size", "16"),
    *("--policy.network", "mlp", "--policy.mlp-widths", "128", "128", "--policy.critic.widths", "32"),
    *("--policy.diffusion.denoising-steps", "2"),
    *("--bc.episodes", "4", "--bc.optimizer-steps", "800", "--bc.batch", "64"),
    *("--ppo.environments", "4", "--ppo.iterations", "2", "--ppo.evaluate-episodes", "4", "--ppo.score-episodes", "4"),
    *("--collect.episodes", "2", "--collect.max-trials", "25"),
    # As many in both tasks, whose horizons differ, so that they can be trained in one program.
    *("--ppo.chunks", "20"),
)
PATIENCE = 900


def start(folder: Path, cache: Path, *words: str, tasks: tuple[str, ...] = (STOVE,), **options) -> subprocess.Popen:
    environment = {**os.environ, "RLGEN_CACHE": str(cache), "RLGEN_OFFLINE": "1", **options.pop("variables", {})}
    command = [sys.executable, "-m", "rlgen", "fleet", *tasks, "--placeholders", "--out", str(folder), *words]
    log = open(folder.with_suffix(".log"), "a")  # noqa: SIM115
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log, **options)


def log_of(folder: Path) -> str:
    return folder.with_suffix(".log").read_text()


def finish(folder: Path, cache: Path, *words: str, **options) -> None:
    assert start(folder, cache, *words, **options).wait(timeout=PATIENCE) == 0, log_of(folder)[-2000:]


def at_work(folder: Path) -> list[int]:
    """The processes of jobs."""
    found = []
    for path in folder.glob("tasks/*/running.json"):
        try:
            found.append(json.loads(path.read_text())["process"])
        except (OSError, ValueError):
            continue
    return found


def wait_for_work(folder: Path, process: subprocess.Popen) -> int:
    """The first process at work that is there."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if at_work(folder):
            return at_work(folder)[0]
        time.sleep(0.02)
    raise AssertionError(log_of(folder)[-2000:])


def datasets(folder: Path) -> dict[str, str]:
    """The hashes of all files of datasets."""
    files = sorted(path for path in (folder / "datasets").rglob("*") if path.is_file() and path.parent.name == "1.0.0")
    assert files
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def lines_of(folder: Path) -> list[dict]:
    return [line for path in sorted(folder.glob("tasks/*/ledger.jsonl")) for line in read_ledger(path)]


def test_what_is_done_becomes_a_dataset_once_and_the_same_by_any_number_of_threads(tmp_path, placeholder_assets, cache):
    task, given_up, waiting = (find_task(f"libero_goal/{index}") for index in (7, 2, 8))
    config = replace(expert_presets()["tiny"], workers=1)
    config = replace(config, demos=DemosConfig(episodes=1, clean=True), export=ExportConfig(image_size=16, shards=1))
    assets = {**asdict(placeholder_assets), "path": str(placeholder_assets.path)}
    plan = make_plan([task, given_up, waiting], config, source="scripted", tries=1, assets=assets, demonstrations=1)
    made = []
    for threads in (1, 2):
        root = tmp_path / str(threads)
        store_plan(root, plan)
        if threads == 1:
            record_demonstrations(root, plan, task, cache)
        else:
            shutil.copytree(task_folder(tmp_path / "1", task), task_folder(root, task))
        work(root, [task], cache, print)
        options = {"workers": threads, "assets": placeholder_assets, "on_progress": lambda *_: None}
        made.append(assemble(root, plan, cache, **options))
        assert made[-1].anew
        [folder] = made[-1].folders
        assert read_card(folder)["missing_tasks"] == {task.id: "not done yet" for task in (given_up, waiting)}
        ledger = Ledger(task_folder(root, given_up) / "ledger.jsonl", task=given_up.id)
        ledger.append("failed", **{"try": 0}, stage="demos", reason=f"{root.absolute()}/tasks/x: no demonstration")
        # What is stored of the episodes stays, and what the card says of them; where the fleet lies is no part of it.
        assert not assemble(root, plan, cache, **options).anew
        reason = "given up after 1 try: tasks/x: no demonstration"
        assert read_card(folder)["missing_tasks"] == {given_up.id: reason, waiting.id: "not done yet"}
        assert f"| {given_up.id} | {reason} |" in (folder / "DATASET.md").read_text()
    [[folder], _] = [assembled.folders for assembled in made]
    assert len(open_dataset(folder)) == 1 and folder.parent.name == "libero_goal_no_noops"
    assert datasets(tmp_path / "1") == datasets(tmp_path / "2")
    [state] = [state for state in made[0].states if state.state == "done"]
    assert state.figures["scripted"]["successes"] == 1
    assert "data:image/gif;base64," in write_page(tmp_path / "1", plan, made[0].states).read_text()


def record_demonstrations(root: Path, plan, task, cache: Path) -> None:
    """Does what the stage `demos` of the first try does, in this process."""
    run = create_run(run_folder(root, task, 0), plan.run_config(task, 0), plan.assets)
    scene = load_scene(task, find_assets(placeholders=True, cache=cache), cache)
    job = Job(scene.folder, "train", 0, "exact", clean=True)
    results = [run_trial(job, root / "trials", 0)]
    write_recording(run.stage_folder("demos") / "demos.hdf5", scene, root / "trials", results)
    run.finish("demos", {"episodes": 1, "tried": 1, "mean_length": float(results[0].control_steps)})


@pytest.mark.slow
def test_demonstrations_become_a_dataset_though_their_process_is_killed(tmp_path, cache, kernels):
    folder = tmp_path / "fleet"
    process = start(folder, cache, *DEMONSTRATIONS)
    os.kill(wait_for_work(folder, process), signal.SIGKILL)
    assert process.wait(timeout=PATIENCE) == 0, log_of(folder)[-2000:]
    [stopped, stage, done] = lines_of(folder)
    assert (stopped["why"], stage["stage"], done["kind"]) == ("killed", "demos", "done")
    assert done["figures"]["scripted"]["successes"] == 1 and stage["core_seconds"] > 0.1
    [dataset] = (folder / "datasets").glob("*/1.0.0")
    assert len(open_dataset(dataset)) == 1 and dataset.parent.name == "libero_goal_no_noops"
    page = (folder / "index.html").read_text()
    assert "data:image/gif;base64," in page and "1 done" in page
    assert log_of(folder).splitlines()[-1] == str(dataset)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, cache, kernels):
    """Experts for two tasks, one after the other and by one processor alone."""
    folder = tmp_path_factory.mktemp("fleets") / "unbroken"
    only = {min(os.sched_getaffinity(0))}
    finish(folder, cache, *EXPERTS, "--jobs", "1", tasks=(STOVE, OTHER),
           preexec_fn=lambda: os.sched_setaffinity(0, only))  # fmt: skip
    return folder


@pytest.mark.slow
def test_jobs_at_a_time_kills_and_interruptions_change_no_byte(unbroken, tmp_path, cache):
    folder, draw = tmp_path / "killed", random.Random(0)
    process = start(folder, cache, *EXPERTS, "--jobs", "2", tasks=(OTHER, STOVE))
    for kill in range(10):
        wait_for_work(folder, process)
        time.sleep(draw.uniform(2, 15))
        if process.poll() is not None:
            break
        if kill % 5 == 4:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
            assert log_of(folder).splitlines()[-1] == "interrupted; the same command resumes where it was"
            process = start(folder, cache, *EXPERTS, "--jobs", "2", tasks=(OTHER, STOVE))
        for number in at_work(folder)[:1]:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
    assert process.wait(timeout=PATIENCE) == 0, log_of(folder)[-2000:]
    assert datasets(folder) == datasets(unbroken)
    [dataset] = (folder / "datasets").glob("libero_goal*/1.0.0")
    [rate] = read_card(dataset)["success_rate"].values()
    assert (rate["on"], rate["trials"]) == ("the stored initial states", 4)
    figures = [[line["figures"] for line in lines_of(where) if line["kind"] == "done"] for where in (folder, unbroken)]
    assert figures[0] == figures[1] and len(figures[0]) == 2
    assert any(line.get("why") == "killed" for line in lines_of(folder))


@pytest.mark.slow
def test_experts_together_are_those_alone_though_their_process_is_killed(unbroken, tmp_path, cache):
    folder, draw = tmp_path / "together", random.Random(1)
    process = start(folder, cache, *EXPERTS, "--together", "2", "--jobs", "1", tasks=(STOVE, OTHER))
    for _ in range(5):
        number = wait_for_work(folder, process)
        time.sleep(draw.uniform(2, 15))
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue
    assert process.wait(timeout=PATIENCE) == 0, log_of(folder)[-2000:]
    ends = [[line for line in lines_of(where) if line["kind"] == "done"] for where in (folder, unbroken)]
    for ours, theirs in zip(*ends, strict=True):
        for name in ("iterations", "ended", "noise", "demos"):
            assert ours["figures"][name] == theirs["figures"][name]
    for task in (STOVE, OTHER):
        runs = [run_folder(where, find_task(task), 0) / "ppo" / "metrics.jsonl" for where in (folder, unbroken)]
        ours, theirs = (read_metrics(path)[-1] for path in runs)
        assert ours["value_loss"] == pytest.approx(theirs["value_loss"], rel=1e-3) and ours["experts"] == 2
    assert not any(line["kind"] == "failed" for line in lines_of(folder))


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(tmp_path, cache, kernels):
    folder = tmp_path / "full"
    command = f"ulimit -f 60; exec {sys.executable} -m rlgen fleet {STOVE} --placeholders --out {folder}"
    words = " ".join(DEMONSTRATIONS)
    environment = {**os.environ, "RLGEN_CACHE": str(cache), "RLGEN_OFFLINE": "1"}
    done = subprocess.run(["bash", "-c", f"{command} {words}"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("rlgen: "), done.stderr
    assert "Traceback" not in done.stderr and "File too large" in done.stderr.splitlines()[-1]
    finish(folder, cache, *DEMONSTRATIONS)
    finish(tmp_path / "roomy", cache, *DEMONSTRATIONS)
    assert datasets(folder) == datasets(tmp_path / "roomy")
    assert not any(line["kind"] == "failed" for line in lines_of(folder))


@pytest.mark.slow
def test_the_clone_collects_episodes_of_its_own(unbroken, tmp_path, cache):
    folder = tmp_path / "clone"
    finish(folder, cache, *EXPERTS, "--source", "clone")
    [done] = [line for line in lines_of(folder) if line["kind"] == "done"]
    # The same clone, from the same states, as before PPO.
    [other] = [line for line in lines_of(unbroken) if line["kind"] == "done" and line["task"] == done["task"]]
    assert done["figures"]["clone"] == other["figures"]["clone"] and "expert" not in done["figures"]
    assert datasets(folder) != datasets(unbroken)


@pytest.mark.slow
def test_a_node_of_ray_is_lost_and_no_byte_changes(tmp_path, cache, kernels):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    # What an engine runs is the same for every source; demonstrations take the least time.
    words = (*DEMONSTRATIONS[:-3], "20", *DEMONSTRATIONS[-2:])
    folder, memory = tmp_path / "ray", {"num_cpus": 1, "memory": 4 << 30, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=memory)
    try:
        node = cluster.add_node(**memory)
        cluster.wait_for_nodes()
        variables = {"RAY_ADDRESS": cluster.address}
        process = start(folder, cache, *words, "--engine", "ray", tasks=(STOVE, OTHER), variables=variables)
        deadline = time.monotonic() + PATIENCE
        while len(at_work(folder)) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(at_work(folder)) == 2, log_of(folder)[-2000:]
        time.sleep(2)
        cluster.remove_node(node, allow_graceful=False)
        assert process.wait(timeout=PATIENCE) == 0, log_of(folder)[-2000:]
    finally:
        cluster.shutdown()
    assert any(line.get("why") == "killed" for line in lines_of(folder))
    finish(tmp_path / "local", cache, *words, tasks=(STOVE, OTHER))
    assert datasets(folder) == datasets(tmp_path / "local")
