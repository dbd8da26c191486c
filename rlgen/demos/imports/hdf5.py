"""One HDF5 file of people's: checked, replayed, and written as ours."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from rlgen.core.errors import UserError
from rlgen.core.files import atomic_folder
from rlgen.core.types import Episode
from rlgen.data.episode import save_episode
from rlgen.data.formats.hdf5.guard import FileCheck, GuardedReader
from rlgen.data.formats.hdf5.layout import Demo, DemoFileInfo, DemoImages
from rlgen.data.formats.hdf5.reader import iterate_demos, observed_before_action, read_info, read_model_files
from rlgen.data.formats.hdf5.writer import stream_demos
from rlgen.demos.imports.options import Options, SceneOf
from rlgen.demos.imports.record import Imported
from rlgen.demos.imports.replay import Replayed, check_states, replay_episodes
from rlgen.demos.imports.sources import Source, task_of
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.replay import fixture_offset
from rlgen.libero.rendering.pool import RenderPool
from rlgen.libero.scenes.demo_info import demo_file_info
from rlgen.libero.scenes.scene import Scene

FILE = "file"  # stands for the whole file among bad episodes
MOVED = 0.001  # metres a fixture may stand off without being spoken of


def import_hdf5(
    source: Source, out: Path, options: Options, scene_of: SceneOf, guard: GuardedReader, key: str = ""
) -> Imported:
    """Imports one file to `out`: HDF5 of replayed successes, or a folder of `.npz` episodes as recorded.

    Nothing is written where no episode is good.

    Raises:
      UserError: without `skip_bad`, the first thing that is wrong with the file. A file of another family than
        LIBERO's, where a replay is asked for.
    """
    check = guard.check(source.path, clip=options.clip)
    bad = {**check.bad, **({FILE: check.problem} if check.problem else {})}
    if bad and not options.skip_bad:
        raise UserError(f"{next(iter(bad.values()))}; --clip clips actions, --skip-bad keeps the good episodes")
    result = Imported(
        source=str(source.path),
        output="",
        task=check.task,
        read=len(check.good) + len(check.bad),
        kept=0,
        bad=bad,
        key=key,
    )
    if not check.good:
        return result
    if not options.replay:
        return _as_recorded(source, out, options, check, result)
    task = task_of(check.task, source.path)
    if task is None:
        told = (
            f"{source.path}: {check.task} is no task of LIBERO and cannot be replayed; "
            "pass --no-replay to take its episodes as they were recorded"
        )
        if not options.skip_bad:
            raise UserError(told)
        return replace(result, bad={**bad, FILE: told})
    return _replayed(source, out, options, check, result, scene_of(task))


def _as_recorded(source: Source, out: Path, options: Options, check: FileCheck, result: Imported) -> Imported:
    steps = kept = 0
    with atomic_folder(out) as folder:
        for name, episode in islice(good_episodes(source, options, check.good), options.count):
            save_episode(folder / f"{name}.npz", episode)
            kept, steps = kept + 1, steps + len(episode)
    return replace(result, output=out.name, kept=kept, steps=steps)


def good_episodes(source: Source, options: Options, names: Iterable[str]) -> Iterator[tuple[str, Episode]]:
    """The episodes of a file that were found good, by name."""
    return iterate_demos(source.path, clip=options.clip, only=frozenset(names))


def _replayed(
    source: Source, out: Path, options: Options, check: FileCheck, result: Imported, scene: Scene
) -> Imported:
    failed: dict[str, str] = {}
    bad = dict(result.bad)
    sums: Counter[str] = Counter()
    ours = observed_before_action(source.path)

    def kept() -> Iterator[Episode]:
        for outcome in replay_episodes(scene, starts(), drop_noops=options.drop_noops, threads=options.threads):
            if outcome.episode is None:
                failed[outcome.name] = _reason(scene, source.path, outcome)
                continue
            sums.update(kept=1, steps=len(outcome.episode), noops=outcome.noops)
            yield outcome.episode

    def starts() -> Iterator[tuple[str, Episode]]:
        for name, episode in good_episodes(source, options, check.good):
            try:
                check_states(scene, episode.states.shape[1], f"{source.path}: /data/{name}/states")
            except UserError as error:
                if not options.skip_bad:
                    raise
                bad[name] = str(error)
                continue
            # Only our own files know the state before settling; of others the first one counts.
            yield name, episode if ours else replace(episode, initial_state=episode.states[0])

    info = _info(scene, source.path)
    written = write_successes(out, scene, islice(kept(), options.count), info, options)
    return replace(result, task=scene.task.id, output=out.name if written else "", failed=failed, bad=bad, **sums)


def _info(scene: Scene, path: Path) -> DemoFileInfo:
    """The file's own words where it has them; the MJCF is that of the scene, where the replays took place."""
    try:
        told = read_info(path)
    except UserError:
        return demo_file_info(scene)
    return replace(told, bddl_file_name=f"{scene.task.id}.bddl", model_file=demo_file_info(scene).model_file)


def _reason(scene: Scene, path: Path, outcome: Replayed) -> str:
    [model_file] = read_model_files(path, [outcome.name])
    offset = fixture_offset(scene, model_file)
    if offset is None or offset < MOVED:
        return outcome.reason
    return f"{outcome.reason}; when it was recorded, a fixture stood {1000 * offset:.0f} mm from where it stands here"


def write_successes(out: Path, scene: Scene, episodes: Iterator[Episode], info: DemoFileInfo, options: Options) -> int:
    """Writes episodes of a scene as HDF5, with pictures if wanted; no file where there are no episodes."""
    first = next(episodes, None)
    if first is None:
        return 0
    observer = Observer(scene)

    def rest() -> Iterator[Episode]:
        yield first
        yield from episodes

    drawn = _with_images(scene, rest(), options) if options.images else ((episode, None) for episode in rest())
    demos = (Demo(episode, observer(episode.states).robot, images) for episode, images in drawn)
    return stream_demos(out, demos, info)


def _with_images(scene: Scene, episodes: Iterable[Episode], options: Options) -> Iterator[tuple[Episode, DemoImages]]:
    with RenderPool(scene, options.view, image_size=options.size, workers=options.threads) as pool:
        for episode in episodes:
            images = pool.render(episode.states[:-1])
            yield episode, DemoImages(images[:, 0], images[:, 1])
