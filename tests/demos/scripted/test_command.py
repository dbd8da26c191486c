"""`rlgen demos record` as a user meets it."""

import json
from pathlib import Path

import pytest

from rlgen.cli.main import main
from rlgen.core.ownership import only_writer
from rlgen.data.formats.hdf5.reader import read_demos

STOVE = "libero_goal/turn_on_the_stove_demo.hdf5"


def fails(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["demos", "record", *argv])
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    return error.splitlines()[-1]


@pytest.fixture
def options(cache: Path, tmp_path: Path, monkeypatch) -> list[str]:
    monkeypatch.setenv("RLGEN_CACHE", str(cache))
    return ["--placeholders", "--clean", "--physics", "fast", "--out", str(tmp_path)]


def test_a_task_is_recorded_once(options, tmp_path, capsys):
    main(["demos", "record", "libero_goal/turn_on_the_stove", "--episodes", "2", "--workers", "1", *options])
    assert "2 demonstrations of" in capsys.readouterr().err
    assert len(read_demos(tmp_path / STOVE)) == 2
    written = (tmp_path / STOVE).stat().st_mtime_ns
    main(["demos", "record", "libero_goal/7", "--episodes", "2", "--workers", "1", *options])
    assert "done before" in capsys.readouterr().err
    assert (tmp_path / STOVE).stat().st_mtime_ns == written
    # A summary without its file is none.
    (tmp_path / STOVE).rename(tmp_path / "away")
    main(["demos", "record", "libero_goal/7", "--episodes", "1", "--workers", "1", *options])
    assert "1 demonstrations of" in capsys.readouterr().err
    # A file that is there is not taken for one with other settings.
    error = fails(capsys, "libero_goal/7", "--episodes", "2", "--seed", "5", *options)
    assert "recorded with seed 0, not 5" in error and "--overwrite" in error


def test_too_few_demonstrations_are_kept_and_reported(options, tmp_path, capsys):
    error = fails(capsys, "libero_goal/7", "--episodes", "3", "--max-trials", "1", "--workers", "1", *options)
    assert "fewer than 3 demonstrations of libero_goal/turn_on_the_stove" in error
    assert json.loads((tmp_path / STOVE).with_suffix(".json").read_text())["demonstrations"] == 1


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("summary", [None, "{}", "not JSON", '{"task": "libero_goal/turn_on_the_stove"}'])
def test_demonstrations_of_others_under_the_same_name_stay(options, tmp_path, capsys, overwrite, summary):
    file = tmp_path / STOVE
    file.parent.mkdir()
    file.write_text("of people, downloaded for a day")
    if summary is not None:
        file.with_suffix(".json").write_text(summary)
    error = fails(capsys, "libero_goal/7", *options, *overwrite)
    assert f"{file} is there and is not a recording of libero_goal/turn_on_the_stove that rlgen wrote" in error
    assert file.read_text() == "of people, downloaded for a day"


def test_trials_of_others_stay(options, tmp_path, capsys):
    folder = (tmp_path / STOVE).with_suffix(".trials")
    folder.mkdir(parents=True)
    (folder / "plea.txt").write_text("x")
    assert "is there and holds no trials; move it away" in fails(capsys, "libero_goal/7", "--workers", "1", *options)
    assert (folder / "plea.txt").is_file()


def test_a_second_recorder_is_refused(options, tmp_path, capsys):
    with only_writer(tmp_path):
        assert "another process is writing here" in fails(capsys, "libero_goal/7", *options)


@pytest.mark.parametrize(
    ("argv", "message"),
    [(["libero_goul"], "unknown task 'libero_goul'"), (["all", "--episodes", "0"], "--episodes 0: expected 1 or more")],
)
def test_a_mistake_is_one_line(options, capsys, argv, message):
    assert message in fails(capsys, *argv, *options)


def test_stored_initial_states_have_no_wide_resets(options, tmp_path, capsys):
    error = fails(capsys, "libero_goal/7", "--split", "heldout", "--resets", "wide", *options)
    assert "--resets wide --split heldout" in error and "give one of them" in error
    assert not list(tmp_path.iterdir())
