"""Recording of scripted demonstrations: trials of the expert over processes, successes written as LIBERO's HDF5.

`Recorder` records the files of whole tasks for `rlgen demos record`; a run's `demos` stage records its own task with
`run_trials` and `write_recording`. Every finished trial is on disk at once, so that an interrupted recording resumes
with the next trial, and a trial depends on its job and its index alone, not on the number of processes.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.files import read_json, write_json
from rlgen.core.ownership import check_file, has_keys, only_writer, read_record
from rlgen.core.process import worker_pool
from rlgen.data.episode import load_episode, save_episode
from rlgen.data.formats.hdf5.writer import write_demos
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.libero.envs.environment import Physics
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.rollouts import make_trials, run_episodes
from rlgen.libero.envs.wide_resets import with_split
from rlgen.libero.scenes.assets import AssetSource
from rlgen.libero.scenes.bundles import build_scene_bundles
from rlgen.libero.scenes.demo_info import demo_file_info
from rlgen.libero.scenes.fixtures import Fixtures
from rlgen.libero.scenes.scene import Scene, load_scene_bundle
from rlgen.libero.tasks.suites import Task

SOURCE = "scripted"
# The record of a folder of trials.
JOB = "job.json"
LOG_EVERY = 10  # trials between two lines of the log
# Settings that records say where they are others than these.
_UNSAID: dict[str, object] = {"fixtures": "fixed", "styles": None}


@dataclass(frozen=True)
class Job:
    """The settings that all trials of a recording share.

    Attributes:
      bundle: folder of the scene bundle.
      split: initial states, taken in order: `train`, `wide` (sampled reset states) or `heldout` (stored states).
      seed: of the recording; a trial's own seed is derived from it and the trial's index.
      physics: simulation mode, `exact` or `fast`.
      clean: straight and steady instead of human-like.
      fixtures: `fixed`, or `redraw` for a draw in every trial.
      styles: as of `ScriptedExpert`.
    """

    bundle: Path
    split: str
    seed: int
    physics: Physics
    clean: bool
    fixtures: Fixtures = "fixed"
    styles: int | None = None


@dataclass(frozen=True)
class TrialResult:
    """The outcome of one trial.

    Attributes:
      index: position of the trial in the recording, from zero.
      success: whether the goal was reached.
      control_steps: length of the episode.
      seconds: processor time; other programs on the machine do not count.
    """

    index: int
    success: bool
    control_steps: int
    seconds: float

    def to_json(self) -> dict[str, object]:
        """Returns the trial's record."""
        return {"number": self.index, "success": self.success, "steps": self.control_steps, "seconds": self.seconds}

    @classmethod
    def from_json(cls, record: dict[str, object]) -> "TrialResult":
        """Returns the result that `to_json` recorded."""
        return cls(record["number"], record["success"], record["steps"], record["seconds"])


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
        recorded = _UNSAID | summary
        for name, value in (_UNSAID | _settings(self)).items():
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


def run_trials(
    job: Job,
    folder: Path,
    *,
    enough: Callable[[Sequence[TrialResult]], bool],
    limit: int,
    pool: ProcessPoolExecutor,
    workers: int,
) -> Iterator[TrialResult]:
    """Yields results of trials in order, until there are enough.

    Args:
      job: the task and the settings of its trials.
      folder: of this job alone; receives a record of every trial and the episodes of those that succeeded. Trials
        that are recorded there are not run again.
      enough: whether the results so far suffice.
      limit: most trials.
      pool: of `worker_pool(workers)`.
      workers: trials that run at the same time.

    Raises:
      UserError: the folder holds trials of another job.
    """
    _claim(job, folder)
    results: list[TrialResult] = []
    running: dict[int, Future[TrialResult]] = {}
    try:
        while len(results) < limit and not enough(results):
            for index in range(len(results), min(len(results) + 2 * workers, limit)):
                if index not in running:
                    running[index] = pool.submit(run_trial, job, folder, index)
            results.append(running.pop(len(results)).result())
            yield results[-1]
    except (KeyboardInterrupt, GeneratorExit):
        # Raised here, or where the results are read: the pool ends its processes in the middle of their trials.
        running.clear()
        raise
    finally:
        # The folder may be removed after this: trials that have started finish first.
        wait([future for future in running.values() if not future.cancel()])


def run_trial(job: Job, folder: Path, index: int) -> TrialResult:
    """Runs one trial and records it, or reads its record.

    Args:
      job: the task and the settings of its trials.
      folder: of the job's records.
      index: position of the trial in the recording.
    """
    record, episode_file = folder / f"{index:05d}.json", _episode_file(folder, index)
    if record.is_file():
        result = TrialResult.from_json(read_json(record))
        # An interrupted removal of the folder may have taken the episode first.
        if not result.success or episode_file.is_file():
            return result
    start = time.process_time()
    expert = _expert(job.bundle, job.clean, job.split, job.styles)
    scene = expert.scene
    trials = make_trials(1, len(scene.initial_states(job.split)), seed=job.seed, offset=index)
    options = {"split": job.split, "source": SOURCE, "width": 1, "physics": job.physics, "fixtures": job.fixtures}
    [[episode]] = run_episodes(scene, expert, trials, threads=1, **options)
    if episode.success:
        save_episode(episode_file, episode)
    result = TrialResult(index, episode.success, len(episode), time.process_time() - start)
    write_json(record, result.to_json())
    return result


def write_recording(file: Path, scene: Scene, folder: Path, results: Sequence[TrialResult]) -> None:
    """Writes the episodes of successful trials, in order, as LIBERO's HDF5; the file appears whole.

    Args:
      file: HDF5 file to write.
      scene: the task's scene.
      folder: of the trials.
      results: of the trials; at least one succeeded.
    """
    episodes = [load_episode(_episode_file(folder, result.index)) for result in results if result.success]
    observer = Observer(scene)
    write_demos(file, episodes, [observer(episode.states).robot for episode in episodes], demo_file_info(scene))


def demonstration_file(out: Path, task: Task) -> Path:
    """Returns the file of a task's demonstrations in a folder of recordings."""
    return out / task.suite / f"{task.name}_demo.hdf5"


def count_successes(results: Sequence[TrialResult]) -> int:
    """Returns the number of trials that succeeded."""
    return sum(result.success for result in results)


def mean_success_length(results: Sequence[TrialResult]) -> float:
    """Returns the mean length of the successful trials, control steps."""
    return float(np.mean([result.control_steps for result in results if result.success]))


def _claim(job: Job, folder: Path) -> None:
    """Records the folder's job; raises where it is another one's."""
    settings = {"bundle": job.bundle.name, "split": job.split, "seed": job.seed}
    settings |= {"mode": job.physics, "clean": job.clean, **_drawn(job)}
    record = folder / JOB
    stored = read_record(record) if record.is_file() else settings
    if stored != settings:
        raise UserError(f"{folder} holds trials with other settings: {stored}; remove it or choose another --out")
    if not record.is_file() and any(not path.stem.isdigit() and path.name[0] != "." for path in folder.glob("*")):
        raise UserError(f"{folder} is there and holds no trials; move it away or choose another --out")
    write_json(record, settings)


def _episode_file(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.npz"


@lru_cache(maxsize=1)
def _expert(bundle: Path, clean: bool, split: str, styles: int | None) -> ScriptedExpert:
    """Returns the expert of the task that this process works on; tasks come one after the other."""
    return ScriptedExpert(with_split(load_scene_bundle(bundle), split), clean=clean, styles=styles)


def _settings(settings: Job | Recorder) -> dict[str, object]:
    """Returns the settings that a summary records, by their names there."""
    named = {"split": settings.split, "seed": settings.seed, "mode": settings.physics}
    return named | {"style": "clean" if settings.clean else "human-like"} | _drawn(settings)


def _drawn(settings: Job | Recorder) -> dict[str, object]:
    """Returns what records say of fixtures and styles: nothing of the defaults, as before there was a choice."""
    drawn = {"fixtures": settings.fixtures, "styles": settings.styles}
    return {name: value for name, value in drawn.items() if value != _UNSAID[name]}


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
