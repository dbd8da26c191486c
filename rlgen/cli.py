"""The command line: `rlgen quickstart`, a command for each stage, and those of `rlgen.world_commands`,
`rlgen.demo_commands` and `rlgen.vla_commands`.

A mistake of the user's ends in one line on standard error and exit code 2; an interruption in exit code 130,
and the same command goes on where it was.
"""

import argparse
import dataclasses
import errno
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from rlgen.config import STAGES, Config, presets
from rlgen.demo_commands import download_sets, import_demos, record_demos
from rlgen.errors import UserError
from rlgen.evaluation_commands import run_evaluate
from rlgen.process import cache_folder, prepare_process
from rlgen.vla_commands import VLA_BENCHES, VLA_COMMANDS, run_fine_tune
from rlgen.world_commands import WORLD_COMMANDS

if TYPE_CHECKING:
    from rlgen.train.run import Run

DISK_ERRORS = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.ENOTDIR, errno.EFBIG)
HELP = """rlgen: diffusion-RL experts that write LIBERO datasets, and a flow VLA trained on them

  rlgen quickstart             the whole job, from demonstrations to the report
  rlgen <stage> --run DIR      one stage: {stages}
  rlgen demos TASK [-n 50]     scripted demonstrations of a task, a suite, or all
  rlgen demos --from PATH      demonstrations of people (HDF5, RLDS) as ours
  rlgen download SUITE         the public demonstrations of people
  rlgen tasks                  the benchmark's tasks
  rlgen premises               stored initial states that do not settle to what their task says
  rlgen vla-train --data DIR   fine-tuning of pi0, pi05 or a small model on datasets
  rlgen vla-serve MODEL        a policy server for openpi's clients
  rlgen evaluate TASK --policy MODEL, or --server HOST:PORT: success by the public protocol
  rlgen vla-merge MODEL OUT    a model's adapters as part of its weights
  rlgen bench env              control steps and pictures a second, beside the benchmark's own environment
  rlgen bench vla|serve        training steps of a model; a policy server under load

  rlgen <command> --help       options of a command
"""


@dataclass(frozen=True)
class Arguments:
    """What every command that works on a run takes."""

    run: Path = Path("runs/quickstart")
    """Directory of the run."""
    preset: str = "quickstart"
    """Configuration to start from: quickstart, or smoke (minutes; too small to learn)."""
    assets: Path | None = None
    """Folder of LIBERO's object assets; RLGEN_LIBERO_ASSETS says the same."""
    standins: bool = False
    """Use the built-in stand-ins for the object assets."""
    resume: bool = False
    """Go on with a run that is there, also if it is finished."""
    overwrite: bool = False
    """Repeat: quickstart begins anew, a stage is repeated and those after it are removed."""
    config: Annotated[Config, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Config)
    """What the run does."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _dispatch(words)
    except UserError as error:
        _fail(str(error))
    except BrokenPipeError:
        # The reader of a listing (`| head`) has gone; what was to be flushed at exit has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        _fail(f"{error.filename or 'the disk'}: {error.strerror}; free space or choose another --run")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        sys.exit(130)


def _fail(message: str) -> None:
    print(f"rlgen: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _dispatch(words: list[str]) -> None:
    command = words[0] if words else "--help"
    if command in ("--help", "-h"):
        print(HELP.format(stages=", ".join(STAGES)))
    elif command == "bench" and words[1:2] and words[1] in VLA_BENCHES:
        VLA_BENCHES[words[1]](words[2:])
    elif command in WORLD_COMMANDS:
        WORLD_COMMANDS[command](words[1:])
    elif command == "download":
        download_sets(words[1:])
    elif command == "demos" and _names(words, "--from"):
        import_demos(words[1:])
    elif command == "demos" and len(words) > 1 and not words[1].startswith("-"):
        record_demos(words[1:])
    elif command in VLA_COMMANDS:
        VLA_COMMANDS[command](words[1:])
    elif command == "vla-train" and _names(words, "--data"):
        run_fine_tune(words[1:])
    elif command == "evaluate" and (_names(words, "--policy") or _names(words, "--server")):
        run_evaluate(words[1:])
    elif command == "quickstart":
        _work(command, STAGES, words[1:])
    elif command in STAGES:
        _work(command, (command,), words[1:])
    else:
        raise UserError(f"unknown command {command!r}; `rlgen --help` lists them")


def _names(words: Sequence[str], option: str) -> bool:
    """Whether a command line names an option."""
    return any(word.split("=")[0] == option for word in words)


def _work(command: str, stages: Sequence[str], words: list[str]) -> None:
    """Opens or starts the run and runs the stages."""
    arguments = _parse(command, words)
    prepare_process()
    from rlgen.report.progress import Progress
    from rlgen.stages.context import Context
    from rlgen.stages.runner import run_stages
    from rlgen.train.run import run_lock

    cache = cache_folder()
    progress = Progress(stages)
    with run_lock(arguments.run):
        run = _open_or_create(command, stages, arguments, cache, progress.say)
        run_stages(Context(run, cache), stages, progress)


def _parse(command: str, words: list[str]) -> Arguments:
    """A preset or the stored configuration, then what the command line overrides."""
    from rlgen.train.run import is_run, open_run

    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    first.add_argument("--preset")
    known, _ = first.parse_known_args(words)
    if known.preset is not None and known.preset not in presets():
        raise UserError(f"unknown preset {known.preset!r}, expected one of {', '.join(presets())}")
    fresh = known.preset is not None or not is_run(known.run) or ("--overwrite" in words and command == "quickstart")
    base = presets()[known.preset or "quickstart"] if fresh else open_run(known.run).config
    default = Arguments(run=known.run, preset=known.preset or "quickstart", config=base)
    return tyro.cli(Arguments, args=words, default=default, prog=f"rlgen {command}")


def _open_or_create(
    command: str, stages: Sequence[str], arguments: Arguments, cache: Path, tell: Callable[[str], None]
) -> "Run":
    from rlgen.libero.assets import check_assets, find_assets
    from rlgen.libero.tasks import find_task
    from rlgen.train.run import create_run, is_run, open_run

    config = dataclasses.replace(arguments.config, task=find_task(arguments.config.task).id)
    folder = arguments.run
    if is_run(folder) and not (arguments.overwrite and command == "quickstart"):
        run = open_run(folder)
        if run.finished and command == "quickstart" and not arguments.resume:
            raise UserError(
                f"{folder} holds a finished run; pass --resume to keep it and go on, --overwrite to begin anew, "
                "or choose another --run"
            )
        if not Path(run.assets["path"]).is_dir():
            find_assets(standins=run.assets["kind"] == "stand-in", cache=cache, download=False)
        if arguments.overwrite:
            removed = run.clear(stages[0])
            tell(f"removed {', '.join(removed) or 'nothing'} of {folder}")
        return _with_config(run, config)
    if command not in ("quickstart", STAGES[0]):
        open_run(folder)
    assets = find_assets(arguments.assets, standins=arguments.standins, cache=cache, tell=tell)
    check_assets(assets.path)
    tell(f"task {config.task}; object assets: {assets.label}")
    if is_run(folder):
        shutil.rmtree(folder)
    record = {"kind": assets.kind, "path": str(assets.path), "label": assets.label}
    return create_run(folder, config, record)


# The first stage that reads a section of the configuration.
_READER = {
    "task": "demos",
    "seed": "demos",
    "demos": "demos",
    "policy": "bc",
    "bc": "bc",
    "ppo": "ppo",
    "collect": "collect",
    "export": "export",
    "vla": "vla-train",
    "evaluate": "evaluate",
}


def _with_config(run: "Run", config: Config) -> "Run":
    """The run with a changed configuration, where no stage that read the old one has begun."""
    from rlgen.train.run import change_config

    for name, stage in _READER.items():
        if getattr(config, name) != getattr(run.config, name) and (run.folder / stage).exists():
            raise UserError(
                f"{name} differs from what stage {stage} of {run.folder} was run with; "
                f"repeat it with `rlgen {stage} --run {run.folder} --overwrite` or choose another --run"
            )
    return run if config == run.config else change_config(run, config)


if __name__ == "__main__":
    main()
