"""Numbers on the command line, and help: every option that takes a number, in every command, found in its help."""

import dataclasses
import re
import time

import pytest

from rlgen.cli.common import number_options, parse
from rlgen.cli.main import COMMANDS, NONE, main
from rlgen.configs.schema import Config
from rlgen.core.errors import UserError

NUMBER = re.compile(r"(--[\w.-]+) (?:\{None\}\|)?[\[{]?(?:INT|FLOAT)\b")
WRONG = ("-1", "nan", "inf", "1e30", "many", "-99999999999999999999")
# Words without which a command says that they are missing.
REQUIRED = {
    "run": "bc",
    "expert": "x",
    "bench device": "--out x",
    "demos import": "x",
    "demos download": "x",
    "data show": "x",
    "vla serve": "x",
}
OF_RUNS = (["quickstart"], ["run"], ["expert"], ["fleet"])
# Their parser takes a third of a second: each option is given a third of the wrong values.
LARGE = (*OF_RUNS, ["vla", "train"])
PAIRS = ("--policy.gaussian.std-range",)


def every_command() -> list[list[str]]:
    commands: list[list[str]] = []
    for noun, command in COMMANDS.items():
        commands += [[noun]] if callable(command) else [[noun, *filter(None, [verb])] for verb in command]
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


def numbers(capsys, monkeypatch, command: list[str]) -> list[str]:
    """The options of a command that take numbers, by its help."""
    monkeypatch.setenv("COLUMNS", "400")
    return NUMBER.findall(run(capsys, *command, "--help")[1])


def test_the_options_that_take_numbers_are_found(capsys, monkeypatch):
    found = {option for command in every_command() for option in numbers(capsys, monkeypatch, command)}
    assert {"--port", "--seed", "--ppo.gamma", "--policy.image-encoder.widths", "--train.ema", "--mix"} <= found
    assert len(found) > 110


def check_refused(option: str, value: str, code: int, out: str, err: str) -> None:
    assert (code, out) == (2, ""), (option, value, err)
    assert err.startswith(f"rlgen: {option} ") and err.count("\n") == 1, (option, value, err)
    assert re.search(r": expected .*\d", err), err


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_every_number_is_checked_before_work_begins(capsys, monkeypatch, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    options, words = numbers(capsys, monkeypatch, command), REQUIRED.get(" ".join(command), "").split()
    if command in OF_RUNS:
        options = [option for option in options if "." not in option]
    for number, option in enumerate(options):
        for value in WRONG[number % 3 :: 3] if command in LARGE else WRONG:
            start = time.process_time()
            check_refused(option, value, *run(capsys, *command, *words, option, value))
            assert time.process_time() - start < 2
    assert list(tmp_path.iterdir()) == []


def test_so_is_every_setting_of_a_run(capsys, monkeypatch, tmp_path):
    found = {option for option in numbers(capsys, monkeypatch, ["quickstart"]) if "." in option}
    sections = [field for field in dataclasses.fields(Config) if dataclasses.is_dataclass(field.default_factory)]
    settings = [(field, option) for field in sections for option in number_options(section(field))]
    assert {option for _, option in settings} == found
    for number, (field, option) in enumerate(settings):
        for value in WRONG[number % 6 :: 6]:
            with pytest.raises(UserError) as caught:
                parse(section(field), [option, value, *([value] if option in PAIRS else [])], "rlgen", "")
            check_refused(option, value, 2, "", f"rlgen: {caught.value}\n")


def section(field: dataclasses.Field) -> type:
    """A command with the settings of one section of a run."""
    settings = dataclasses.field(default_factory=field.default_factory)
    return dataclasses.make_dataclass("Section", [(field.name, field.default_factory, settings)], frozen=True)


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
    # That of a command of its own is of its options.
    for words in ([], *([] if NONE in COMMANDS[noun] else (["--help"], ["-h"], ["x", "--help"]))):
        code, out, _ = run(capsys, noun, *words)
        assert code == 0 and all(f"rlgen {noun} {verb}".strip() + " " in out for verb in COMMANDS[noun])


@pytest.mark.parametrize("command", [["quickstart", "--run"], ["expert", "x", "--preset"], ["vla", "train", "--model"]])
def test_an_option_without_its_value_is_one_line(capsys, command):
    code, out, err = run(capsys, *command)
    assert (code, out) == (2, "") and err.count("\n") == 1 and command[-1] in err
