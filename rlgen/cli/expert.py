"""`rlgen ppo TASK`: an expert for one task, from demonstrations over cloning to PPO."""

import argparse
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from rlgen.configs.presets import expert_presets, fit_to
from rlgen.configs.schema import Config
from rlgen.core.errors import UserError
from rlgen.core.process import cache_folder, prepare_process

if TYPE_CHECKING:
    from rlgen.libero.scenes.assets import AssetSource
    from rlgen.libero.tasks.suites import Task
    from rlgen.training.run import Run


STAGES = ("demos", "bc", "ppo")


@dataclass(frozen=True)
class ExpertArguments:
    """What `rlgen ppo TASK` takes."""

    task: tyro.conf.Positional[str]
    """Suite and number, name, or instruction."""
    run: Path | None = None
    """Directory of the run; runs/ppo/<suite>-<number>-<algorithm>-<seed> by default."""
    preset: Literal["state", "narrow", "vision", "tiny"] = "state"
    """`state` for a few cores, `narrow` for pictures there, `vision` for an accelerator, `tiny` to try."""
    algorithm: Literal["diffusion", "gaussian"] = "diffusion"
    """Over the denoising chain, or the Gaussian baseline on the same network."""
    assets: Path | None = None
    """Folder of LIBERO's object assets; RLGEN_LIBERO_ASSETS says the same."""
    placeholders: bool = False
    """Use the built-in stand-ins for the object assets."""
    overwrite: bool = False
    """Begin anew where the run is there."""
    workers: int = os.cpu_count() or 1
    """Processes that record demonstrations."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    """What the run does."""


def train_expert(words: Sequence[str]) -> None:
    """Starts the run or goes on with it, and prints what came out."""
    arguments = _parse(words)
    prepare_process()
    from rlgen.core.progress import Progress
    from rlgen.libero.tasks.suites import find_task
    from rlgen.pipeline.context import Context, run_stages
    from rlgen.training.run import run_lock

    task, cache, progress = find_task(arguments.task), cache_folder(), Progress(STAGES)
    config = replace(arguments.config, task=task.id)
    config = replace(config, policy=replace(config.policy, algorithm=arguments.algorithm))
    name = f"{task.suite}-{task.index}-{config.policy.algorithm}-{config.seed}"
    folder = arguments.run or Path("runs/ppo") / name
    with run_lock(folder):
        run = _open_or_create(folder, task, config, arguments, progress.log)
        context = Context(run, cache)
        if not run.done("demos"):
            _record(run, task, context.assets, arguments, progress.log)
        run_stages(context, STAGES, progress)
        print(json.dumps(run.result("ppo")))


def _parse(words: Sequence[str]) -> ExpertArguments:
    """A preset, fitted to the task's horizon, then what the command line overrides."""
    from rlgen.libero.tasks.suites import find_task

    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="state")
    known, _ = first.parse_known_args(words)
    presets = expert_presets()
    if known.preset not in presets:
        raise UserError(f"unknown preset {known.preset!r}, expected one of {', '.join(presets)}")
    task = find_task(words[0])
    default = ExpertArguments(
        task=task.id, preset=known.preset, config=replace(fit_to(presets[known.preset], task.horizon), task=task.id)
    )
    return tyro.cli(ExpertArguments, args=list(words), default=default, prog="rlgen ppo")


def _open_or_create(
    folder: Path, task: "Task", config: Config, arguments: ExpertArguments, tell: Callable[[str], None]
) -> "Run":
    from rlgen.libero.scenes.assets import check_assets, find_assets
    from rlgen.pipeline.stages import with_config
    from rlgen.training.run import create_run, is_run, open_run

    if config.demos.file is None:
        config = replace(config, demos=replace(config.demos, file=str(_demonstrations(folder, task))))
    if is_run(folder) and not arguments.overwrite:
        return with_config(open_run(folder), config)
    assets = find_assets(arguments.assets, placeholders=arguments.placeholders, cache=cache_folder(), log=tell)
    check_assets(assets.path)
    tell(f"task {config.task}; object assets: {assets.label}; run {folder}")
    if is_run(folder):
        shutil.rmtree(folder)
    return create_run(folder, config, {"kind": assets.kind, "path": str(assets.path), "label": assets.label})


def _demonstrations(folder: Path, task: "Task") -> Path:
    """Where this run's own recording of the task is kept."""
    return folder / "recorded" / task.suite / f"{task.name}_demo.hdf5"


def _record(
    run: "Run", task: "Task", assets: "AssetSource", arguments: ExpertArguments, tell: Callable[[str], None]
) -> None:
    """Records scripted demonstrations where the run is to begin with its own."""
    from rlgen.demos.record import Recorder

    own = _demonstrations(run.folder, task).absolute()
    if Path(run.config.demos.file) != own:
        return
    count = run.config.demos.episodes
    recorder = Recorder(
        own.parents[1],
        count,
        limit=4 * count + 20,
        workers=arguments.workers,
        split="train",
        seed=run.config.seed,
        mode="exact",
        clean=run.config.demos.clean,
    )
    if recorder.record([task], assets, cache_folder(), overwrite=False, log=tell):
        raise UserError(
            f"fewer than {count} demonstrations of {task.id} succeeded; lower --demos.episodes, or give a file of "
            "people's with --demos.file"
        )
