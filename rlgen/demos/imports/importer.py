"""Imports of demonstrations: of everything at a path, resumable file by file, and of one file for a run."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath

import mujoco

from rlgen.core.errors import UserError
from rlgen.core.ownership import only_writer
from rlgen.core.types import Episode
from rlgen.data.formats.hdf5.guard import GuardedReader
from rlgen.data.formats.hdf5.reader import observed_before_action
from rlgen.demos.imports.hdf5 import WHOLE_FILE, import_hdf5, read_episodes, write_successes
from rlgen.demos.imports.manifest import ImportManifest, ImportResult, totals
from rlgen.demos.imports.options import ImportOptions, SceneLoader
from rlgen.demos.imports.replay import check_state_size
from rlgen.demos.imports.rlds import episodes_by_task, import_rlds_task
from rlgen.demos.imports.sources import Source, find_sources
from rlgen.libero.scenes.demo_info import demo_file_info
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.tasks.suites import Task, find_demo_task


def import_demonstrations(
    path: Path,
    out: Path,
    options: ImportOptions,
    load_scene: SceneLoader,
    *,
    assets: str,
    overwrite: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, int]:
    """Imports everything at `path` into the folder `out`; an interrupted import resumes after its last whole file.

    Args:
      path: an HDF5 file, a folder of them, or an RLDS dataset.
      out: receives a file for each HDF5 file, under the same name, and for each task of a dataset; and `import.json`.
      options: of the import.
      load_scene: loads the scene of a task.
      assets: label of the scenes' object assets, for the manifest.
      overwrite: replace an import with other options.
      log: receives a line about each file.

    Returns:
      Numbers of episodes read, kept, bad and failed, control steps of the kept ones, and dropped no-ops.

    Raises:
      UserError: nothing to import, `out` is in use for something else, or a source that cannot be read.
    """
    sources = find_sources(path)
    if Path(out).resolve() == (path if path.is_dir() else path.parent).resolve():
        raise UserError(f"{out}: the import would lie among its sources; choose another --out")
    identity = {**options.identity(), "assets": assets, "mujoco": mujoco.__version__}
    load_scene = _keep_last_scene(load_scene)
    with only_writer(Path(out)), GuardedReader() as guard:
        manifest = ImportManifest(out, identity, overwrite=overwrite)
        for source in sources:
            key = _source_key(source)
            before = manifest.finished(str(source.path), key)
            results = before or _import_source(source, manifest, options, load_scene, guard, key)
            manifest.add(results)
            for result in results:
                log(_log_line(result, done_before=bool(before)))
        return totals(manifest.results)


def import_for_run(path: Path, out: Path, scene: Scene, *, episodes: int, threads: int = 2) -> ImportResult:
    """Writes successes of a file of demonstrations of a scene's task to `out`.

    Files of this project have every state before its action and are taken as they are; others are replayed first.

    Args:
      path: HDF5 file of demonstrations.
      out: HDF5 file to write.
      scene: of the run.
      episodes: most successes.
      threads: that replay.

    Raises:
      UserError: the file is damaged, of another task, without physics, or has no success.
    """
    source = Source("hdf5", path, PurePosixPath(path.name))
    options = ImportOptions(episodes=episodes, threads=threads)
    with GuardedReader() as guard:
        check = guard.check(path)
        problems = [check.problem] if check.problem else list(check.bad.values())
        if problems:
            raise UserError(f"{problems[0]}; import its good episodes with `rlgen demos import {path} --skip-bad`")
        task = find_demo_task(check.task, path)
        if task != scene.task:
            name = task.id if task else check.task
            raise UserError(f"{path} holds demonstrations of {name}, the run is of {scene.task.id}; choose another")
        if observed_before_action(path):
            return _import_unchanged(source, out, scene, options, check.good)
        result = import_hdf5(source, out, options, lambda task: scene, guard)
    if not result.kept:
        raise UserError(f"{path}: none of {result.read} episodes reaches the goal when it is replayed")
    return result


def _import_unchanged(
    source: Source, out: Path, scene: Scene, options: ImportOptions, names: tuple[str, ...]
) -> ImportResult:
    steps = 0

    def successes() -> Iterator[Episode]:
        nonlocal steps
        for name, episode in read_episodes(source, options, names):
            check_state_size(scene, episode.states.shape[1], f"{source.path}: /data/{name}/states")
            if episode.success:
                steps += len(episode)
                yield replace(episode, task=scene.task.id, prompt=scene.task.prompt)

    kept = write_successes(out, scene, islice(successes(), options.episodes), demo_file_info(scene), options)
    if not kept:
        raise UserError(f"{source.path}: none of {len(names)} episodes is a success; choose another file")
    return ImportResult(str(source.path), out.name, scene.task.id, read=len(names), kept=kept, steps=steps)


def _import_source(
    source: Source,
    manifest: ImportManifest,
    options: ImportOptions,
    load_scene: SceneLoader,
    guard: GuardedReader,
    key: str,
) -> list[ImportResult]:
    """Imports one file, or the tasks of one dataset one after the other."""
    if source.kind == "hdf5":
        name = source.name if options.replay else source.name.with_suffix("")
        target = manifest.claim(str(source.path), str(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        result = import_hdf5(source, target, options, load_scene, guard, key)
        return [replace(result, output=str(name) if result.output else "")]
    try:
        tasks, bad = episodes_by_task(source, options)
    except UserError as error:
        if not options.skip_bad:
            raise
        tasks, bad = {}, {WHOLE_FILE: str(error)}
    results = [ImportResult(str(source.path), "", "", read=len(bad), kept=0, bad=bad, key=key)] if bad else []
    for task, indices in tasks.items():
        name = str(source.name / f"{task.name}_demo.hdf5")
        target = manifest.claim(str(source.path), name)
        result = import_rlds_task(source, task, indices, target, options, load_scene)
        results.append(replace(result, output=name if result.output else "", key=key))
    return results


def _source_key(source: Source) -> str:
    """Returns names, sizes and times of a source's files, which change when the source does."""
    files = [source.path] if source.path.is_file() else sorted(source.path.iterdir())
    return " ".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)


def _keep_last_scene(load_scene: SceneLoader) -> SceneLoader:
    """Returns a loader that keeps one scene: files of a task come one after the other, and a scene is large."""
    kept: dict[Task, Scene] = {}

    def load(task: Task) -> Scene:
        if task not in kept:
            kept.clear()
            kept[task] = load_scene(task)
        return kept[task]

    return load


def _log_line(result: ImportResult, *, done_before: bool) -> str:
    parts = [f"{result.kept} of {result.read} episodes kept"]
    parts += [f"{len(result.bad)} bad"] if result.bad else []
    parts += [f"{len(result.failed)} failed in the replay"] if result.failed else []
    parts += [f"{result.noops} no-ops dropped"] if result.noops else []
    parts += [] if result.physics else ["no physics states"]
    parts += ["done before"] if done_before else []
    return f"{result.output or result.source}: {', '.join(parts)}"
