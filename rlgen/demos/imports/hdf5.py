"""Import of one HDF5 file of human demonstrations: checked, replayed, and written in LIBERO's layout."""

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
from rlgen.demos.imports.manifest import ImportResult
from rlgen.demos.imports.options import ImportOptions, SceneLoader
from rlgen.demos.imports.replay import ReplayOutcome, check_state_size, replay_episodes
from rlgen.demos.imports.sources import Source
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.replay import fixture_offset
from rlgen.libero.rendering.pool import RenderPool
from rlgen.libero.scenes.demo_info import demo_file_info
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.tasks.suites import find_demo_task

WHOLE_FILE = "file"  # stands for the whole file among bad episodes
FIXTURE_TOLERANCE = 0.001  # offset of a fixture from which a failure mentions it, metres


def import_hdf5(
    source: Source, out: Path, options: ImportOptions, load_scene: SceneLoader, guard: GuardedReader, key: str = ""
) -> ImportResult:
    """Imports one file to `out`: HDF5 of replayed successes, or a folder of `.npz` episodes as recorded.

    Nothing is written where no episode is good.

    Args:
      source: an HDF5 file.
      out: file or folder to write.
      options: of the import.
      load_scene: loads the scene of a task.
      guard: checks the file in another process first.
      key: of the source's content, for the result.

    Raises:
      UserError: without `skip_bad`, the first problem of the file; or a file to replay that is not LIBERO's.
    """
    check = guard.check(source.path, clip=options.clip)
    bad = {**check.bad, **({WHOLE_FILE: check.problem} if check.problem else {})}
    if bad and not options.skip_bad:
        raise UserError(f"{next(iter(bad.values()))}; --clip clips actions, --skip-bad keeps the good episodes")
    result = ImportResult(
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
        return _import_as_recorded(source, out, options, check, result)
    task = find_demo_task(check.task, source.path)
    if task is None:
        message = (
            f"{source.path}: {check.task} is no task of LIBERO and cannot be replayed; "
            "pass --no-replay to take its episodes as recorded"
        )
        if not options.skip_bad:
            raise UserError(message)
        return replace(result, bad={**bad, WHOLE_FILE: message})
    return _import_replayed(source, out, options, check, result, load_scene(task))


def _import_as_recorded(
    source: Source, out: Path, options: ImportOptions, check: FileCheck, result: ImportResult
) -> ImportResult:
    steps = kept = 0
    with atomic_folder(out) as folder:
        for name, episode in islice(read_episodes(source, options, check.good), options.episodes):
            save_episode(folder / f"{name}.npz", episode)
            kept, steps = kept + 1, steps + len(episode)
    return replace(result, output=out.name, kept=kept, steps=steps)


def read_episodes(source: Source, options: ImportOptions, names: Iterable[str]) -> Iterator[tuple[str, Episode]]:
    """Yields some episodes of a file, with their names.

    Args:
      source: an HDF5 file.
      options: of the import; decide whether actions are clipped.
      names: of the episodes that were found good.
    """
    return iterate_demos(source.path, clip=options.clip, only=frozenset(names))


def _import_replayed(
    source: Source, out: Path, options: ImportOptions, check: FileCheck, result: ImportResult, scene: Scene
) -> ImportResult:
    failed: dict[str, str] = {}
    bad = dict(result.bad)
    sums: Counter[str] = Counter()
    settles = observed_before_action(source.path)

    def successes() -> Iterator[Episode]:
        for outcome in replay_episodes(scene, starts(), drop_noops=options.drop_noops, threads=options.threads):
            if outcome.episode is None:
                failed[outcome.name] = outcome.reason if settles else _failure(scene, source.path, outcome)
                continue
            sums.update(kept=1, steps=len(outcome.episode), noops=outcome.noops)
            yield outcome.episode

    def starts() -> Iterator[tuple[str, Episode]]:
        for name, episode in read_episodes(source, options, check.good):
            try:
                check_state_size(scene, episode.states.shape[1], f"{source.path}: /data/{name}/states")
            except UserError as error:
                if not options.skip_bad:
                    raise
                bad[name] = str(error)
                continue
            # Only files of this project have the state before settling; for others the first state stands in.
            yield name, episode if settles else replace(episode, initial_state=episode.states[0])

    info = _file_info(scene, source.path, options.image_size)
    written = write_successes(out, scene, islice(successes(), options.episodes), info, options)
    return replace(result, task=scene.task.id, output=out.name if written else "", failed=failed, bad=bad, **sums)


def _file_info(scene: Scene, path: Path, image_size: int) -> DemoFileInfo:
    """Returns the names and the language that the file has, if any, with the scene and environment of the replays."""
    ours = demo_file_info(scene, image_size)
    try:
        info = read_info(path)
    except UserError:
        return ours
    return replace(ours, env_name=info.env_name, language=info.language, domain_name=info.domain_name)


def _failure(scene: Scene, path: Path, outcome: ReplayOutcome) -> str:
    """Returns the reason for a failed replay, with the offset of a fixture that may have caused it."""
    [model_file] = read_model_files(path, [outcome.name])
    offset = fixture_offset(scene, model_file)
    if offset is None or offset < FIXTURE_TOLERANCE:
        return outcome.reason
    return f"{outcome.reason}; when it was recorded, a fixture stood {1000 * offset:.0f} mm from where it stands here"


def write_successes(
    out: Path, scene: Scene, episodes: Iterator[Episode], info: DemoFileInfo, options: ImportOptions
) -> int:
    """Writes episodes of a scene as HDF5; no file where there are no episodes.

    Args:
      out: file to write.
      scene: of all episodes.
      episodes: consumed while they are written.
      info: attributes of the file.
      options: of the import; decide whether images are rendered and stored.

    Returns:
      The number of episodes.
    """
    first = next(episodes, None)
    if first is None:
        return 0
    observer = Observer(scene)

    def all_episodes() -> Iterator[Episode]:
        yield first
        yield from episodes

    rendered = (
        _with_images(scene, all_episodes(), options)
        if options.images
        else ((episode, None) for episode in all_episodes())
    )
    demos = (Demo(episode, observer(episode.states).robot, images) for episode, images in rendered)
    return stream_demos(out, demos, info)


def _with_images(
    scene: Scene, episodes: Iterable[Episode], options: ImportOptions
) -> Iterator[tuple[Episode, DemoImages]]:
    with RenderPool(scene, options.renderer, image_size=options.image_size, workers=options.threads) as pool:
        for episode in episodes:
            images = pool.render(episode.states[:-1], fixtures=episode.fixtures)
            yield episode, DemoImages(images[:, 0], images[:, 1])
