"""`rlgen fleet` and its folder: what it stores, what it refuses by name, what `--overwrite` may remove.

Scripts for Slurm are written here, since that runs no job.
"""

import json
from pathlib import Path

import pytest

from rlgen.cli.main import main
from rlgen.core.ownership import only_writer
from rlgen.fleet.ledger import Ledger
from rlgen.fleet.plan import open_plan, task_folder, tasks_of


@pytest.fixture(autouse=True)
def environment(cache, placeholder_assets, monkeypatch):
    monkeypatch.setenv("RLGEN_CACHE", str(cache))
    monkeypatch.setenv("RLGEN_OFFLINE", "1")


def fleet(folder: Path, *words: str) -> None:
    main(["fleet", *words, "--engine", "slurm", "--out", str(folder)])


def refused(capsys, folder: Path, *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        fleet(folder, *words)
    error = capsys.readouterr().err.splitlines()[-1]
    assert stopped.value.code == 2 and error.startswith("rlgen: ")
    return error


def test_a_plan_is_stored_and_the_same_command_goes_on_with_it(tmp_path, capsys):
    folder = tmp_path / "fleet"
    words = ("libero_goal/7", "libero_spatial/5", "--placeholders", "--ppo.iterations", "9", "--tries", "2")
    fleet(folder, *words)
    plan = open_plan(folder)
    assert [(task.suite, task.index) for task in tasks_of(plan)] == [("libero_spatial", 5), ("libero_goal", 7)]
    assert (plan.config.ppo.iterations, plan.tries, plan.threads, plan.source) == (9, 2, 1, "diffusion")
    assert plan.config.policy.network == "mlp" and plan.assets["kind"] == "placeholder"
    assert capsys.readouterr().out.startswith(f"job=$(sbatch --parsable {folder}/launch/array.sh)")
    fleet(folder, *words)
    fleet(folder)  # from what is stored, the assets as well
    assert open_plan(folder) == plan
    assert "changed" not in capsys.readouterr().err


def test_jobs_that_have_ended_are_not_run_again(tmp_path, capsys):
    folder = tmp_path / "fleet"
    fleet(folder, "libero_goal/7", "libero_spatial/5", "--placeholders")
    first, second = tasks_of(open_plan(folder))
    Ledger(task_folder(folder, first) / "ledger.jsonl", task=first.id).append("done", **{"try": 0}, figures={})
    fleet(folder)
    script = (folder / "launch" / "array.sh").read_text()
    assert second.id in script and first.id not in script and "--array=0-0%1" in script


REFUSED = {
    ("--ppo.iterations", "5"): "config.ppo.iterations (30 -> 5)",
    ("--source", "gaussian"): "config.policy.algorithm (diffusion -> gaussian)",
    ("--ppo.chunks", "9"): "fit_chunks (True -> False)",
    ("--together", "2"): "together (1 -> 2)",
    ("libero_goal/2",): "tasks without libero_goal/turn_on_the_stove",
}


def test_other_settings_for_a_folder_in_use_are_refused_by_name(tmp_path, capsys):
    folder = tmp_path / "fleet"
    fleet(folder, "libero_goal/7", "--placeholders")
    before = (folder / "fleet.json").read_bytes()
    for words, message in REFUSED.items():
        assert message in refused(capsys, folder, *words)
    assert (folder / "fleet.json").read_bytes() == before


def test_tasks_that_are_trained_together_are_one_job(tmp_path, capsys):
    folder = tmp_path / "fleet"
    fleet(folder, "libero_goal/7", "libero_goal/2", "libero_spatial/5", "--placeholders", "--together", "2")
    alone, first, second = (task.id for task in tasks_of(open_plan(folder)))
    for words in ((), ("--together", "2")):
        fleet(folder, *words)
        script = (folder / "launch" / "array.sh").read_text()
        assert f"  {first},{second}\n" in script and f"  {alone}\n" in script and "--array=0-1%2" in script
    assert open_plan(folder).together == 2
    other = tmp_path / "clone"
    words = ("libero_goal/7", "--placeholders", "--together", "2", "--source", "clone")
    assert "--source clone: expected 1" in refused(capsys, other, *words)
    assert not other.exists()


def test_more_tasks_and_tries_are_said_and_stored(tmp_path, capsys):
    folder = tmp_path / "fleet"
    fleet(folder, "libero_goal/7", "--placeholders")
    fleet(folder, "libero_goal/7", "libero_goal/2", "--tries", "7")
    assert f"changed in {folder}: 2 tasks, tries (3 -> 7)" in capsys.readouterr().err
    assert open_plan(folder).tries == 7


def test_what_is_overwritten_is_a_fleet_and_nothing_else(tmp_path, capsys):
    folder = tmp_path / "fleet"
    fleet(folder, "libero_goal/7", "--placeholders")
    (folder / "tasks").mkdir()
    (folder / "tasks" / "notes.txt").write_text("mine")
    assert "notes.txt is not part of a fleet" in refused(
        capsys, folder, "libero_goal/2", "--placeholders", "--overwrite"
    )
    (folder / "tasks" / "notes.txt").unlink()
    fleet(folder, "libero_goal/2", "--placeholders", "--overwrite", "--preset", "tiny")
    assert open_plan(folder).config.demos.episodes == 2 and len(open_plan(folder).tasks) == 1
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter1.txt").write_text("x")
    for more in ((), ("--overwrite",)):
        assert str(thesis) in refused(capsys, thesis, "libero_goal/2", "--placeholders", *more)
    assert [path.name for path in thesis.iterdir()] == ["chapter1.txt"]


def test_two_commands_do_not_share_a_folder(tmp_path, capsys):
    folder = tmp_path / "fleet"
    with only_writer(folder):
        assert "another process is writing here" in refused(capsys, folder, "libero_goal/7", "--placeholders")


def test_scripted_demonstrations_are_as_many_as_episodes_would_be_collected(tmp_path):
    for words, count in (((), 50), (("--demos.episodes", "7"), 7), (("--collect.episodes", "9"), 9)):
        folder = tmp_path / str(count)
        fleet(folder, "libero_goal/7", "--placeholders", "--source", "scripted", *words)
        fleet(folder)
        assert json.loads((folder / "fleet.json").read_text())["config"]["demos"]["episodes"] == count


def test_the_status_says_what_other_tasks_would_cost(tmp_path, capsys):
    folder = tmp_path / "fleet"
    fleet(folder, "libero_goal/7", "--placeholders")
    [task] = tasks_of(open_plan(folder))
    costs = {"core_seconds": 3600.0, "device_seconds": 0.0, "wall_seconds": 3600.0}
    Ledger(task_folder(folder, task) / "ledger.jsonl", task=task.id).append("done", **{"try": 0}, figures={}, **costs)
    capsys.readouterr()
    main(["fleet", "status", str(folder), "--estimate", "libero_goal"])
    assert "9 tasks would cost 9.00 core-hours, estimated from one task" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["fleet", "status", str(folder), "--device", str(folder / "fleet.json")])
    assert "--estimate all" in capsys.readouterr().err.splitlines()[-1]
