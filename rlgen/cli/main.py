"""The command line: `rlgen NOUN [VERB] ...`, a table of commands, and what ends them.

A mistake of the user's ends in one line on standard error and exit code 2. An interruption passes: it is the business
of `rlgen.cli.interruption`. No command imports jax before its options are read, so that `--help` answers at once.
"""

import errno
import os
import sys
from collections.abc import Callable, Sequence

from rlgen.cli.bench import (
    bench_dataset,
    bench_device,
    bench_env,
    bench_eval,
    bench_sampler,
    bench_serve,
    bench_update,
    bench_vla,
)
from rlgen.cli.common import wants_help
from rlgen.cli.data import export, merge, pull, push, quality, show, verify
from rlgen.cli.demos import download, import_demos, record
from rlgen.cli.eval import evaluate
from rlgen.cli.expert import expert
from rlgen.cli.fleet import assemble, fleet, status, work
from rlgen.cli.run import quickstart, run
from rlgen.cli.scenes import check, list_tasks
from rlgen.cli.vla import merge_adapters, serve, train
from rlgen.core.errors import UserError

Command = Callable[[Sequence[str]], None]
# The verb of a noun's own command, such as `rlgen fleet libero_spatial` beside `rlgen fleet status`.
NONE = ""
COMMANDS: dict[str, Command | dict[str, Command]] = {
    "quickstart": quickstart,
    "run": run,
    "expert": expert,
    "fleet": {NONE: fleet, "status": status, "work": work, "assemble": assemble},
    "demos": {"record": record, "import": import_demos, "download": download},
    "data": {
        "export": export,
        "verify": verify,
        "show": show,
        "merge": merge,
        "quality": quality,
        "push": push,
        "pull": pull,
    },
    "vla": {"train": train, "serve": serve, "merge": merge_adapters},
    "eval": evaluate,
    "bench": {
        "env": bench_env,
        "sampler": bench_sampler,
        "update": bench_update,
        "dataset": bench_dataset,
        "vla": bench_vla,
        "serve": bench_serve,
        "eval": bench_eval,
        "device": bench_device,
    },
    "scenes": {"list": list_tasks, "check": check},
}
# What version 0.1.0 called commands.
RENAMED = {
    "bc": "`rlgen run bc --run DIR`",
    "ppo": "`rlgen expert TASK`, or `rlgen run ppo --run DIR`",
    "collect": "`rlgen run collect --run DIR`",
    "export": "`rlgen data export PATH`, or `rlgen run export --run DIR`",
    "quality": "`rlgen data quality PATH`, or `rlgen run quality --run DIR`",
    "vla-train": "`rlgen vla train --data DIR`, or `rlgen run vla-train --run DIR`",
    "evaluate": "`rlgen eval TASK --policy MODEL`, or `rlgen run evaluate --run DIR`",
    "report": "`rlgen run report --run DIR`",
    "download": "`rlgen demos download SUITE`",
    "dataset": "`rlgen data`",
    "vla-serve": "`rlgen vla serve MODEL`",
    "vla-merge": "`rlgen vla merge MODEL OUT`",
    "tasks": "`rlgen scenes list`",
    "premises": "`rlgen scenes check`",
}
# What a disk or a path may answer to the user's words.
DISK_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a command; a mistake of the user's exits."""
    try:
        dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # here, where a full disk is one line
    except UserError as error:
        _fail(str(error))
    except BrokenPipeError:
        # The reader of a listing (`| head`) has gone; what was to be flushed at exit has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        _fail(f"{error.filename or 'the disk'}: {error.strerror}; make room, or choose another path")


def _fail(message: str) -> None:
    print(f"rlgen: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def dispatch(argv: Sequence[str]) -> None:
    """Runs the command that the first one or two words name.

    Raises:
      UserError: there is none of that name; an old name is answered with the new one.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(help_text(COMMANDS, "rlgen", "Diffusion-RL experts that write LIBERO datasets, and flow VLAs on them."))
        return
    noun, rest = argv[0], argv[1:]
    if noun not in COMMANDS:
        now = f"is now {RENAMED[noun]}" if noun in RENAMED else f"expected one of {', '.join(COMMANDS)}"
        raise UserError(f"unknown command {noun!r}: {now}")
    command = COMMANDS[noun]
    if callable(command):
        command(rest)
    elif NONE in command and rest and rest[0] not in command:
        command[NONE](rest)
    elif not rest or (rest[0] not in command and wants_help(rest)):
        print(help_text(command, f"rlgen {noun}", ""))
    elif rest[0] not in command:
        raise UserError(f"unknown command 'rlgen {noun} {rest[0]}': {_expected(noun, rest[0], command)}")
    else:
        command[rest[0]](rest[1:])


def _expected(noun: str, word: str, verbs: dict[str, Command]) -> str:
    if noun == "demos":
        return f"record them with `rlgen demos record {word}`, or import them with `rlgen demos import PATH`"
    return f"expected one of {', '.join(verbs)}"


def help_text(commands: dict[str, Command | dict[str, Command]] | dict[str, Command], prog: str, head: str) -> str:
    """Returns a list of commands with the first line of each docstring.

    Args:
      commands: by name.
      prog: what precedes the names.
      head: sentence above the list.
    """
    lines = []
    for name, command in commands.items():
        if callable(command):
            lines.append((f"{prog} {name}", _summary(command)))
        else:
            lines += [(f"{prog} {name} {verb}".strip(), _summary(function)) for verb, function in command.items()]
    width = max(len(name) for name, _ in lines)
    body = [f"  {name.ljust(width)}  {summary}" for name, summary in lines]
    return "\n".join([*([head, ""] if head else []), *body, "", f"  {prog} ... --help  options of a command"])


def _summary(command: Command) -> str:
    return (command.__doc__ or "").split("\n")[0].rstrip(".")
