"""Commands about datasets, which need no run: `rlgen export PATH`, `rlgen dataset`, `rlgen quality PATH`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rlgen.core.errors import UserError
from rlgen.core.process import cache_folder


def export_episodes(words: Sequence[str]) -> None:
    """`rlgen export PATH...`: recorded episodes as datasets."""
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(
        prog="rlgen export",
        description="Exports recorded episodes, one dataset a suite and format. Their actions are replayed first.",
    )
    add = parser.add_argument
    add("paths", nargs="+", type=Path, help="HDF5 files of `rlgen demos`, folders of them, runs")
    add("--out", type=Path, default=Path("runs/datasets"), help="folder for the datasets (runs/datasets)")
    add("--format", dest="formats", default="rlds", help="rlds,array_record,lerobot,hdf5: one or several (rlds)")
    add("--resolution", type=int, default=256, help="pixels a side of the pictures (256)")
    add("--views", choices=["fast", "benchmark"], default="fast", help="renderer; benchmark needs EGL or OSMesa (fast)")
    add("--version", default="1.0.0", help="of the datasets (1.0.0)")
    add("--shards", type=int, default=8, help="files a dataset (8); HDF5 has one a task")
    add("--replay", choices=["drop", "label", "off"], default="drop",
        help="leave out episodes whose replay fails, keep them and say so, or do not replay (drop)")  # fmt: skip
    add("--keep-noops", action="store_true", help="leave no-ops in; the dataset is then named by the suite alone")
    add("--workers", type=int, default=cores, help="threads or processes; all cores by default")
    add("--overwrite", action="store_true", help="replace datasets that are there")
    _add_assets(parser)
    arguments = parser.parse_args(words)
    from rlgen.curation.export import ExportOptions, export_paths
    from rlgen.curation.render import RenderOptions
    from rlgen.curation.validate import Validator
    from rlgen.libero.scenes.assets import find_assets, fingerprint
    from rlgen.libero.scenes.bundles import load_scene

    options = ExportOptions(
        out=arguments.out,
        formats=tuple(arguments.formats.split(",")),
        version=arguments.version,
        shards=arguments.shards,
        overwrite=arguments.overwrite,
        drawing=RenderOptions(arguments.views, arguments.resolution, arguments.workers),
        checker=Validator(arguments.replay, arguments.keep_noops, arguments.workers),
    )
    cache = cache_folder()
    assets = find_assets(arguments.assets, placeholders=arguments.placeholders, cache=cache, log=_tell)
    told = {"label": assets.label, "fingerprint": fingerprint(assets.path)}
    with _Line() as line:
        made = export_paths(arguments.paths, options, lambda task: load_scene(task, assets, cache), told, line)
    for folder in made:
        print(folder)


def verify(words: Sequence[str]) -> None:
    """`rlgen dataset verify DIR...`: whether datasets are what their cards say."""
    parser = argparse.ArgumentParser(prog="rlgen dataset verify", description="Checks datasets against their cards.")
    parser.add_argument("paths", nargs="+", type=Path, help="datasets, or folders of them")
    parser.add_argument("--quick", action="store_true", help="do not decode the pictures")
    arguments = parser.parse_args(words)
    from rlgen.data.verify import verify_dataset

    faulty = 0
    for folder in _datasets(arguments.paths):
        with _Line() as line:
            faults = verify_dataset(
                folder,
                images=not arguments.quick,
                progress=lambda done, total, folder=folder: line(f"{folder}", done, total),
            )
        print(f"{folder}: {f'{len(faults)} faults' if faults else 'sound'}")
        for fault in faults:
            print(f"  {fault}")
        faulty += bool(faults)
    if faulty:
        raise UserError(f"{faulty} of the datasets are not what their cards say; export them again")


def compare_quality(words: Sequence[str]) -> None:
    """`rlgen quality A B C`: sources of episodes beside each other."""
    parser = argparse.ArgumentParser(
        prog="rlgen quality", description="Measures datasets, HDF5 files and runs beside each other; one page."
    )
    parser.add_argument("paths", nargs="+", type=Path, help="datasets, HDF5 files, folders of them, runs")
    parser.add_argument("--names", help="names of the sources, separated by commas; those of the paths by default")
    parser.add_argument("--out", type=Path, default=Path("runs/quality"), help="folder for the result (runs/quality)")
    parser.add_argument("--task", help="instruction shown over time; the most common one by default")
    parser.add_argument("--axis", default="y", help="action shown over time: x, y, z, rx, ry, rz, gripper (y)")
    parser.add_argument("--replay", action="store_true", help="replay every episode, where it began being known")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="all cores by default")
    _add_assets(parser)
    arguments = parser.parse_args(words)
    from functools import lru_cache

    from rlgen.curation.compare import Measured, measure, named_apart, write_quality
    from rlgen.libero.scenes.assets import find_assets
    from rlgen.libero.scenes.bundles import load_scene

    @lru_cache(maxsize=8)
    def scene_of(task):
        assets = find_assets(arguments.assets, placeholders=arguments.placeholders, cache=cache_folder(), log=_tell)
        return load_scene(task, assets, cache_folder())

    sources = []
    for path in arguments.paths:
        _tell(f"measuring {path}")
        sources.append(measure(path, scene_of, again=arguments.replay, threads=arguments.threads))
    names = arguments.names.split(",") if arguments.names else [source.name for source in sources]
    if len(names) != len(sources):
        raise UserError(f"{len(names)} names for {len(sources)} paths: expected one for each")
    renamed = [Measured(n, s.path, s.traces, s.groups, s.replay) for n, s in zip(names, sources, strict=True)]
    print(write_quality(named_apart(renamed), arguments.out, task=arguments.task, axis=arguments.axis))


def merge(words: Sequence[str]) -> None:
    """`rlgen dataset merge A B...`: several datasets into one."""
    parser = argparse.ArgumentParser(
        prog="rlgen dataset merge", description="One dataset of several; pictures are taken over as they are."
    )
    add = parser.add_argument
    add("paths", nargs="+", type=Path, help="datasets of any format")
    add("--out", type=Path, required=True, help="folder for the result")
    add("--name", help="of the result; that of the datasets by default")
    add("--format", dest="formats", default="rlds", help="rlds,array_record,lerobot: one or several (rlds)")
    add("--weights", help="shares of the datasets in the episodes, such as 3,1; all episodes by default")
    add("--smoothest", type=int, metavar="K", help="the K episodes of each task with the least jerk")
    add("--shortest", type=int, metavar="K", help="the K shortest episodes of each task")
    add("--keep-duplicates", action="store_true", help="keep episodes that are the same")
    add("--version", default="1.0.0", help="of the result (1.0.0)")
    add("--shards", type=int, default=8, help="files of the result (8)")
    add("--workers", type=int, default=os.cpu_count() or 1, help="threads; all cores by default")
    add("--overwrite", action="store_true", help="replace a dataset that is there")
    arguments = parser.parse_args(words)
    from rlgen.curation.merge import MergeOptions, merge_datasets

    if arguments.smoothest is not None and arguments.shortest is not None:
        raise UserError("--smoothest and --shortest: give one of them")
    shortest = arguments.shortest is not None
    options = MergeOptions(
        out=arguments.out,
        name=arguments.name,
        formats=tuple(arguments.formats.split(",")),
        weights=_numbers(arguments.weights),
        keep=arguments.shortest if shortest else arguments.smoothest,
        order="shortest" if shortest else "smoothest",
        duplicates=arguments.keep_duplicates,
        version=arguments.version,
        shards=arguments.shards,
        workers=arguments.workers,
        overwrite=arguments.overwrite,
    )
    folders = [folder for path in arguments.paths for folder in _datasets([path])]
    with _Line() as line:
        made = merge_datasets(folders, options, line)
    for folder in made:
        print(folder)


def _numbers(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise UserError(f"--weights {text}: expected numbers separated by commas, such as 3,1") from error


def show(words: Sequence[str]) -> None:
    """`rlgen dataset show DIR`: pictures and actions of any episode."""
    parser = argparse.ArgumentParser(
        prog="rlgen dataset show", description="Shows a dataset in a browser, from this machine alone, or as files."
    )
    parser.add_argument("path", type=Path, help="of the dataset")
    parser.add_argument("--out", type=Path, help="folder to write the pages to, instead of serving them")
    parser.add_argument("--episode", type=int, action="append", help="with --out: of these alone; may be repeated")
    parser.add_argument("--port", type=int, default=0, help="of the loopback address; any free one by default")
    arguments = parser.parse_args(words)
    from rlgen.curation.viewer import make_server, write_pages

    [folder, *others] = _datasets([arguments.path])
    if others:
        raise UserError(f"{arguments.path}: {1 + len(others)} datasets in it; name one, such as {folder}")
    if arguments.out is not None:
        print(write_pages(folder, arguments.out, arguments.episode))
        return
    with make_server(folder, arguments.port) as server:
        host, port = server.server_address[:2]
        print(f"http://{host}:{port}/ (Ctrl-C ends it)", flush=True)
        server.serve_forever()


DATASET_COMMANDS = {"verify": verify, "show": show, "merge": merge}


def about_datasets(words: Sequence[str]) -> None:
    """`rlgen dataset COMMAND ...`."""
    if not words or words[0] not in DATASET_COMMANDS:
        known = ", ".join(f"`rlgen dataset {name} --help`" for name in DATASET_COMMANDS)
        raise UserError(f"rlgen dataset {words[0] if words else '(nothing)'}: expected one of {known}")
    DATASET_COMMANDS[words[0]](words[1:])


def _datasets(paths: Sequence[Path]) -> list[Path]:
    from rlgen.data.dataset import dataset_folders

    found = [folder for path in paths for folder in dataset_folders(path)]
    if not found:
        raise UserError(f"{', '.join(map(str, paths))}: no dataset there; `rlgen export` makes one")
    return found


def _add_assets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--assets", type=Path, help="folder of LIBERO's object assets")
    parser.add_argument("--placeholders", action="store_true", help="use the built-in stand-ins")


class _Line:
    """Progress by what is being done: a stage of `Progress` for each."""

    def __enter__(self) -> "_Line":
        from rlgen.core.progress import Progress

        self._progress, self._words, self._context = Progress(stream=sys.stderr), "", None
        return self

    def __exit__(self, *error: object) -> None:
        self._close(*error)

    def __call__(self, words: str, done: int, total: int) -> None:
        """Hears that `done` of `total` are done of what `words` say; a total of 0 is unknown."""
        if words != self._words:
            self._close(None, None, None)
            self._words = words
            self._context = self._progress.stage(words, total=total or None, unit="episodes")
            self._stage = self._context.__enter__()
        self._stage.update(advance=done - self._stage.done)

    def _close(self, *error: object) -> None:
        if self._context is not None:
            context, self._context = self._context, None
            context.__exit__(*error)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
