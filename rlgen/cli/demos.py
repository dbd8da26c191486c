"""`rlgen demos`: demonstrations of the scripted expert, and of people."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rlgen.cli.common import (
    AssetGroup,
    AssetOptions,
    Fixtures,
    Physics,
    Renderer,
    Resets,
    TaskWords,
    cores,
    log,
    parse,
)
from rlgen.configs.ranges import Count, Seed, Settings, Workers
from rlgen.core.errors import UserError
from rlgen.core.process import cache_folder


@dataclass(frozen=True)
class RecordArguments(Settings):
    """Options of `rlgen demos record`."""

    tasks: TaskWords
    """Suite and index (libero_goal/7), name, instruction, a whole suite, or all."""
    episodes: Count = 50
    """Demonstrations of each task."""
    out: Path = Path("runs/demos")
    """Folder for the files, <suite>/<name>_demo.hdf5."""
    clean: bool = False
    """Straight and steady instead of human-like."""
    styles: Count | None = None
    """Number of human-like styles that episodes share; one for each by default."""
    seed: Seed = 0
    """Of styles and trials."""
    split: Literal["train", "heldout"] = "train"
    """Reset states for training, or the benchmark's stored initial states."""
    resets: Resets = "standard"
    """standard draws reset states from the task's regions; wide moves objects and robot further, within reach."""
    physics: Physics = "exact"
    """exact equals the benchmark's environment; fast lets resting objects sleep."""
    fixtures: Fixtures = "fixed"
    """fixed leaves cabinets, stoves and racks where the scene has them; redraw places them anew in every trial."""
    max_trials: Count | None = None
    """Trials of a task at most; 4 x episodes + 20 by default."""
    workers: Workers = field(default_factory=cores)
    """Processes."""
    overwrite: bool = False
    """Record again what --out holds already."""
    objects: AssetGroup = field(default_factory=AssetOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clean and self.styles is not None:
            raise UserError(f"--styles {self.styles} with --clean: give one of them")
        if self.resets == "wide" and self.split == "heldout":
            raise UserError("--resets wide --split heldout: the stored states are as they are; give one of them")


def record(argv: Sequence[str]) -> None:
    """Records demonstrations of the scripted expert: successes only, one HDF5 file for each task in LIBERO's layout.

    An interrupted recording resumes with the same command.
    """
    arguments = parse(RecordArguments, argv, "rlgen demos record", record.__doc__ or "")
    if not arguments.tasks:
        raise UserError("no task: name one or more, such as libero_goal/7, a suite, or all")
    from rlgen.demos.record import Recorder
    from rlgen.libero.tasks.suites import find_tasks

    tasks = find_tasks(*arguments.tasks)
    recorder = Recorder(
        arguments.out,
        arguments.episodes,
        limit=arguments.max_trials or 4 * arguments.episodes + 20,
        workers=arguments.workers,
        split="wide" if arguments.resets == "wide" else arguments.split,
        seed=arguments.seed,
        physics=arguments.physics,
        fixtures=arguments.fixtures,
        clean=arguments.clean,
        styles=arguments.styles,
    )
    short = recorder.record(tasks, arguments.objects.find(), cache_folder(), overwrite=arguments.overwrite, log=log)
    if short:
        raise UserError(f"fewer than {arguments.episodes} demonstrations of {', '.join(short)}; raise --max-trials")


@dataclass(frozen=True)
class ImportArguments(Settings):
    """Options of `rlgen demos import`."""

    path: tyro.conf.Positional[Path]
    """An HDF5 file, a folder of them, or an RLDS dataset."""
    out: Path = Path("runs/demos")
    """Folder for the result."""
    episodes: Count | None = None
    """Episodes of a file to keep at most."""
    skip_bad: bool = False
    """Keep the good episodes of damaged files."""
    clip: bool = False
    """Clip actions to [-1, 1], as robosuite does before it executes them."""
    replay: bool = True
    """Replay the actions in exact physics and keep successes; otherwise take episodes as recorded, as .npz."""
    keep_noops: bool = False
    """Replay no-ops as well."""
    images: bool = False
    """Store images of both cameras, 256 x 256."""
    renderer: Renderer = "fast"
    """fast needs no GL library; benchmark renders the official pixels."""
    workers: Workers = field(default_factory=cores)
    """Threads that replay and render."""
    overwrite: bool = False
    """Begin anew where --out holds another import."""
    objects: AssetGroup = field(default_factory=AssetOptions)


def import_demos(argv: Sequence[str]) -> None:
    """Imports human demonstrations (HDF5 of LIBERO, robosuite and robomimic, RLDS) as ours.

    LIBERO's are replayed without their no-ops, and successes are kept. An interrupted import resumes with the same
    command, file by file.
    """
    arguments = parse(ImportArguments, argv, "rlgen demos import", import_demos.__doc__ or "")
    from rlgen.demos.imports.importer import import_demonstrations
    from rlgen.demos.imports.options import ImportOptions
    from rlgen.libero.scenes.bundles import load_scene

    options = ImportOptions(
        clip=arguments.clip,
        skip_bad=arguments.skip_bad,
        replay=arguments.replay,
        drop_noops=not arguments.keep_noops,
        images=arguments.images,
        renderer=arguments.renderer,
        episodes=arguments.episodes,
        threads=arguments.workers,
    )
    assets, cache = arguments.objects.find(), cache_folder()
    total = import_demonstrations(
        arguments.path,
        arguments.out,
        options,
        lambda task: load_scene(task, assets, cache),
        assets=assets.label,
        overwrite=arguments.overwrite,
        log=log,
    )
    print(f"{arguments.out}: {', '.join(f'{count} {name}' for name, count in total.items())}")
    if not total["kept"]:
        raise UserError(f"no episode of {arguments.path} was kept; {arguments.out / 'import.json'} says why")


@dataclass(frozen=True)
class DownloadArguments:
    """Options of `rlgen demos download`."""

    suite: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SUITE")]
    """libero_spatial, libero_object, libero_goal, libero_10, libero_90, or all."""
    out: Path = Path("runs/human")
    """Folder; an interrupted download resumes with the same command."""
    endpoint: str | None = None
    """Address of the hub; HF_ENDPOINT does the same."""


def download(argv: Sequence[str]) -> None:
    """Downloads the public human demonstrations of LIBERO as HDF5, checked against the hub's hashes."""
    arguments = parse(DownloadArguments, argv, "rlgen demos download", download.__doc__ or "")
    from rlgen.demos.imports import download as sets
    from rlgen.libero.scenes.hub import check_online

    sets.find_suites(arguments.suite)
    check_online()
    endpoint = arguments.endpoint or sets.default_endpoint()
    files = sets.download(arguments.suite, arguments.out, endpoint, log=log)
    print(f"{arguments.out}: {len(files)} files; `rlgen demos import {arguments.out}` imports them")
