"""Numbers on the command line, and help: every option that takes a number, in every command, found in its help."""

import re
import time

import pytest

from rlgen.cli.main import COMMANDS, main

NUMBER = re.compile(r"^\W*(--[\w.-]+) (?=\S*(?:INT|FLOAT))", re.MULTILINE)
WRONG = ("-1", "nan", "inf", "1e30", "many", "-99999999999999999999")
# Settings of a run are options of three commands; the parser is the same, so one of them tries them all.
RUNS = (["run"], ["expert"])


def every_command() -> list[list[str]]:
    commands: list[list[str]] = []
    for noun, command in COMMANDS.items():
        commands += [[noun]] if callable(command) else [[noun, verb] for verb in command]
    return commands


def run(capsys, *words: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    code = 0
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def number_options(capsys, monkeypatch, command: list[str]) -> list[str]:
    monkeypatch.setenv("COLUMNS", "400")
    return NUMBER.findall(run(capsys, *command, "--help")[1])


def test_the_options_that_take_numbers_are_found(capsys, monkeypatch):
    found = {option for command in every_command() for option in number_options(capsys, monkeypatch, command)}
    assert {"--port", "--seed", "--ppo.gamma", "--policy.image-encoder.widths", "--train.ema", "--mix"} <= found
    assert len(found) > 110


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_every_number_is_checked_before_work_begins(capsys, monkeypatch, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    options = number_options(capsys, monkeypatch, command)
    options = [option for option in options if command not in RUNS or "." not in option]
    for option in options:
        for value in WRONG:
            start = time.monotonic()
            code, out, err = run(capsys, *command, option, value)
            assert (code, out) == (2, ""), (option, value, err)
            assert err.startswith(f"rlgen: {option} ") and err.count("\n") == 1, (option, value, err)
            assert re.search(r": expected .*\d", err), err
            assert time.monotonic() - start < 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_help_needs_no_valid_word_beside_it(capsys, monkeypatch, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/quickstart").mkdir(parents=True)
    (tmp_path / "runs/quickstart/run.json").write_text("no run")
    for words in (["x", "--help"], ["--help", "x"], ["-h"], ["--preset", "nope", "--run", "runs/quickstart", "--help"]):
        code, out, _ = run(capsys, *command, *words)
        assert code == 0 and f"usage: rlgen {' '.join(command)}" in out


@pytest.mark.parametrize("noun", [noun for noun, command in COMMANDS.items() if not callable(command)])
def test_a_noun_has_help_as_well(capsys, noun):
    for words in ([], ["--help"], ["-h"], ["x", "--help"]):
        code, out, _ = run(capsys, noun, *words)
        assert code == 0 and all(f"rlgen {noun} {verb} " in out for verb in COMMANDS[noun])


@pytest.mark.parametrize("command", [["quickstart", "--run"], ["expert", "x", "--preset"], ["vla", "train", "--model"]])
def test_an_option_without_its_value_is_one_line(capsys, command):
    code, out, err = run(capsys, *command)
    assert (code, out) == (2, "") and err.count("\n") == 1 and command[-1] in err
