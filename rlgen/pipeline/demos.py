"""Stage `demos`: demonstrations, scripted or from a file, successes only, in LIBERO's HDF5 layout."""

import shutil
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError
from rlgen.core.process import worker_pool
from rlgen.demos.imports.importer import import_for_run
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.demos.trials import (
    Job,
    TrialResult,
    count_successes,
    mean_success_length,
    run_trials,
    write_recording,
)
from rlgen.pipeline.context import Context, Work

FILE = "demos.hdf5"


def run(context: Context, work: Work) -> dict[str, Any]:
    """Records `demos.episodes` successes of the scripted expert, or takes them from `demos.file`."""
    config = context.run.config.demos
    work.progress.total = config.episodes
    if config.file is not None:
        return _from_file(context, work, Path(config.file), config.episodes)
    return _record(context, work, config.episodes)


def scripted_expert(context: Context, tries: int | None = None) -> ScriptedExpert:
    """Returns the scripted expert as the run's configuration wants it.

    Args:
      context: of the run.
      tries: as of `ScriptedExpert`.
    """
    demos = context.run.config.demos
    return ScriptedExpert(context.scene, clean=demos.clean, habits=demos.habits, styles=demos.styles, tries=tries)


def _record(context: Context, work: Work, count: int) -> dict[str, Any]:
    """Records as `rlgen demos record TASK --seed SEED` does, with the run's fixtures: from training reset states."""
    work.progress.log("loading the task and compiling the control step (up to 30 s the first time)")
    scene, config, folder = context.scene, context.run.config, work.folder / "trials"
    demos = config.demos
    manner = {"styles": demos.styles, "habits": demos.habits}
    job = Job(scene.folder, scene.training_split, config.seed, "exact", demos.clean, scene.training_fixtures, **manner)
    results: list[TrialResult] = []
    with worker_pool(config.workers) as pool:
        for result in run_trials(
            job,
            folder,
            enough=lambda so_far: count_successes(so_far) >= count,
            limit=4 * count + 20,
            pool=pool,
            workers=config.workers,
        ):
            results.append(result)
            work.clock.save()
            note = f"{count_successes(results)} kept of {len(results)} tried"
            work.progress.update(advance=int(result.success), note=note)
    successes, tried = count_successes(results), len(results)
    if successes < count:
        raise UserError(
            f"the scripted expert succeeded in {successes} of {tried} trials of {scene.task.id}, expected {count}",
            "lower --demos.episodes, choose another task, or give a file of demonstrations with --demos.file: "
            f"`{context.run.repeat('demos')} ...`",
        )
    write_recording(work.folder / FILE, scene, folder, results)
    shutil.rmtree(folder)
    return {"file": FILE, "episodes": successes, "tried": tried, "mean_length": mean_success_length(results)}


def _from_file(context: Context, work: Work, path: Path, count: int) -> dict[str, Any]:
    work.progress.log(f"taking demonstrations from {path}")
    config = context.run.config
    taken = import_for_run(path, work.folder / FILE, context.scene, episodes=count, threads=config.workers)
    work.progress.update(advance=taken.kept, note=f"{taken.kept} kept of {taken.read}")
    lengths = {"episodes": taken.kept, "tried": taken.read, "mean_length": taken.steps / taken.kept}
    return {"file": FILE, "source": str(path), **lengths}
