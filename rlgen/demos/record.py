"""Recordings of scripted demonstrations: one file a task in LIBERO's HDF5, for `rlgen demos record`.

A run's stage `demos` records its own task by the same trials.
"""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError
from rlgen.core.files import write_json
from rlgen.core.ownership import check_file, has_keys, only_writer, read_record
from rlgen.core.process import worker_pool
from rlgen.demos.trials import (
    JOB,
    UNSAID,
    Job,
    TrialResult,
    count_successes,
    mean_success_length,
    run_trials,
    said_of,
    write_recording,
)
from rlgen.libero.envs.environment import Physics
from rlgen.libero.envs.wide_resets import with_split
from rlgen.libero.scenes.assets import AssetSource
from rlgen.libero.scenes.bundles import build_scene_bundles
from rlgen.libero.scenes.fixtures import Fixtures
from rlgen.libero.scenes.scene import Scene, load_scene_bundle
from rlgen.libero.tasks.suites import Task

LOG_EVERY = 10  # trials between two lines of the log


@dataclass(frozen=True)
class Recorder:
    """A recording of one file per task, `<out>/<suite>/<name>_demo.hdf5`, as the public sets are named.

    Attributes:
      out: folder of the files.
      count: demonstrations of each task.
      limit: most trials of each task.
      workers: processes.
      split, seed, physics, clean, fixtures, styles: as in `Job`.
    """

    out: Path
    count: int
    limit: int
    workers: int
    split: str
    seed: int
    physics: Physics
    clean: bool
    fixtures: Fixtures = "fixed"
    styles: int | None = None

    def record(
        self,
        tasks: Sequence[Task],
        assets: AssetSource,
        cache: Path,
        *,
        overwrite: bool,
        log: Callable[[str], None],
    ) -> list[str]:
        """Records every task whose file is not there yet.

        Args:
          tasks: tasks to record.
          assets: object assets of their scenes.
          cache: folder where scene bundles are kept.
          overwrite: record tasks again whose file is there.
          log: receives a line per event.

        Returns:
          Ids of the tasks of which fewer than `count` trials succeeded; their files hold those that did.

        Raises:
          UserError: a file that is there was recorded elsewhere or with other settings, or `out` has another writer.
        """
        short = []
        for task in tasks:
            self._check_replaceable(task)
        with only_writer(self.out), worker_pool(self.workers) as pool:
            bundles = build_scene_bundles(tasks, assets, cache, workers=self.workers)
            for task, bundle in zip(tasks, bundles, strict=True):
                if not overwrite and self._is_recorded(task):
                    log(f"{task.id}: done before")
                    continue
                job = Job(bundle, self.split, self.seed, self.physics, self.clean, self.fixtures, self.styles)
                results = self._record_task(job, pool, log)
                short += [task.id] if count_successes(results) < self.count else []
        return short

    def _record_task(self, job: Job, pool: ProcessPoolExecutor, log: Callable[[str], None]) -> list[TrialResult]:
        scene = with_split(load_scene_bundle(job.bundle), job.split)
        file = demonstration_file(self.out, scene.task)
        folder = _trials_folder(file)
        results: list[TrialResult] = []
        trials = run_trials(job, folder, enough=self._is_enough, limit=self.limit, pool=pool, workers=self.workers)
        for result in trials:
            results.append(result)
            if len(results) % LOG_EVERY == 0:
                log(f"{scene.task.id}: {count_successes(results)} of {len(results)} trials succeeded")
        successes = count_successes(results)
        if successes:
            write_recording(file, scene, folder, results)
            write_json(_summary_file(file), _summary(job, scene, results))
        shutil.rmtree(folder)
        where = f", {file}" if successes else ""
        log(f"{scene.task.id}: {successes} demonstrations of {len(results)} trials{where}")
        return results

    def _is_enough(self, results: Sequence[TrialResult]) -> bool:
        return count_successes(results) >= self.count

    def _is_recorded(self, task: Task) -> bool:
        """Returns whether the task was recorded with these settings; raises where it was with others."""
        file = demonstration_file(self.out, task)
        summary = _stored_summary(file, task)
        if summary is None or not file.is_file():
            return False
        recorded = UNSAID | summary
        for name, value in (UNSAID | _settings(self)).items():
            if recorded[name] != value:
                was = f"was recorded with {name} {recorded[name]}, not {value}"
                raise UserError(f"{file} {was}; pass --overwrite or choose another --out")
        return bool(summary["demonstrations"] >= self.count)

    def _check_replaceable(self, task: Task) -> None:
        """Raises where the names of a task's recording are those of somebody's files, such as public demonstrations."""
        file = demonstration_file(self.out, task)
        # A recording that was killed before it had its summary still has its trials.
        is_ours = _stored_summary(file, task) or has_keys(read_record(_trials_folder(file) / JOB), "bundle", "clean")
        for path in (file, _summary_file(file)):
            check_file(path, lambda path: bool(is_ours), noun=f"a recording of {task.id}")


def demonstration_file(out: Path, task: Task) -> Path:
    """Returns the file of a task's demonstrations in a folder of recordings."""
    return out / task.suite / f"{task.name}_demo.hdf5"


def _settings(settings: Job | Recorder) -> dict[str, object]:
    """Returns the settings that a summary records, by their names there."""
    named = {"split": settings.split, "seed": settings.seed, "mode": settings.physics}
    return named | {"style": "clean" if settings.clean else "human-like"} | said_of(settings)


def _summary_file(file: Path) -> Path:
    return file.with_suffix(".json")


def _trials_folder(file: Path) -> Path:
    return file.with_suffix(".trials")


def _stored_summary(file: Path, task: Task) -> dict[str, Any] | None:
    """Returns the summary of a task's recording; None if there is none."""
    summary = read_record(_summary_file(file))
    is_ours = has_keys(summary, "task", "demonstrations", "attempts", "split", "seed", "mode", "style")
    return summary if is_ours and summary["task"] == task.id else None


def _summary(job: Job, scene: Scene, results: Sequence[TrialResult]) -> dict[str, object]:
    return {
        "task": scene.task.id,
        "prompt": scene.task.prompt,
        "assets": scene.assets,
        **_settings(job),
        "demonstrations": count_successes(results),
        "attempts": len(results),
        "mean_length": mean_success_length(results),
    }
