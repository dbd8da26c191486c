"""Demonstrations from a file for a run that has no demonstrator of its own."""

from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath

from rlgen.core.errors import UserError
from rlgen.data.formats.hdf5.guard import GuardedReader
from rlgen.data.formats.hdf5.reader import observed_before_action
from rlgen.demos.imports.hdf5 import good_episodes, import_hdf5, write_successes
from rlgen.demos.imports.options import Options
from rlgen.demos.imports.record import Imported
from rlgen.demos.imports.replay import check_states
from rlgen.demos.imports.sources import Source, task_of
from rlgen.libero.scenes.demo_info import demo_file_info
from rlgen.libero.scenes.scene import Scene


def take_demonstrations(path: Path, out: Path, scene: Scene, *, count: int, threads: int = 2) -> Imported:
    """Writes up to `count` successes of a file of `scene`'s task to `out`.

    Our own files have every state before its action and are taken as they are; people's are replayed first.

    Raises:
      UserError: the file is damaged, of another task, without physics, or has no success.
    """
    source = Source("hdf5", path, PurePosixPath(path.name))
    options = Options(count=count, threads=threads)
    with GuardedReader() as guard:
        check = guard.check(path)
        faults = [check.problem] if check.problem else list(check.bad.values())
        if faults:
            raise UserError(f"{faults[0]}; import its good episodes with `rlgen demos import {path} --skip-bad`")
        task = task_of(check.task, path)
        if task != scene.task:
            told = task.id if task else check.task
            raise UserError(f"{path} holds demonstrations of {told}, the run is of {scene.task.id}; choose another")
        if observed_before_action(path):
            return _as_it_is(source, out, scene, options, check.good)
        taken = import_hdf5(source, out, options, lambda task: scene, guard)
    if not taken.kept:
        raise UserError(f"{path}: none of {taken.read} episodes reaches the goal when it is replayed")
    return taken


def _as_it_is(source: Source, out: Path, scene: Scene, options: Options, names: tuple[str, ...]) -> Imported:
    steps = 0

    def episodes():
        nonlocal steps
        for name, episode in good_episodes(source, options, names):
            check_states(scene, episode.states.shape[1], f"{source.path}: /data/{name}/states")
            if episode.success:
                steps += len(episode)
                yield replace(episode, task=scene.task.id, prompt=scene.task.prompt)

    kept = write_successes(out, scene, islice(episodes(), options.count), demo_file_info(scene), options)
    if not kept:
        raise UserError(f"{source.path}: none of {len(names)} episodes is a success; choose another file")
    return Imported(str(source.path), out.name, scene.task.id, read=len(names), kept=kept, steps=steps)
