"""`rlgen data`: datasets out of recorded episodes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from rlgen.cli.common import AssetGroup, AssetOptions, PathWords, ProgressLines, Renderer, cores, log, parse
from rlgen.configs.ranges import Count, Natural, Pixels, Port, Positive, Settings, Shards, Workers
from rlgen.core.errors import UserError
from rlgen.core.process import cache_folder

if TYPE_CHECKING:
    from rlgen.libero.scenes.assets import AssetSource

LeRobot = Literal["lerobot", "lerobot_av1", "lerobot_h264", "lerobot_v21", "lerobot_v21_av1", "lerobot_v21_h264"]
Format = Literal["rlds", "array_record", LeRobot, "hdf5"]


@dataclass(frozen=True)
class ExportArguments(Settings):
    """Options of `rlgen data export`."""

    paths: PathWords
    """HDF5 files of `rlgen demos record`, folders of them, and runs."""
    out: Path = Path("runs/datasets")
    """Folder for the datasets."""
    format: tuple[Format, ...] = ("rlds",)
    """One or several formats; images are rendered once."""
    image_size: Pixels = 256
    """Height and width of the images, pixels."""
    renderer: Renderer = "fast"
    """fast needs no GL library; benchmark renders the official pixels and needs EGL or OSMesa."""
    version: str = "1.0.0"
    """Of the datasets."""
    shards: Shards = 8
    """Files of a dataset; HDF5 has one for each task, LeRobot 2.1 one for each episode."""
    replay: Literal["drop", "label", "off"] = "drop"
    """Leave out episodes whose replay fails, keep them and list them on the card, or do not replay."""
    keep_noops: bool = False
    """Leave no-ops in; the dataset is then named by the suite alone."""
    workers: Workers = field(default_factory=cores)
    """Threads."""
    overwrite: bool = False
    """Replace datasets that are there."""
    objects: AssetGroup = field(default_factory=AssetOptions)


def export(argv: Sequence[str]) -> None:
    """Exports recorded episodes as RLDS, array_record, LeRobot 3.0 or 2.1 (images, videos) or HDF5, one for each suite.

    Actions are replayed in exact physics first. A killed export resumes with the same command.
    """
    arguments = parse(ExportArguments, argv, "rlgen data export", export.__doc__ or "")
    if not arguments.paths:
        raise UserError("nothing to export: name HDF5 files, folders of them, or runs")
    from rlgen.curation.export import ExportOptions, export_paths
    from rlgen.curation.render import RenderOptions
    from rlgen.curation.validate import Validator
    from rlgen.libero.scenes.assets import fingerprint
    from rlgen.libero.scenes.bundles import load_scene

    options = ExportOptions(
        out=arguments.out,
        formats=arguments.format,
        version=arguments.version,
        shards=arguments.shards,
        overwrite=arguments.overwrite,
        rendering=RenderOptions(arguments.renderer, arguments.image_size, arguments.workers),
        validator=Validator(arguments.replay, arguments.keep_noops, arguments.workers),
    )
    assets, cache = arguments.objects.find(), cache_folder()
    facts = {"label": assets.label, "fingerprint": fingerprint(assets.path)}
    with ProgressLines() as progress:
        made = export_paths(arguments.paths, options, lambda task: load_scene(task, assets, cache), facts, progress)
    for folder in made:
        print(folder)


@dataclass(frozen=True)
class VerifyArguments(Settings):
    """Options of `rlgen data verify`."""

    paths: PathWords
    """Datasets, or folders of them."""
    quick: bool = False
    """Do not decode the images."""
    replay: Natural = 0
    """Replay so many episodes of each dataset in exact physics and compare their states; 0 replays none."""
    workers: Workers = field(default_factory=cores)
    """Threads that replay."""
    objects: AssetGroup = field(default_factory=AssetOptions)


def verify(argv: Sequence[str]) -> None:
    """Checks every file, episode and figure of datasets against their cards; with `--replay` their states as well."""
    arguments = parse(VerifyArguments, argv, "rlgen data verify", verify.__doc__ or "")
    from rlgen.data.verify import verify_dataset

    damaged, assets_of = 0, replay_assets(arguments.objects)
    for folder in _datasets(arguments.paths):
        with ProgressLines() as progress:
            problems = verify_dataset(
                folder,
                images=not arguments.quick,
                on_progress=lambda done, total, folder=folder: progress(f"{folder}", done, total),
            )
        replayed = ""
        if arguments.replay and not problems:
            replayed, problems = _replay(folder, arguments, assets_of(folder))
        print(f"{folder}: {f'{len(problems)} problems' if problems else 'sound'}{replayed}")
        for problem in problems:
            print(f"  {problem}")
        damaged += bool(problems)
    if damaged:
        raise UserError(f"{damaged} of the datasets are not what their cards say; export them again")


def _replay(folder: Path, arguments: VerifyArguments, assets: "AssetSource") -> tuple[str, list[str]]:
    """Returns a summary of the replay of a dataset's sample, and its problems."""
    from rlgen.curation.replay_check import check_by_replay
    from rlgen.libero.scenes.bundles import load_scene

    @lru_cache(maxsize=8)
    def scene_of(task):
        return load_scene(task, assets, cache_folder())

    with ProgressLines() as progress:
        return check_by_replay(
            folder,
            arguments.replay,
            scene_of,
            assets,
            threads=arguments.workers,
            on_progress=lambda done, total: progress(f"{folder}: replaying", done, total),
        )


@dataclass(frozen=True)
class ShowArguments(Settings):
    """Options of `rlgen data show`."""

    paths: PathWords
    """A dataset of any format, or two of them to be shown side by side."""
    split: str | None = None
    """Of RLDS datasets of others; train by default, or the only one there is."""
    out: Path | None = None
    """Folder to write the pages to, instead of serving them."""
    episode: tuple[Natural, ...] = ()
    """With --out: of these episodes alone, of the first dataset where there are two."""
    port: Port = 0
    """Of the loopback address; any free one by default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.episode and self.out is None:
            raise UserError("--episode without --out: give --out DIR as well, or open the episode in the browser")


def show(argv: Sequence[str]) -> None:
    """Shows episodes in a browser, from this machine alone, or as files: images that play above actions and states.

    Of two datasets, episodes of the same task are side by side, and of the same initial state where both say theirs.
    """
    arguments = parse(ShowArguments, argv, "rlgen data show", show.__doc__ or "")
    from rlgen.curation.viewer import make_server, write_pages

    folders = [_dataset(path) for path in arguments.paths]
    if arguments.out is not None:
        print(write_pages(folders, arguments.out, list(arguments.episode) or None, arguments.split))
        return
    with make_server(folders, arguments.port, arguments.split) as server:
        host, port = server.server_address[:2]
        print(f"http://{host}:{port}/ (Ctrl-C ends it)", flush=True)
        server.serve_forever()


@dataclass(frozen=True)
class MergeArguments(Settings):
    """Options of `rlgen data merge`."""

    paths: PathWords
    """Datasets of any format."""
    split: str | None = None
    """Of RLDS datasets of others; train by default, or the only one there is."""
    out: Path = Path("runs/merged")
    """Folder for the result."""
    name: str | None = None
    """Of the result; that of the datasets by default."""
    format: tuple[Format, ...] = ("rlds",)
    """One or several formats; hdf5 out of HDF5 exports alone, which have physics states."""
    weights: tuple[Positive, ...] = ()
    """Shares of the datasets in the episodes, such as 3 1; all episodes by default."""
    episodes: Count | None = None
    """Keep so many episodes of each task, those first in their datasets, in the shares of --weights."""
    smoothest: Count | None = None
    """Keep so many episodes of each task, those with the least jerk."""
    shortest: Count | None = None
    """Keep so many episodes of each task, the shortest."""
    keep_duplicates: bool = False
    """Keep episodes that are the same."""
    version: str = "1.0.0"
    """Of the result."""
    shards: Shards = 8
    """Files of the result."""
    workers: Workers = field(default_factory=cores)
    """Threads."""
    overwrite: bool = False
    """Replace a dataset that is there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.smoothest is not None and self.shortest is not None:
            raise UserError("--smoothest and --shortest: give one of them")


def merge(argv: Sequence[str]) -> None:
    """Merges several datasets into one; images are taken over as they are."""
    arguments = parse(MergeArguments, argv, "rlgen data merge", merge.__doc__ or "")
    from rlgen.curation.merge import MergeOptions, merge_datasets
    from rlgen.curation.selection import SelectionRule

    shortest = arguments.shortest is not None
    options = MergeOptions(
        out=arguments.out,
        name=arguments.name,
        formats=arguments.format,
        selection=SelectionRule(
            weights=arguments.weights,
            episodes=arguments.episodes,
            keep=arguments.shortest if shortest else arguments.smoothest,
            order="shortest" if shortest else "smoothest",
            duplicates=arguments.keep_duplicates,
        ),
        version=arguments.version,
        shards=arguments.shards,
        workers=arguments.workers,
        overwrite=arguments.overwrite,
        split=arguments.split,
    )
    folders = [folder for path in arguments.paths for folder in _datasets([path])]
    with ProgressLines() as progress:
        made = merge_datasets(folders, options, progress)
    for folder in made:
        print(folder)


@dataclass(frozen=True)
class PushArguments(Settings):
    """Options of `rlgen data push`."""

    path: tyro.conf.Positional[Path]
    """A dataset of any format that has a card."""
    repo: str
    """USER/NAME on the hub."""
    private: bool = False
    """Make the repository private, if it is made here."""
    overwrite: bool = False
    """Replace the repository's README.md, and remove its files that the dataset does not have."""
    dry_run: bool = False
    """List every file that would be sent, and send nothing."""


def push(argv: Sequence[str]) -> None:
    """Uploads a dataset to the Hugging Face hub, with a card and the version tag that readers look for.

    The token is that of HF_TOKEN or of `hf auth login`; HF_ENDPOINT names another server. The same command resumes.
    """
    arguments = parse(PushArguments, argv, "rlgen data push", push.__doc__ or "")
    from rlgen.data.hub.transfer import plan_push, push_dataset
    from rlgen.libero.scenes.hub import check_online

    folder = _dataset(arguments.path)
    plan = plan_push(folder, arguments.repo)
    if arguments.dry_run:
        print("\n".join(plan.lines()))
        return
    check_online()
    with ProgressLines("files") as progress:
        address = push_dataset(
            plan,
            private=arguments.private,
            overwrite=arguments.overwrite,
            on_progress=lambda done, total: progress(f"{folder} to {arguments.repo}", done, total),
        )
    print(address)


@dataclass(frozen=True)
class PullArguments(Settings):
    """Options of `rlgen data pull`."""

    repo: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="USER/NAME")]
    """USER/NAME on the hub."""
    out: Path | None = None
    """Folder of the dataset; runs/datasets/NAME by default."""
    revision: str | None = None
    """Tag, branch or commit; the newest by default."""


def pull(argv: Sequence[str]) -> None:
    """Downloads a dataset from the Hugging Face hub and checks every file; the same command resumes."""
    arguments = parse(PullArguments, argv, "rlgen data pull", pull.__doc__ or "")
    from rlgen.data.hub.transfer import pull_dataset
    from rlgen.libero.scenes.hub import check_online

    check_online()
    out = arguments.out or Path("runs/datasets") / arguments.repo.rpartition("/")[2]
    with ProgressLines("files") as progress:
        folder = pull_dataset(
            arguments.repo,
            out,
            revision=arguments.revision,
            on_progress=lambda done, total: progress(f"{arguments.repo}", done, total),
        )
    print(folder)


@dataclass(frozen=True)
class QualityArguments(Settings):
    """Options of `rlgen data quality`."""

    paths: PathWords
    """Datasets, HDF5 files, folders of them, and runs."""
    names: tuple[str, ...] = ()
    """Names of the sources; those of the paths by default."""
    split: str | None = None
    """Of RLDS datasets of others; train by default, or the only one there is."""
    out: Path = Path("runs/quality")
    """Folder for the result."""
    task: str | None = None
    """Instruction whose actions are shown over time; the most common one by default."""
    axis: str = "y"
    """Action that is shown over time: x, y, z, rx, ry, rz, gripper."""
    replay: bool = False
    """Replay every episode whose initial state is known."""
    workers: Workers = field(default_factory=cores)
    """Threads."""
    objects: AssetGroup = field(default_factory=AssetOptions)


def quality(argv: Sequence[str]) -> None:
    """Measures datasets, HDF5 files and runs and compares them on one page."""
    arguments = parse(QualityArguments, argv, "rlgen data quality", quality.__doc__ or "")
    if not arguments.paths:
        raise UserError("nothing to measure: name datasets, HDF5 files or runs")
    if arguments.names and len(arguments.names) != len(arguments.paths):
        raise UserError(f"{len(arguments.names)} names for {len(arguments.paths)} paths: expected one for each")
    from rlgen.core.ownership import check_names
    from rlgen.curation.compare import COMPARISON, read_source, with_unique_names, write_quality
    from rlgen.libero.scenes.bundles import load_scene

    check_names(arguments.out, COMPARISON)
    assets_of = replay_assets(arguments.objects)
    load = lru_cache(maxsize=8)(lambda task, assets: load_scene(task, assets, cache_folder()))
    sources = []
    for path in arguments.paths:
        log(f"measuring {path}")
        options = {"replay_episodes": arguments.replay, "threads": arguments.workers, "split": arguments.split}
        sources.append(read_source(path, lambda task, path=path: load(task, assets_of(path)), **options))
    names = arguments.names or tuple(source.name for source in sources)
    renamed = [replace(source, name=name) for name, source in zip(names, sources, strict=True)]
    print(write_quality(with_unique_names(renamed), arguments.out, task=arguments.task, axis=arguments.axis))


def replay_assets(objects: AssetOptions) -> "Callable[[Path], AssetSource]":
    """Returns what finds the object assets of a dataset: as the options say, else as its card or the search does.

    Raises:
      UserError: assets that are given cannot be used; at once.
    """
    find = cache(lambda placeholders: (AssetOptions(placeholders=True) if placeholders else objects).find())
    if objects.given:
        find(False)

    def assets_of(path: Path) -> "AssetSource":
        from rlgen.curation.replay_check import has_placeholders

        return find(not objects.given and has_placeholders(path))

    return assets_of


def _dataset(path: Path) -> Path:
    folder, *others = _datasets([path])
    if others:
        raise UserError(f"{path}: {1 + len(others)} datasets in it; name one, such as {folder}")
    return folder


def _datasets(paths: Sequence[Path]) -> list[Path]:
    from rlgen.data.dataset import dataset_folders

    found = [folder for path in paths for folder in dataset_folders(path)]
    if not found:
        raise UserError(f"{', '.join(map(str, paths)) or 'no path'}: no dataset there; `rlgen data export` makes one")
    return found
