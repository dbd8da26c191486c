"""Nothing that is not of rlgen is removed or replaced, whichever command is run with whatever options."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rlgen.cli.main import main
from rlgen.configs.presets import run_presets
from rlgen.core.ownership import only_writer
from rlgen.pipeline import context
from rlgen.pipeline.stages import STAGES
from rlgen.training.run import create_run, open_run

STOVE = "libero_goal/turn_on_the_stove"
BENCHMARKS = ("env", "sampler", "update", "dataset", "vla", "serve")


@pytest.fixture(autouse=True)
def environment(cache, monkeypatch):
    monkeypatch.setenv("RLGEN_CACHE", str(cache))
    monkeypatch.setenv("RLGEN_OFFLINE", "1")


@pytest.fixture
def stages(monkeypatch):
    """The stages that a command runs, which do nothing here."""
    ran = []
    monkeypatch.setattr(context, "run_stages", lambda context, names, progress: ran.extend(names))
    return ran


def fails(capsys, *argv) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in argv])
    error = capsys.readouterr().err.splitlines()[-1]
    assert stopped.value.code == 2 and error.startswith("rlgen: ")
    return error


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def finished_run(folder: Path, assets, **demos):
    config = run_presets()["smoke"]
    config = replace(config, demos=replace(config.demos, **demos))
    run = create_run(folder, config, {"kind": "placeholder", "path": str(assets.path), "label": assets.label})
    for stage in STAGES:
        run.stage_folder(stage)
        run.finish(stage, {"iterations": 1})
    return run


@pytest.mark.parametrize("record", ['{"wandb": 1}', "not JSON", '{"kind": "rlgen-run", ', None])
@pytest.mark.parametrize("command", [["quickstart", "--preset", "smoke"], ["expert", "libero_goal/7"]])
def test_a_folder_of_somebody_stays_as_it_is(capsys, tmp_path, stages, command, record):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter1.txt").write_text("x")
    if record is not None:
        (thesis / "run.json").write_text(record)
    before = contents(thesis)
    error = fails(capsys, *command, "--placeholders", "--overwrite", "--run", thesis)
    assert f"{thesis} is there and is not a run that rlgen wrote" in error
    assert contents(thesis) == before and not stages


def test_a_run_is_replaced_by_one_with_other_settings(tmp_path, stages, placeholder_assets):
    run = finished_run(tmp_path / "run", placeholder_assets)
    main(["quickstart", "--placeholders", "--preset", "smoke", "--seed", "5", "--overwrite", "--run", str(run.folder)])
    assert stages == list(STAGES)
    assert open_run(run.folder).config.seed == 5 and list(contents(run.folder)) == ["run.json"]


def test_what_a_run_must_not_lose_is_named(capsys, tmp_path, stages, placeholder_assets, monkeypatch):
    run = finished_run(tmp_path / "runs" / "one", placeholder_assets)
    again = ("quickstart", "--placeholders", "--preset", "smoke", "--overwrite", "--run", run.folder)
    given = run.folder / "demos" / "mine.hdf5"
    given.write_text("x")
    before = contents(tmp_path)
    assert "is or holds an input of this command" in fails(capsys, *again, "--demos.file", given)
    # What a single stage would remove is looked at as well.
    repeat = ("run", "demos", "--overwrite", "--run", run.folder, "--demos.file", given)
    assert "is or holds an input of this command" in fails(capsys, *repeat)
    for inside in (run.folder, run.folder / "ppo"):
        monkeypatch.chdir(inside)
        assert "is or holds the working directory" in fails(capsys, *again)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(run.folder))
    assert "is or holds the home directory" in fails(capsys, *again)
    monkeypatch.setenv("HOME", str(tmp_path))
    (run.folder / "notes.txt").write_text("x")
    assert "notes.txt is not part of a run" in fails(capsys, *again)
    (run.folder / "notes.txt").rename(run.folder / "ppo" / "notes.txt")
    given.rename(tmp_path / "away")
    assert "ppo/notes.txt is not part of a run" in fails(capsys, *again)
    assert "ppo/notes.txt is not part of a run" in fails(capsys, "run", "bc", "--overwrite", "--run", run.folder)
    (run.folder / "ppo" / "notes.txt").unlink()
    (tmp_path / "away").rename(given)
    assert contents(tmp_path) == before and not stages


def test_a_repetition_that_is_refused_removes_nothing(capsys, tmp_path, stages, placeholder_assets):
    run = finished_run(tmp_path / "run", placeholder_assets)
    before = contents(run.folder)
    error = fails(capsys, "run", "ppo", "--run", run.folder, "--overwrite", "--demos.episodes", "7")
    assert "demos.episodes (15 -> 7)" in error and f"rlgen run demos --run {run.folder} --overwrite" in error
    assert contents(run.folder) == before
    main(["run", "ppo", "--run", str(run.folder), "--overwrite", "--ppo.iterations", "7"])
    assert open_run(run.folder).config.ppo.iterations == 7 and stages == ["ppo"]
    assert run.done("bc") and not run.done("ppo") and not run.done("collect")


@pytest.mark.parametrize("command", [["quickstart"], ["expert", "libero_goal/7"], ["run", "ppo", "--overwrite"]])
def test_a_second_process_on_a_run_is_refused(capsys, tmp_path, stages, placeholder_assets, command):
    run = finished_run(tmp_path / "run", placeholder_assets)
    with only_writer(run.folder):
        error = fails(capsys, *command, "--run", run.folder)
    assert f"{run.folder}: another process is writing here; wait for it or choose another --run" in error
    assert all(run.done(stage) for stage in STAGES)


@pytest.mark.parametrize(
    "command", [["quickstart", "--placeholders", "--run"], ["demos", "record", STOVE, "--placeholders", "--out"]]
)
def test_a_file_where_a_folder_is_to_be_is_one_line(capsys, tmp_path, command):
    (tmp_path / "mine").write_text("x")
    error = fails(capsys, *command, tmp_path / "mine")
    assert f"{tmp_path / 'mine'} is a file; move it away or choose another {command[-1]}" in error
    assert (tmp_path / "mine").read_text() == "x"


@pytest.mark.parametrize("text", ["years of work", "[1, 2]", json.dumps({"results": 1})])
@pytest.mark.parametrize("command", [*(["bench", name] for name in BENCHMARKS), ["scenes", "check"]], ids=" ".join)
def test_a_report_replaces_no_file_of_somebody(capsys, tmp_path, command, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    error = fails(capsys, *command, "--json", path)
    assert f"{path} is there and is not such a report that rlgen wrote" in error and "--json" in error
    assert path.read_text() == text
    assert "is a folder" in fails(capsys, *command, "--json", tmp_path)


def test_a_merged_model_goes_into_a_new_folder(capsys, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "rlgen.json").write_text("{}")
    assert "is there already" in fails(capsys, "vla", "merge", tmp_path / "model", tmp_path / "mine")
    assert (tmp_path / "mine" / "rlgen.json").read_text() == "{}"
