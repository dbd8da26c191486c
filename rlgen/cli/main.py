"""The command line: `rlgen quickstart`, a command for each stage, and those of the modules named `..._commands`.

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

from rlgen.cli.bench import run_bench
from rlgen.cli.data import about_datasets, compare_quality, export_episodes
from rlgen.cli.demos import download_sets, import_demos, record_demos
from rlgen.cli.eval import run_evaluate
from rlgen.cli.expert import train_expert
from rlgen.cli.scenes import WORLD_COMMANDS
from rlgen.cli.vla import run_fine_tune, run_merge, run_serve
from rlgen.configs.presets import run_presets
from rlgen.configs.schema import Config
from rlgen.core.errors import UserError
from rlgen.core.process import cache_folder, prepare_process
from rlgen.pipeline.stages import STAGES, clear_from, is_finished, with_config

if TYPE_CHECKING:
    from rlgen.training.run import Run


DISK_ERRORS = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.ENOTDIR, errno.EFBIG)
HELP = """rlgen: diffusion-RL experts that write LIBERO datasets, and a flow VLA trained on them

  rlgen quickstart             the whole job, from demonstrations to the report
  rlgen <stage> --run DIR      one stage: {stages}

  rlgen demos TASK [-n 50]     scripted demonstrations of a task, a suite, or all
  rlgen demos --from PATH      demonstrations of people (HDF5, RLDS) as ours
  rlgen download SUITE         the public demonstrations of people
  rlgen ppo TASK               an expert for one task: demonstrations, cloning, PPO
  rlgen export PATH...         recorded episodes as RLDS, array_record, LeRobot or HDF5
  rlgen quality A B C          datasets, HDF5 files and runs beside each other, on one page
  rlgen dataset verify DIR     whether a dataset is what its card says
  rlgen dataset show DIR       pictures and actions of its episodes, in a browser
  rlgen dataset merge A B      several datasets into one
  rlgen vla-train --data DIR   fine-tuning of pi0, pi05 or a small model on datasets
  rlgen vla-merge MODEL OUT    a model's adapters as part of its weights
  rlgen vla-serve MODEL        a policy server for openpi's clients
  rlgen evaluate TASK --policy MODEL, or --server HOST:PORT: success by the public protocol

  rlgen tasks                  the benchmark's tasks
  rlgen premises               stored initial states that do not settle to what their task says
  rlgen bench WHAT             env, sampler, update, dataset, vla, serve: rates on this machine

  rlgen <command> --help       options of a command
"""
# Commands that are always the same, those that are about what is named first, and those that an option makes.
COMMANDS = {
    **WORLD_COMMANDS,
    "bench": run_bench,
    "dataset": about_datasets,
    "download": download_sets,
    "vla-merge": run_merge,
    "vla-serve": run_serve,
}
ABOUT = {"demos": record_demos, "export": export_episodes, "ppo": train_expert, "quality": compare_quality}
WITH_OPTION = {
    ("demos", "--from"): import_demos,
    ("evaluate", "--policy"): run_evaluate,
    ("evaluate", "--server"): run_evaluate,
    ("vla-train", "--data"): run_fine_tune,
}


@dataclass(frozen=True)
class Arguments:
    """What every command that works on a run takes."""

    run: Path = Path("runs/quickstart")
    """Directory of the run."""
    preset: str = "quickstart"
    """Configuration to start from: quickstart, or smoke (minutes; too small to learn)."""
    assets: Path | None = None
    """Folder of LIBERO's object assets; RLGEN_LIBERO_ASSETS says the same."""
    placeholders: bool = False
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
    command, rest = (words[0], words[1:]) if words else ("--help", [])
    options = [(command, word.split("=")[0]) for word in rest]
    special = next((WITH_OPTION[option] for option in options if option in WITH_OPTION), None)
    if command in ("--help", "-h"):
        print(HELP.format(stages=", ".join(STAGES)))
    elif special is not None:
        special(rest)
    elif command in COMMANDS:
        COMMANDS[command](rest)
    elif command in ABOUT and rest and not rest[0].startswith("-"):
        ABOUT[command](rest)
    elif command == "quickstart":
        _work(command, tuple(STAGES), rest)
    elif command in STAGES:
        _work(command, (command,), rest)
    else:
        raise UserError(f"unknown command {command!r}; `rlgen --help` lists them")


def _work(command: str, stages: Sequence[str], words: list[str]) -> None:
    """Opens or starts the run and runs the stages."""
    arguments = _parse(command, words)
    prepare_process()
    from rlgen.core.progress import Progress
    from rlgen.pipeline.context import Context, run_stages
    from rlgen.training.run import run_lock

    cache = cache_folder()
    progress = Progress(stages)
    with run_lock(arguments.run):
        run = _open_or_create(command, stages, arguments, cache, progress.log)
        run_stages(Context(run, cache), stages, progress)


def _parse(command: str, words: list[str]) -> Arguments:
    """A preset or the stored configuration, then what the command line overrides."""
    from rlgen.training.run import is_run, open_run

    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    first.add_argument("--preset")
    known, _ = first.parse_known_args(words)
    if known.preset is not None and known.preset not in run_presets():
        raise UserError(f"unknown preset {known.preset!r}, expected one of {', '.join(run_presets())}")
    fresh = known.preset is not None or not is_run(known.run) or ("--overwrite" in words and command == "quickstart")
    base = run_presets()[known.preset or "quickstart"] if fresh else open_run(known.run).config
    default = Arguments(run=known.run, preset=known.preset or "quickstart", config=base)
    return tyro.cli(Arguments, args=words, default=default, prog=f"rlgen {command}", description=_description(command))


def _description(command: str) -> str:
    """What heads a stage's help: also which forms of the command are about something else than a run."""
    forms = [f"rlgen {command} NAME --help"] if command in ABOUT else []
    forms += [f"rlgen {command} {option} X --help" for name, option in WITH_OPTION if name == command]
    also = f" The command's other forms have options of their own: {', '.join(forms)}." if forms else ""
    return f"{Arguments.__doc__}{also}"


def _open_or_create(
    command: str, stages: Sequence[str], arguments: Arguments, cache: Path, tell: Callable[[str], None]
) -> "Run":
    from rlgen.libero.scenes.assets import check_assets, find_assets
    from rlgen.libero.tasks.suites import find_task
    from rlgen.training.run import create_run, is_run, open_run

    config = dataclasses.replace(arguments.config, task=find_task(arguments.config.task).id)
    folder = arguments.run
    if is_run(folder) and not (arguments.overwrite and command == "quickstart"):
        run = open_run(folder)
        if is_finished(run) and command == "quickstart" and not arguments.resume:
            raise UserError(
                f"{folder} holds a finished run; pass --resume to keep it and go on, --overwrite to begin anew, "
                "or choose another --run"
            )
        if not Path(run.assets["path"]).is_dir():
            find_assets(placeholders=run.assets["kind"] == "stand-in", cache=cache, download=False)
        if arguments.overwrite:
            removed = clear_from(run, stages[0])
            tell(f"removed {', '.join(removed) or 'nothing'} of {folder}")
        return with_config(run, config)
    if command not in ("quickstart", "demos"):
        open_run(folder)
    assets = find_assets(arguments.assets, placeholders=arguments.placeholders, cache=cache, log=tell)
    check_assets(assets.path)
    tell(f"task {config.task}; object assets: {assets.label}")
    if is_run(folder):
        shutil.rmtree(folder)
    record = {"kind": assets.kind, "path": str(assets.path), "label": assets.label}
    return create_run(folder, config, record)


if __name__ == "__main__":
    main()
