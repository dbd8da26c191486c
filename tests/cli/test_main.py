import json
import subprocess
import sys

import pytest

from rlgen.cli.main import main


def run_cli(capsys, *words):
    """Exit code and standard error of a command."""
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    return stopped.value.code, capsys.readouterr().err


def one_line(text: str) -> bool:
    return text.startswith("rlgen: ") and text.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nonsense"], "unknown command 'nonsense'"),
        (["quickstart", "--task", "pick_up_the_buter"], "nearest are"),
        (["quickstart", "--preset", "huge"], "expected one of quickstart, smoke"),
        (["quickstart", "--assets", "/nowhere/at/all"], "/nowhere/at/all"),
        (["bc"], "holds no run"),
        (["ppo"], "holds no run"),
        (["ppo", "pick_up_the_buter"], "nearest are"),
        (["ppo", "libero_goal/7", "--preset", "huge"], "expected one of state, narrow, vision, tiny"),
        (["ppo", "libero_goal/7", "--assets", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.setenv("RLGEN_CACHE", str(tmp_path / "cache"))
    run = [] if words == ["nonsense"] else ["--run", str(tmp_path / "run")]
    code, error = run_cli(capsys, *words, *run)
    assert code == 2 and message in error and one_line(error)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_left_alone(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("RLGEN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years")
    code, error = run_cli(capsys, "quickstart", "--placeholders", "--run", str(tmp_path / "run"))
    assert code == 2 and "not an rlgen run" in error
    assert (tmp_path / "run" / "thesis.txt").read_text() == "years"


def test_a_finished_run_is_refused_naming_both_ways_out(capsys, tmp_path, monkeypatch):
    from rlgen.configs.schema import Config
    from rlgen.pipeline.stages import STAGES, is_finished
    from rlgen.training.run import create_run

    monkeypatch.setenv("RLGEN_CACHE", str(tmp_path / "cache"))
    run = create_run(tmp_path / "run", Config(), {"kind": "folder", "path": str(tmp_path), "label": "x"})
    for stage in STAGES:
        run.stage_folder(stage)
        run.finish(stage, {})
    code, error = run_cli(capsys, "quickstart", "--run", str(tmp_path / "run"))
    assert code == 2 and "--resume" in error and "--overwrite" in error
    assert is_finished(run)


def test_a_change_under_a_finished_stage_is_refused(capsys, tmp_path, monkeypatch):
    from rlgen.configs.schema import Config
    from rlgen.training.run import create_run, open_run

    monkeypatch.setenv("RLGEN_CACHE", str(tmp_path / "cache"))
    run = create_run(tmp_path / "run", Config(), {"kind": "folder", "path": str(tmp_path), "label": "x"})
    run.stage_folder("demos")
    words = ("bc", "--run", str(tmp_path / "run"), "--demos.episodes", "7")
    code, error = run_cli(capsys, *words)
    assert code == 2 and "demos differs" in error
    assert open_run(tmp_path / "run").config == Config()


def test_tasks_lists_all_of_them():
    words = [sys.executable, "-m", "rlgen", "tasks", "--json"]
    rows = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    assert len(rows) == 130 and rows[16]["id"].startswith("libero_object/")


def test_demos_from_a_file_is_an_import_and_not_a_stage(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("RLGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RLGEN_OFFLINE", "1")
    for words in (["--from", str(tmp_path)], [f"--from={tmp_path}"]):
        code, error = run_cli(capsys, "demos", *words, "--out", str(tmp_path / "out"), "--placeholders")
        assert code == 2 and "no .hdf5 or .h5 file" in error and one_line(error)
    assert not (tmp_path / "out").exists()
    code, error = run_cli(capsys, "demos", "--from", str(tmp_path), "--no-replay", "--pictures", "--placeholders")
    assert code == 2 and "leave out --pictures or --no-replay" in error and one_line(error)


@pytest.mark.parametrize(
    ("command", "forms"),
    [
        ("vla-train", ["rlgen vla-train --data X --help"]),
        ("demos", ["rlgen demos NAME --help", "rlgen demos --from X --help"]),
        ("bc", []),
    ],
)
def test_a_stages_help_names_the_forms_that_need_no_run(capsys, command, forms):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    # The help breaks lines where it likes; what precedes its options is looked at.
    told = " ".join(capsys.readouterr().out.split("─ options")[0].split())
    for form in forms:
        assert form in told
    assert forms or "NAME" not in told
