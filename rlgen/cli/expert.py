"""`rlgen expert TASK`: an expert for one task, from demonstrations over cloning to PPO."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from rlgen.cli.common import AssetGroup, AssetOptions, DeviceGroup, Inline, check_known_preset, given, parse, wants_help
from rlgen.cli.run import fitted, run_stages_of
from rlgen.configs.devices import RunDevices
from rlgen.configs.presets import expert_presets
from rlgen.configs.schema import Config
from rlgen.core.errors import UserError

EXPERT_STAGES = ("demos", "bc", "ppo")


@dataclass(frozen=True)
class ExpertArguments:
    """Options of `rlgen expert`."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """Suite and index (libero_goal/7), name, or instruction."""
    run: Path | None = None
    """Directory of the run; runs/experts/<suite>-<index>-<algorithm>-<seed> by default."""
    preset: str | None = None
    """state (the default) or narrow (images) for a few cores; vision or compact for accelerators; tiny to try."""
    overwrite: bool = False
    """Remove the run that is there and begin anew."""
    objects: AssetGroup = field(default_factory=AssetOptions)
    devices: DeviceGroup = field(default_factory=RunDevices)
    config: Annotated[Config, Inline] = field(default_factory=Config)


def expert(argv: Sequence[str]) -> None:
    """Trains an expert for one task: scripted demonstrations, cloning, PPO.

    An interrupted training resumes with the same command. `rlgen run collect --run DIR` and the stages after it go on
    from there.
    """
    default = ExpertArguments(name=tyro.MISSING, config=_base(argv))
    arguments = parse(ExpertArguments, argv, "rlgen expert", expert.__doc__ or "", default)
    if given(argv, "--task") is not None:
        raise UserError(f"--task beside {arguments.name!r}: name the task once, as `rlgen expert TASK`")
    from rlgen.libero.tasks.suites import find_task
    from rlgen.training.run import is_run

    task = find_task(arguments.name)
    config = dataclasses.replace(arguments.config, task=task.id)
    folder = arguments.run
    if folder is None:
        folder = Path("runs/experts") / f"{task.suite}-{task.index}-{config.policy.algorithm}-{config.seed}"
        if is_run(folder) and not arguments.overwrite and arguments.preset is None:
            # The folder follows from the options, so that its stored configuration is known only now.
            stored = dataclasses.replace(default, config=_stored(folder))
            config = parse(ExpertArguments, argv, "rlgen expert", "", stored).config
    run = run_stages_of(
        folder,
        EXPERT_STAGES,
        fitted(config, argv, folder, anew=arguments.overwrite),
        arguments.objects,
        may_create=True,
        anew=arguments.overwrite,
        devices=arguments.devices,
    )
    if arguments.devices.is_first:
        print(json.dumps(run.result("ppo")))


def _base(argv: Sequence[str]) -> Config:
    """Returns the configuration that options override: that of `--preset`, else the stored one, else `state`."""
    presets, preset, run = expert_presets(), given(argv, "--preset"), given(argv, "--run")
    if wants_help(argv):
        return presets.get(preset or "", presets["state"])
    check_known_preset(preset, presets)
    if preset is None and run is not None and "--overwrite" not in argv:
        from rlgen.training.run import is_run

        if is_run(Path(run)):
            return _stored(Path(run))
    return presets[preset or "state"]


def _stored(folder: Path) -> Config:
    from rlgen.training.run import open_run

    return open_run(folder).config
