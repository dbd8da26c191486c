"""Options and parsing that all commands share."""

import contextlib
import inspect
import io
import itertools
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from rlgen.configs.aliases import renamed_options
from rlgen.core.errors import UserError
from rlgen.core.ownership import check_file, has_keys, read_record
from rlgen.core.process import cache_folder

if TYPE_CHECKING:
    from rlgen.core.progress import StageProgress
    from rlgen.libero.scenes.assets import AssetSource

Arguments = TypeVar("Arguments")
Renderer = Literal["fast", "benchmark"]
Physics = Literal["exact", "fast"]
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


# A group of options without a prefix of its own.
Inline = tyro.conf.arg(name="")
AssetGroup = Annotated[AssetOptions, Inline]


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
                    args=list(argv),
                    default=default,
                    prog=prog,
                    description=inspect.cleandoc(description),
                    config=(tyro.conf.FlagCreatePairsOff,),
                )
        except SystemExit as stopped:
            if not stopped.code:
                raise
    raise UserError(f"{_message(captured.getvalue())}{_new_names(argv, captured.getvalue())}; see `{prog} --help`")


@contextlib.contextmanager
def _wide_terminal(argv: Sequence[str]) -> Iterator[None]:
    """Keeps messages on one line each, but leaves `--help` to the width of the terminal."""
    before = os.environ.get("COLUMNS")
    if not {"-h", "--help"} & set(argv):
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
    lines = [line.strip(" │╭╮╰╯─-|+") for line in box.splitlines()]
    _title, *lines = [line for line in lines if line] or [""]
    advice = ("For full helptext", "Argument helptext", "Perhaps you meant")
    text = " ".join(itertools.takewhile(lambda line: not line.startswith(advice), lines))
    text = re.sub(r"^Error parsing \w+Arguments: ", "", text).strip().rstrip(".")
    return text or "the options cannot be read"


def _new_names(argv: Sequence[str], message: str) -> str:
    """Returns the present names of old options among the words."""
    renamed = {**_RENAMED, **renamed_options()}
    words = [word.split("=")[0] for word in argv]
    named = "Unrecognized" in message
    found = [f"{word} is now {renamed[word]}" for word in words if word in renamed and (word in message or not named)]
    return f" ({', '.join(dict.fromkeys(found))})" if found else ""


def require_positive(**values: int | None) -> None:
    """Raises `UserError` for the first option that is given and below 1; names as of keyword arguments."""
    for name, value in values.items():
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: expected 1 or more")


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

    def __enter__(self) -> "ProgressLines":
        from rlgen.core.progress import Progress

        self._progress, self._what = Progress(stream=sys.stderr), ""
        self._context: contextlib.AbstractContextManager[StageProgress] | None = None
        return self

    def __exit__(self, *error: object) -> None:
        self._close(*error)

    def __call__(self, what: str, done: int, total: int) -> None:
        """Shows `done` of `total` episodes on the line of `what`.

        Args:
          what: name of the line; a new one ends the last.
          done: number of episodes that are done.
          total: number of all; 0 where it is not known.
        """
        if what != self._what:
            self._close(None, None, None)
            self._what = what
            self._context = self._progress.stage(what, total=total or None, unit="episodes")
            self._stage = self._context.__enter__()
        self._stage.update(advance=done - self._stage.done)

    def _close(self, *error: object) -> None:
        if self._context is not None:
            context, self._context = self._context, None
            context.__exit__(*error)
