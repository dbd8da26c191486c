"""The command line: every command's help, old names, mistakes in one line, and the one rule of resuming."""

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import get_type_hints

import pytest
import tyro
from docstring_parser import parse_from_object

from rlgen.cli.common import parse
from rlgen.cli.main import COMMANDS, RENAMED, main
from rlgen.cli.run import fitted
from rlgen.configs.presets import run_presets
from rlgen.configs.schema import Config, DemosConfig
from rlgen.pipeline.stages import STAGES, with_config
from rlgen.training.run import create_run, open_run

ASSETS = {"kind": "folder", "label": "x"}


def run_cli(capsys, *argv):
    """Exit code and standard error of a command."""
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in argv])
    return stopped.value.code, capsys.readouterr().err


def one_line(text: str) -> bool:
    return text.startswith("rlgen: ") and text.count("\n") == 1


def every_command() -> list[list[str]]:
    commands: list[list[str]] = []
    for noun, command in COMMANDS.items():
        commands += [[noun]] if callable(command) else [[noun, *filter(None, [verb])] for verb in command]
    return commands


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_every_command_has_help_that_needs_no_task_and_no_jax(command):
    code = (
        "import sys\nfrom rlgen.cli.main import main\n"
        f"try: main({[*command, '--help']})\nexcept SystemExit as end: assert not end.code\n"
        "assert 'jax' not in sys.modules and 'mujoco' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"usage: rlgen {' '.join(command)}" in done.stdout
    # What stands behind a command has a name; its type is none.
    assert not re.search(r"^\W*STR\b", done.stdout, re.MULTILINE)


def option_texts(kind: type) -> Iterator[tuple[str, str]]:
    """Option and help of a class of options and of the groups in it, as the parser reads them."""
    yield from ((f"{kind.__name__}.{p.arg_name}", p.description or "") for p in parse_from_object(kind).params)
    for hint in get_type_hints(kind).values():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from option_texts(hint)


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_the_help_of_an_option_has_no_break_where_its_source_has_one(monkeypatch, command):
    """The parser joins lines of a text, but not those that are indented."""
    kinds = []
    monkeypatch.setattr(tyro, "cli", lambda kind, **options: kinds.append(kind) or sys.exit(0))
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    texts = dict(option_texts(kinds[0]))
    assert texts and not [option for option, text in texts.items() if "\n " in text]


def test_help_lists_all_commands_with_a_sentence(capsys):
    main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    for command in every_command():
        [line] = [line for line in lines if line.strip().startswith(f"rlgen {' '.join(command)}  ")]
        assert len(line.split("  ")[-1].split()) > 3, line


@pytest.mark.parametrize("old", sorted(RENAMED))
def test_an_old_command_is_answered_with_the_new_one(capsys, old):
    code, error = run_cli(capsys, old, "whatever")
    assert code == 2 and one_line(error) and RENAMED[old] in error
    # What is named is there.
    words = RENAMED[old].strip("`").split("`")[0].split()
    command = COMMANDS[words[1]]
    assert callable(command) or len(words) == 2 or words[2] in command


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nonsense"], "unknown command 'nonsense'"),
        (["quickstart", "--task", "pick_up_the_buter"], "nearest are"),
        (["quickstart", "--preset", "huge"], "expected one of quickstart, few, smoke"),
        (["quickstart", "--assets", "/nowhere/at/all"], "/nowhere/at/all"),
        (["quickstart", "--assets", "x", "--placeholders"], "give one of them"),
        (["quickstart", "--resume", "--overwrite"], "give one of them"),
        (["quickstart", "--standins"], "--standins is now --placeholders"),
        (["quickstart", "--bc.steps", "7"], "--bc.steps is now --bc.optimizer-steps"),
        (["quickstart", "--bc.warmup", "19000"], "bc.warmup 19000"),
        (["expert", "libero_goal/7", "--ppo.iterations", "4"], "ppo.critic-warmup 4 of 4 iterations"),
        (["expert", "libero_goal/7", "--demos.styles", "2"], "demos.styles 2 with demos.clean"),
        (["demos", "record", "libero_goal/7", "--styles", "2", "--clean"], "--styles 2 with --clean"),
        (["run", "nostage"], "'nostage'"),
        (["run", "bc"], "holds no run"),
        (["run", "ppo"], "holds no run"),
        (["expert", "pick_up_the_buter"], "nearest are"),
        (["expert", "libero_goal/7", "--task", "libero_goal/8"], "name the task once"),
        (["expert", "libero_goal/7", "--preset", "huge"], "expected one of state, narrow, vision, compact, tiny"),
        (["expert", "libero_goal/7", "--assets", "/nowhere/at/all"], "/nowhere/at/all"),
        (["expert", "libero_goal/7", "--algorithm", "gaussian"], "--algorithm is now --policy.algorithm"),
        (["fleet", "pick_up_the_buter"], "nearest are"),
        (["fleet", "--jobs", "2"], "no task: name suites"),
        (["fleet", "libero_goal/7", "--task", "libero_goal/8"], "name the tasks as"),
        (["fleet", "libero_goal/7", "--preset", "huge"], "expected one of state, narrow, vision, compact, tiny"),
        (["fleet", "libero_goal/7", "--source", "gaussian", "--policy.algorithm", "diffusion"], "give one of them"),
        (["fleet", "status", "nowhere"], "holds no fleet"),
        (["fleet", "assemble", "nowhere"], "holds no fleet"),
        (["fleet", "work", "nowhere", "--task", "libero_goal/7"], "holds no fleet"),
        (["demos", "libero_goal/7"], "rlgen demos record libero_goal/7"),
        (["demos", "record", "libero_goal/7", "--episodes", "0"], "--episodes 0: expected 1 or more"),
        (["demos", "record"], "no task"),
        (["eval", "libero_goal/7"], "no policy"),
        (["eval", "libero_goal/7", "--policy", "a", "--server", "b"], "give one of them"),
        (["eval", "libero_goal/7", "--policy", "nowhere"], "nowhere: no such folder; expected a model"),
        (["vla", "serve", "nowhere"], "nowhere: no such folder; expected a model"),
        (["vla", "train", "--model", "nope"], "unknown model 'nope'"),
        (["fleet", "work", "nowhere"], "Missing from rlgen fleet work: --task"),
        (["data", "verify", "n" * 300], "File name too long"),
        (["demos", "import", "n" * 300, "--placeholders"], "File name too long"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, argv, message):
    monkeypatch.setenv("RLGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    run = ["--run", str(tmp_path / "run")] if argv[0] in ("quickstart", "run", "expert") else []
    code, error = run_cli(capsys, *argv, *run)
    assert code == 2 and message in error and one_line(error)
    assert not (tmp_path / "run").exists() and not (tmp_path / "runs").exists()


def test_a_listing_to_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "rlgen", "scenes", "list"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2 and one_line(done.stderr.decode()) and b"No space left" in done.stderr


def test_a_folder_of_something_else_is_left_alone(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("RLGEN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years")
    code, error = run_cli(capsys, "quickstart", "--placeholders", "--run", tmp_path / "run")
    assert code == 2 and "not an rlgen run" in error
    assert (tmp_path / "run" / "thesis.txt").read_text() == "years"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose object assets are a folder that is there."""
    monkeypatch.setenv("RLGEN_CACHE", str(tmp_path / "cache"))
    return create_run(tmp_path / "run", Config(), {**ASSETS, "path": str(tmp_path)})


def test_a_finished_run_is_refused_naming_both_ways_out(capsys, run):
    for stage in STAGES:
        run.stage_folder(stage)
        run.finish(stage, {})
    code, error = run_cli(capsys, "quickstart", "--run", run.folder)
    assert code == 2 and "--resume" in error and "--overwrite" in error and one_line(error)
    assert all(run.done(stage) for stage in STAGES)


def test_a_change_under_a_finished_stage_is_refused_by_name(capsys, run):
    run.stage_folder("demos")
    code, error = run_cli(capsys, "run", "bc", "--run", run.folder, "--demos.episodes", 7)
    assert code == 2 and "demos.episodes (40 -> 7)" in error and one_line(error)
    assert open_run(run.folder).config == Config()


def test_a_change_that_no_stage_has_read_is_said_and_stored(capsys, run):
    run.stage_folder("demos")
    later = dataclasses.replace(Config(), ppo=dataclasses.replace(Config().ppo, iterations=7))
    said = []
    assert with_config(run, later, said.append).config == later
    assert said == [f"changed in {run.folder}: ppo.iterations (26 -> 7)"]
    assert open_run(run.folder).config == later


def test_a_preset_has_an_episodes_chunks_and_a_stored_run_its_own(run, tmp_path):
    config = dataclasses.replace(run_presets()["quickstart"], task="libero_goal/7")
    new, there = tmp_path / "new", run.folder

    def chunks(folder, *words, **options):
        return fitted(config, words, folder, **options).ppo.chunks

    # 300 control steps, of which a chunk has four.
    assert chunks(new) == chunks(there, anew=True) == chunks(there, "--preset", "quickstart") == 75
    assert chunks(there) == chunks(new, "--ppo.chunks", "35") == chunks(new, "--ppo.chunks=35") == 35


def test_what_goes_on_is_said_to_people_and_the_report_is_the_output(capsys, run, monkeypatch):
    monkeypatch.setattr("rlgen.pipeline.context.run_stages", lambda context, stages, progress: progress.log("[1/9]"))
    main(["quickstart", "--run", str(run.folder)])
    said = capsys.readouterr()
    assert said.out == f"{run.folder / 'report.html'}\n"
    assert said.err == f"task {run.config.task}; object assets: x; run {run.folder}, which goes on\n[1/9]\n"


def test_other_assets_than_the_runs_are_refused(capsys, run):
    code, error = run_cli(capsys, "run", "bc", "--run", run.folder, "--placeholders")
    assert code == 2 and "was started with x" in error and one_line(error)


def test_the_algorithm_that_is_asked_for_is_the_one_that_is_trained(capsys, tmp_path, monkeypatch):
    started = {}

    def capture(folder, stages, config, objects, **options):
        started.update(folder=folder, config=config)
        raise SystemExit(0)

    monkeypatch.setattr("rlgen.cli.expert.run_stages_of", capture)
    monkeypatch.chdir(tmp_path)
    run_cli(capsys, "expert", "libero_goal/7", "--policy.algorithm", "gaussian")
    assert started["config"].policy.algorithm == "gaussian"
    assert str(started["folder"]) == "runs/experts/libero_goal-7-gaussian-0"
    # As many chunks of 4 executed actions as an episode of the task has, unless they are chosen.
    assert started["config"].ppo.chunks == 75
    run_cli(capsys, "expert", "libero_goal/7", "--ppo.chunks", 25)
    assert started["config"].ppo.chunks == 25 and started["config"].policy.algorithm == "diffusion"


def test_scenes_lists_all_tasks():
    argv = [sys.executable, "-m", "rlgen", "scenes", "list", "--json"]
    rows = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    assert len(rows) == 130 and rows[16]["id"].startswith("libero_object/")


def test_importing_what_is_not_there_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("RLGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RLGEN_OFFLINE", "1")
    code, error = run_cli(capsys, "demos", "import", tmp_path, "--out", tmp_path / "out", "--placeholders")
    assert code == 2 and "no .hdf5 or .h5 file" in error and one_line(error)
    assert not (tmp_path / "out").exists()
    code, error = run_cli(capsys, "demos", "import", tmp_path, "--no-replay", "--images", "--placeholders")
    assert code == 2 and "leave out --images or --no-replay" in error and one_line(error)


def test_the_same_command_goes_on_whatever_flags_are_stored():
    """A flag that is stored as true is given again, or taken back; the options of a command are those of its run."""
    for stored in (False, True):
        base = dataclasses.replace(Config(), demos=DemosConfig(clean=stored))
        for words, clean in ((["--demos.clean"], True), (["--demos.no-clean"], False), ([], stored)):
            assert parse(Config, words, "rlgen expert", "", base).demos.clean == clean
