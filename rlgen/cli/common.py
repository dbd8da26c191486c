"""Options and parsing that all commands share."""

import contextlib
import dataclasses
import inspect
import io
import itertools
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro

from rlgen.configs.aliases import renamed_options
from rlgen.configs.devices import RunDevices
from rlgen.configs.ranges import NumberError, describe, number_fields
from rlgen.core.errors import UserError
from rlgen.core.ownership import check_file, has_keys, read_record
from rlgen.core.process import cache_folder

if TYPE_CHECKING:
    from rlgen.core.progress import StageProgress
    from rlgen.libero.scenes.assets import AssetSource

Arguments = TypeVar("Arguments")
Renderer = Literal["fast", "benchmark", "warp"]
Physics = Literal["exact", "fast"]
Fixtures = Literal["fixed", "redraw"]
Resets = Literal["standard", "wide"]
# Options that version 0.1.0 called otherwise, on all commands.
_RENAMED = {
    "--standins": "--placeholders",
    "--threads": "--workers",
    "--pictures": "--images",
    "--picture-size": "--image-size",
    "--resolution": "--image-size",
    "--view": "--renderer",
    "--views": "--renderer",
    "--mode": "--physics",
    "--trials": "--episodes",
    "--attempts": "--max-trials",
    "--width": "--environments",
    "--from": "the path itself",
    "-n": "--episodes",
    "--algorithm": "--policy.algorithm",
}


@dataclass(frozen=True)
class AssetOptions:
    """Options that choose LIBERO's object assets."""

    assets: Path | None = None
    """Folder of LIBERO's object assets; RLGEN_LIBERO_ASSETS does the same."""
    placeholders: bool = False
    """Use the built-in placeholder assets, which need no download."""

    def __post_init__(self) -> None:
        if self.assets is not None and self.placeholders:
            raise UserError(f"--assets {self.assets} and --placeholders: give one of them")

    @property
    def given(self) -> bool:
        """True where one of the options was given."""
        return self.assets is not None or self.placeholders

    def find(self) -> "AssetSource":
        """Returns the chosen assets, or those that are found (see the README).

        Raises:
          UserError: the folder has no assets.
        """
        from rlgen.libero.scenes.assets import find_assets

        return find_assets(self.assets, placeholders=self.placeholders, cache=cache_folder(), log=log)


_MANY_TASKS = tyro.conf.arg(metavar="[TASK ...]", help_behavior_hint="")
_MANY_PATHS = tyro.conf.arg(metavar="[PATH ...]", help_behavior_hint="")
# A group of options without a prefix of its own.
Inline = tyro.conf.arg(name="")
AssetGroup = Annotated[AssetOptions, Inline]
DeviceGroup = Annotated[RunDevices, Inline]
# Words behind a command, any number of them; where it needs one, the command itself answers that there is none.
TaskWords = Annotated[tyro.conf.Positional[tuple[str, ...]], _MANY_TASKS]
PathWords = Annotated[tyro.conf.Positional[tuple[Path, ...]], _MANY_PATHS]


def cores() -> int:
    """Returns the number of processors, the default of `--workers`."""
    return os.cpu_count() or 1


def parse(
    kind: type[Arguments], argv: Sequence[str], prog: str, description: str, default: Arguments | None = None
) -> Arguments:
    """Parses a command's options.

    Args:
      kind: dataclass whose fields are the options, with their help below them.
      argv: words behind the command.
      prog: the command as it is typed.
      description: one or more sentences for `--help`.
      default: options that are not given.

    Raises:
      UserError: the words are not the command's options; one line that says which and names the new name of an old one.
    """
    captured = io.StringIO()
    with _wide_terminal(argv):
        try:
            with contextlib.redirect_stderr(captured):
                return tyro.cli(
                    kind,
                    # Whoever asks for help need not have the other words right.
                    args=["--help"] if wants_help(argv) else list(argv),
                    default=default,
                    prog=prog,
                    description=inspect.cleandoc(description),
                )
        except (SystemExit, UserError) as stopped:
            if isinstance(stopped, SystemExit) and not stopped.code:
                raise
            refusal = _refusal(stopped)
    message = refusal or _unreadable_number(kind, argv, captured.getvalue()) or _message(captured.getvalue())
    raise UserError(f"{message}{_new_names(argv, captured.getvalue())}; see `{prog} --help`")


def wants_help(argv: Sequence[str]) -> bool:
    """Returns whether help is asked for."""
    return bool({"-h", "--help"} & set(argv))


def given(argv: Sequence[str], option: str) -> str | None:
    """Returns the last value of an option among words that are not parsed yet; None where it is not given."""
    value = None
    for word, following in itertools.zip_longest(argv, argv[1:]):
        name, equals, attached = word.partition("=")
        if name.replace("_", "-") == option:
            value = attached if equals else following
    return value


def check_known_preset(preset: str | None, presets: Iterable[str]) -> None:
    """Raises `UserError` where a preset that is given is none of those that there are."""
    if preset is not None and preset not in presets:
        raise UserError(f"unknown preset {preset!r}: expected one of {', '.join(presets)}")


def number_options(kind: type, prefix: str = "") -> dict[str, Any]:
    """Returns the annotations of a class's options that take numbers, by the options' names.

    Args:
      kind: dataclass whose fields are options, or groups of these.
      prefix: of the names.
    """
    options = {f"--{prefix}{name}".replace("_", "-"): hint for name, hint in number_fields(kind).items()}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        group, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if dataclasses.is_dataclass(group) and isinstance(group, type):
            options |= number_options(group, prefix if Inline in notes else f"{prefix}{name}.")
    return options


def _refusal(stopped: SystemExit | UserError) -> str | None:
    """Returns what a class of options said of its values; the parser puts most of it into a box and exits."""
    error: BaseException | None = stopped
    while error is not None:
        if isinstance(error, UserError):
            return f"--{error}" if isinstance(error, NumberError) else str(error)
        error = error.__context__
    return None


def _unreadable_number(kind: type, argv: Sequence[str], box: str) -> str | None:
    """Returns what an option expects that was given something else than a number; None if that is not the mistake."""
    parsing = re.search(r"Error parsing (--[\w.-]+):", box)
    annotation = number_options(kind).get(parsing[1]) if parsing else None
    if parsing is None or annotation is None:
        return None
    return f"{parsing[1]} {given(argv, parsing[1])}: expected {describe(annotation)}"


@contextlib.contextmanager
def _wide_terminal(argv: Sequence[str]) -> Iterator[None]:
    """Keeps messages on one line each, but leaves `--help` to the width of the terminal."""
    before = os.environ.get("COLUMNS")
    if not wants_help(argv):
        os.environ["COLUMNS"] = "2000"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("COLUMNS", None)
        else:
            os.environ["COLUMNS"] = before


def _message(box: str) -> str:
    """Returns the text of the parser's first box of errors, without its frame, title and advice."""
    # A frame of ASCII is of the characters that an option begins with.
    lines = [line.strip(" │╭╮╰╯─|+") for line in box.splitlines()]
    _title, *lines = [line for line in lines if line.strip("-")] or [""]
    advice = ("For full helptext", "Argument helptext", "Perhaps you meant")
    text = " ".join(itertools.takewhile(lambda line: not line.startswith(advice), lines))
    text = text.strip().rstrip(".")
    return text or "the options cannot be read"


def _new_names(argv: Sequence[str], message: str) -> str:
    """Returns the present names of old options among the words."""
    renamed = {**_RENAMED, **renamed_options()}
    words = [word.split("=")[0] for word in argv]
    named = "Unrecognized" in message
    found = [f"{word} is now {renamed[word]}" for word in words if word in renamed and (word in message or not named)]
    return f" ({', '.join(dict.fromkeys(found))})" if found else ""


def log(line: str) -> None:
    """Prints a line for the user, beside the command's output."""
    print(line, file=sys.stderr, flush=True)


def check_report(path: Path | None, *keys: str) -> None:
    """Raises `UserError` where a JSON report would replace a file that is not one of the same kind.

    Args:
      path: of the file that is to be written; None if there is none.
      *keys: that reports of this kind have.
    """
    if path is not None:
        check_file(path, lambda path: has_keys(read_record(path), *keys), noun="such a report", option="--json")


def print_report(report: dict[str, Any], path: Path | None) -> None:
    """Prints a JSON report and writes it to a file, if one is given."""
    from rlgen.core.files import write_json

    if path is not None:
        write_json(path, report)
    print(json.dumps(report, indent=1))


class ProgressLines:
    """A callback `(what, done, total)` that shows progress, with a line for each `what`; a context manager."""

    def __init__(self, unit: str = "episodes"):
        """Takes what is counted."""
        self._unit = unit

    def __enter__(self) -> "ProgressLines":
        from rlgen.core.progress import Progress

        self._progress, self._what = Progress(stream=sys.stderr), ""
        self._context: contextlib.AbstractContextManager[StageProgress] | None = None
        return self

    def __exit__(self, *error: object) -> None:
        self._close(*error)

    def __call__(self, what: str, done: int, total: int) -> None:
        """Shows `done` of `total` on the line of `what`.

        Args:
          what: name of the line; a new one ends the last.
          done: number of episodes, or of other units, that are done.
          total: number of all; 0 where it is not known.
        """
        if what != self._what:
            self._close(None, None, None)
            self._what = what
            self._context = self._progress.stage(what, total=total or None, unit=self._unit)
            self._stage = self._context.__enter__()
        self._stage.update(advance=done - self._stage.done)

    def _close(self, *error: object) -> None:
        if self._context is not None:
            context, self._context = self._context, None
            context.__exit__(*error)
