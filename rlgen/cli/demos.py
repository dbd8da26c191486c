"""Commands about demonstrations, which need no run: `rlgen demos TASK`, `rlgen demos --from`, `rlgen download`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rlgen.core.errors import UserError
from rlgen.core.process import cache_folder


def record_demos(words: Sequence[str]) -> None:
    """`rlgen demos TASK`: scripted demonstrations of tasks, a suite, or all."""
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(
        prog="rlgen demos",
        description="Records scripted demonstrations, successes only, one HDF5 file a task in LIBERO's layout.",
    )
    parser.add_argument("tasks", nargs="+", help="suite and number, name, instruction, a whole suite, or all")
    parser.add_argument("-n", type=int, default=50, dest="count", help="demonstrations of each task (50)")
    parser.add_argument("--out", type=Path, default=Path("runs/demos"), help="folder for the files (runs/demos)")
    parser.add_argument("--clean", action="store_true", help="straight and steady instead of human-like")
    parser.add_argument("--seed", type=int, default=0, help="of styles and attempts (0)")
    parser.add_argument("--split", choices=["train", "heldout"], default="train",
                        help="from placements sampled for training, or the stored states (train)")  # fmt: skip
    parser.add_argument("--mode", choices=["exact", "fast"], default="exact", help="physics (exact)")
    parser.add_argument("--attempts", type=int, help="at most so many a task (4 n + 20)")
    parser.add_argument("--workers", type=int, default=cores, help="processes; all cores by default")
    parser.add_argument("--overwrite", action="store_true", help="record again what --out holds already")
    parser.add_argument("--assets", type=Path, help="folder of LIBERO's object assets")
    parser.add_argument("--placeholders", action="store_true", help="use the built-in stand-ins")
    arguments = parser.parse_args(words)
    for name in ("count", "workers"):
        if getattr(arguments, name) < 1:
            raise UserError(
                f"{'-n' if name == 'count' else '--workers'} is {getattr(arguments, name)}, expected 1 or more"
            )
    from rlgen.demos.record import Recorder
    from rlgen.libero.scenes.assets import find_assets
    from rlgen.libero.tasks.suites import find_tasks

    cache = cache_folder()
    tasks = [task for name in arguments.tasks for task in find_tasks(name)]
    assets = find_assets(arguments.assets, placeholders=arguments.placeholders, cache=cache, log=_tell)
    limit = 4 * arguments.count + 20 if arguments.attempts is None else arguments.attempts
    recorder = Recorder(
        arguments.out,
        arguments.count,
        limit=limit,
        workers=arguments.workers,
        split=arguments.split,
        seed=arguments.seed,
        mode=arguments.mode,
        clean=arguments.clean,
    )
    short = recorder.record(tasks, assets, cache, overwrite=arguments.overwrite, log=_tell)
    if short:
        raise UserError(f"fewer than {arguments.count} demonstrations of {', '.join(short)}; allow more --attempts")


def import_demos(words: Sequence[str]) -> None:
    """`rlgen demos --from PATH`: demonstrations of people's as ours."""
    parser = argparse.ArgumentParser(
        prog="rlgen demos --from",
        description="Imports demonstrations of people: LIBERO's HDF5 is replayed without its no-ops, successes kept.",
    )
    parser.add_argument("--from", dest="path", type=Path, required=True, metavar="PATH",
                        help="an HDF5 file, a folder of them, or an RLDS dataset")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("runs/demos"), help="folder for the result (runs/demos)")
    parser.add_argument("-n", type=int, dest="count", help="keep at most so many episodes of a file")
    parser.add_argument("--skip-bad", action="store_true", help="keep the good episodes of damaged files")
    parser.add_argument("--clip", action="store_true", help="clip actions to [-1, 1]")
    parser.add_argument("--no-replay", action="store_true", help="take episodes as they were recorded, as .npz")
    parser.add_argument("--keep-noops", action="store_true", help="replay no-ops as well")
    parser.add_argument("--pictures", action="store_true", help="draw the pictures of both cameras, 256 x 256")
    parser.add_argument("--view", choices=["fast", "benchmark"], default="fast", help="how pictures are drawn")
    parser.add_argument("--overwrite", action="store_true", help="begin anew where --out holds another import")
    parser.add_argument("--assets", type=Path, help="folder of LIBERO's object assets")
    parser.add_argument("--placeholders", action="store_true", help="use the built-in stand-ins")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="all cores by default")
    arguments = parser.parse_args(words)
    from rlgen.demos.imports.importer import import_demonstrations
    from rlgen.demos.imports.options import Options
    from rlgen.libero.scenes.assets import find_assets
    from rlgen.libero.scenes.bundles import load_scene

    cache = cache_folder()
    options = Options(
        clip=arguments.clip,
        skip_bad=arguments.skip_bad,
        replay=not arguments.no_replay,
        drop_noops=not arguments.keep_noops,
        images=arguments.images,
        view=arguments.view,
        count=arguments.count,
        threads=arguments.threads,
    )
    assets = find_assets(arguments.assets, placeholders=arguments.placeholders, cache=cache, log=_tell)
    total = import_demonstrations(
        arguments.path,
        arguments.out,
        options,
        lambda task: load_scene(task, assets, cache),
        assets=assets.label,
        overwrite=arguments.overwrite,
        tell=_tell,
    )
    print(f"{arguments.out}: {', '.join(f'{count} {name}' for name, count in total.items())}")
    if not total["kept"]:
        raise UserError(f"no episode of {arguments.path} was kept; {arguments.out / 'import.json'} says why")


def download_sets(words: Sequence[str]) -> None:
    """`rlgen download`: the public LIBERO demonstration sets."""
    parser = argparse.ArgumentParser(
        prog="rlgen download", description="Fetches the public LIBERO demonstrations, recorded by people, as HDF5."
    )
    parser.add_argument("name", help="libero_spatial, libero_object, libero_goal, libero_10, libero_90, or all")
    parser.add_argument("--out", type=Path, required=True, help="folder; the same command goes on where it was")
    parser.add_argument("--endpoint", help="address of the hub; HF_ENDPOINT says the same")
    arguments = parser.parse_args(words)
    from rlgen.demos.imports.download import default_endpoint, download, wanted_suites
    from rlgen.libero.scenes.hub import is_offline

    wanted_suites(arguments.name)
    if is_offline():
        raise UserError("no network is to be used (RLGEN_OFFLINE or HF_HUB_OFFLINE is set); unset it to download")
    files = download(arguments.name, arguments.out, arguments.endpoint or default_endpoint(), tell=_tell)
    print(f"{arguments.out}: {len(files)} files; `rlgen demos --from {arguments.out}` makes them ours")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
