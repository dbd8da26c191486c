"""`rlgen run STAGE`, one stage of a run; `rlgen quickstart`, all of them; and the steps that commands on runs share."""

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from rlgen.cli.common import AssetGroup, AssetOptions, DeviceGroup, Inline, check_known_preset, given, parse, wants_help
from rlgen.configs.devices import ONE_DEVICE, RunDevices
from rlgen.configs.presets import fit_to, run_presets
from rlgen.configs.schema import Config
from rlgen.core.errors import UserError
from rlgen.core.ownership import clear_output, only_writer
from rlgen.core.process import cache_folder, prepare_process
from rlgen.pipeline.stages import RUN, STAGES, check_config, clear_from, is_finished, with_config

if TYPE_CHECKING:
    from rlgen.training.run import Run

DEFAULT_RUN = Path("runs/quickstart")


@dataclass(frozen=True)
class RunArguments:
    """Options of `rlgen run`."""

    stage: tyro.conf.Positional[Literal[tuple(STAGES)]]
    """The stage; what it needs must have run."""
    run: Path = DEFAULT_RUN
    """Directory of the run; `demos` starts one that is not there."""
    preset: str | None = None
    """Configuration to start from: quickstart, few (three demonstrations), or smoke, to try everything in minutes."""
    overwrite: bool = False
    """Repeat the stage; the results of those after it are removed."""
    objects: AssetGroup = field(default_factory=AssetOptions)
    devices: DeviceGroup = field(default_factory=RunDevices)
    config: Annotated[Config, Inline] = field(default_factory=Config)


def run(argv: Sequence[str]) -> None:
    """Runs one stage of a run, from its stored configuration.

    What the command line gives overrides the stored configuration, as long as no stage that read it has begun.
    """
    base = stored_or_preset(argv, DEFAULT_RUN)
    default = RunArguments(stage=tyro.MISSING, config=base)
    arguments = parse(RunArguments, argv, "rlgen run", _description(), default)
    run_stages_of(
        arguments.run,
        (arguments.stage,),
        fitted(arguments.config, argv, arguments.run),
        arguments.objects,
        may_create=arguments.stage == next(iter(STAGES)),
        repeat_from=arguments.stage if arguments.overwrite else None,
        devices=arguments.devices,
    )


def _description() -> str:
    stages = "; ".join(f"{name}: {stage.help}" for name, stage in STAGES.items())
    return f"{run.__doc__} Stages: {stages}."


def stored_or_preset(argv: Sequence[str], default_run: Path, *, anew: bool = False) -> Config:
    """Returns the configuration that options override: that of `--preset`, else the stored one, else `quickstart`.

    Args:
      argv: the words, of which `--run` and `--preset` are read.
      default_run: directory where `--run` is not given.
      anew: do not read the stored one.
    """
    from rlgen.training.run import is_run, open_run

    presets, preset = run_presets(), given(argv, "--preset")
    if wants_help(argv):
        return presets.get(preset or "", presets["quickstart"])
    check_known_preset(preset, presets)
    folder = Path(given(argv, "--run") or default_run)
    if preset is None and not anew and is_run(folder):
        return open_run(folder).config
    return presets[preset or "quickstart"]


def fitted(config: Config, argv: Sequence[str], folder: Path, *, anew: bool = False) -> Config:
    """Returns a preset with an episode's chunks an iteration; a stored configuration, and `--ppo.chunks`, stay.

    Args:
      config: what the words say.
      argv: the words.
      folder: of the run.
      anew: a run that is there is replaced.
    """
    from rlgen.libero.tasks.suites import find_task
    from rlgen.training.run import is_run

    is_stored = is_run(folder) and not anew and given(argv, "--preset") is None
    if is_stored or given(argv, "--ppo.chunks") is not None:
        return config
    return fit_to(config, find_task(config.task).horizon)


@dataclass(frozen=True)
class QuickstartArguments:
    """Options of `rlgen quickstart`."""

    run: Path = DEFAULT_RUN
    """Directory of the run."""
    preset: str | None = None
    """quickstart (the default); few, after three demonstrations; or smoke, which tries everything in minutes."""
    resume: bool = False
    """Go on with a run that is finished."""
    overwrite: bool = False
    """Remove the run that is there and begin anew."""
    objects: AssetGroup = field(default_factory=AssetOptions)
    config: Annotated[Config, Inline] = field(default_factory=Config)

    def __post_init__(self) -> None:
        if self.resume and self.overwrite:
            raise UserError("--resume and --overwrite: give one of them")


def quickstart(argv: Sequence[str]) -> None:
    """Runs the whole job on one task, from demonstrations to the report.

    An interrupted run resumes with the same command, from its stored configuration.
    """
    base = stored_or_preset(argv, DEFAULT_RUN, anew="--overwrite" in argv)
    arguments = parse(
        QuickstartArguments, argv, "rlgen quickstart", quickstart.__doc__ or "", QuickstartArguments(config=base)
    )

    def refuse_finished(run: "Run") -> None:
        if is_finished(run) and not arguments.resume:
            raise UserError(
                f"{run.folder} holds a finished run; pass --resume to keep it and go on, --overwrite to begin anew, "
                "or choose another --run"
            )

    run = run_stages_of(
        arguments.run,
        tuple(STAGES),
        fitted(arguments.config, argv, arguments.run, anew=arguments.overwrite),
        arguments.objects,
        may_create=True,
        anew=arguments.overwrite,
        check=refuse_finished,
    )
    print(run.folder / "report.html")


def run_stages_of(
    folder: Path,
    stages: Sequence[str],
    config: Config,
    objects: AssetOptions,
    *,
    may_create: bool,
    repeat_from: str | None = None,
    anew: bool = False,
    check: Callable[["Run"], None] | None = None,
    devices: RunDevices = ONE_DEVICE,
) -> "Run":
    """Opens or creates a run and runs stages of it; of several processes the first one opens it, and alone locks it.

    Args:
      folder: of the run.
      stages: to run, in order; those that are done are left out.
      config: what the run shall do.
      objects: object assets of a new run; of one that is there they must be its own.
      may_create: start a run that is not there.
      repeat_from: stage whose results, and those of later ones, are removed first.
      anew: remove a run that is there.
      check: called with a run that is there, before anything is changed.
      devices: what cloning and PPO run on.

    Raises:
      UserError: the directory holds something else, or a run that contradicts the options.
    """
    prepare_process()
    if devices.processes > 1:
        from rlgen.training.processes import connect, wait_for_all

        connect(devices)
    from rlgen.core.progress import Progress
    from rlgen.libero.scenes.assets import check_assets
    from rlgen.libero.tasks.suites import find_task
    from rlgen.pipeline.context import Context, run_stages
    from rlgen.training.run import create_run, is_run, open_run

    config = dataclasses.replace(config, task=find_task(config.task).id)

    def open_or_create() -> "Run":
        if is_run(folder) and not anew:
            current = open_run(folder)
            if check is not None:
                check(current)
            _check_assets(current, objects)
            check_config(current, config, repeat_from=repeat_from)
            # A run may lie here that the user has forgotten, begun with other assets than would be found today.
            progress.log(f"{_summary(config, current.assets['label'], folder)}, which goes on")
            if repeat_from is not None:
                removed = clear_from(current, repeat_from, (config.demos.file, current.assets["path"]))
                progress.log(f"removed {', '.join(removed) or 'nothing'} of {folder}")
            return with_config(current, config, progress.log)
        if not may_create:
            return open_run(folder)
        assets = objects.find()
        check_assets(assets.path)
        progress.log(_summary(config, assets.label, folder))
        if anew:
            clear_output(folder, RUN, inputs=(config.demos.file, assets.path))
        record = {"kind": assets.kind, "path": str(assets.path), "label": assets.label}
        return create_run(folder, config, record)

    if devices.is_first:
        progress = Progress(stages, stream=sys.stderr)
        with only_writer(folder, RUN.option):
            context = Context(open_or_create(), cache_folder(), devices)
            context.wait_for_all("run")
            run_stages(context, stages, progress)
            return context.run
    wait_for_all("run")
    context = Context(open_run(folder), cache_folder(), devices)
    # The first process speaks for all.
    with open(os.devnull, "w") as silence:
        run_stages(context, stages, Progress(stages, stream=silence))
    return context.run


def _summary(config: Config, assets: str, folder: Path) -> str:
    return f"task {config.task}; object assets: {assets}; run {folder}"


def _check_assets(run: "Run", objects: AssetOptions) -> None:
    """Finds the run's object assets again, and refuses others."""
    from rlgen.libero.scenes.assets import find_assets

    placeholders = run.assets["kind"] == "placeholder"
    if objects.given:
        asked = objects.find()
        if asked.kind != run.assets["kind"] or Path(asked.path).resolve() != Path(run.assets["path"]).resolve():
            raise UserError(
                f"{run.folder} was started with {run.assets['label']} ({run.assets['path']}), not {asked.label} "
                f"({asked.path}); leave out the option, or choose another --run"
            )
    if not Path(run.assets["path"]).is_dir():
        find_assets(placeholders=placeholders, cache=cache_folder(), download=False)
