"""What a person can choose about an import."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mujoco

from rlgen.core.errors import UserError
from rlgen.data.formats.hdf5.guard import GuardedReader
from rlgen.data.shards import only_writer
from rlgen.demos.imports.hdf5 import FILE, import_hdf5
from rlgen.demos.imports.options import Options, SceneOf
from rlgen.demos.imports.record import Imported, Record, totals
from rlgen.demos.imports.rlds import episodes_by_task, import_rlds_task
from rlgen.demos.imports.sources import Source, find_sources
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.tasks.suites import Task


def import_demonstrations(
    path: Path,
    out: Path,
    options: Options,
    scene_of: SceneOf,
    *,
    assets: str,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, int]:
    """Imports whatever is at `path` into the folder `out`, going on after what an interrupted import left.

    Args:
      path: an HDF5 file, a folder of them, or an RLDS dataset.
      out: gets a file for each HDF5 file, under the same name, and for each task of a dataset; and `import.json`.
      options: of the import.
      scene_of: loads the scene of a task.
      assets: what the scenes are made of, for the record.
      overwrite: begin anew where `out` holds another import.
      tell: hears a line about each file.

    Returns:
      How many episodes were read, kept, bad and failed, the steps of what was kept, and no-ops dropped.

    Raises:
      UserError: nothing to import, `out` is in use for something else, or what a source raises.
    """
    sources = find_sources(path)
    if Path(out).resolve() == (path if path.is_dir() else path.parent).resolve():
        raise UserError(f"{out}: the import would lie among its sources; choose another --out")
    identity = {**options.identity(), "assets": assets, "mujoco": mujoco.__version__}
    cached = _last_scene(scene_of)
    with only_writer(Path(out)), GuardedReader() as guard:
        record = Record(out, identity, overwrite=overwrite)
        for source in sources:
            key = _key(source)
            before = record.finished(str(source.path), key)
            entries = before or _import(source, record, options, cached, guard, key)
            record.add(entries)
            for entry in entries:
                tell(_line(entry, done_before=bool(before)))
        return totals(record.done)


def _import(
    source: Source, record: Record, options: Options, scene_of: SceneOf, guard: GuardedReader, key: str
) -> list[Imported]:
    if source.kind == "hdf5":
        name = source.name if options.replay else source.name.with_suffix("")
        target = record.claim(str(source.path), str(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        entry = import_hdf5(source, target, options, scene_of, guard, key)
        return [replace(entry, output=str(name) if entry.output else "")]
    try:
        tasks, bad = episodes_by_task(source, options)
    except UserError as error:
        if not options.skip_bad:
            raise
        tasks, bad = {}, {FILE: str(error)}
    entries = [Imported(str(source.path), "", "", read=len(bad), kept=0, bad=bad, key=key)] if bad else []
    for task, numbers in tasks.items():
        name = str(source.name / f"{task.name}_demo.hdf5")
        entry = import_rlds_task(source, task, numbers, record.claim(str(source.path), name), options, scene_of)
        entries.append(replace(entry, output=name if entry.output else "", key=key))
    return entries


def _key(source: Source) -> str:
    """Changes with the source, as far as that can be seen without reading it."""
    files = [source.path] if source.path.is_file() else sorted(source.path.iterdir())
    return " ".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)


def _last_scene(scene_of: SceneOf) -> SceneOf:
    """Keeps one scene, since files of a task come one after the other and a scene is tens of megabytes."""
    kept: dict[Task, Scene] = {}

    def load(task: Task) -> Scene:
        if task not in kept:
            kept.clear()
            kept[task] = scene_of(task)
        return kept[task]

    return load


def _line(entry: Imported, *, done_before: bool) -> str:
    parts = [f"{entry.kept} of {entry.read} episodes kept"]
    parts += [f"{len(entry.bad)} bad"] if entry.bad else []
    parts += [f"{len(entry.failed)} failed in the replay"] if entry.failed else []
    parts += [f"{entry.noops} no-ops dropped"] if entry.noops else []
    parts += [] if entry.physics else ["no physics states"]
    parts += ["done before"] if done_before else []
    return f"{entry.output or entry.source}: {', '.join(parts)}"
