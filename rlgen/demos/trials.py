"""Trials of the scripted expert over processes: each one's result and, where it succeeded, its episode are kept.

Every finished trial is on disk at once, so that an interrupted recording resumes with the next trial, and a trial
depends on its job and its index alone, not on the number of processes.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.files import read_json, write_json
from rlgen.core.ownership import read_record
from rlgen.data.episode import load_episode, save_episode
from rlgen.data.formats.hdf5.writer import write_demos
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.libero.envs.environment import Physics
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.rollouts import make_trials, run_episodes
from rlgen.libero.envs.wide_resets import with_split
from rlgen.libero.scenes.demo_info import demo_file_info
from rlgen.libero.scenes.fixtures import Fixtures
from rlgen.libero.scenes.scene import Scene, load_scene_bundle

SOURCE = "scripted"
# The record of a folder of trials.
JOB = "job.json"
# Settings that records say where they are others than these.
UNSAID: dict[str, object] = {"fixtures": "fixed", "styles": None, "habits": True}


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
      styles, habits: as of `ScriptedExpert`.
    """

    bundle: Path
    split: str
    seed: int
    physics: Physics
    clean: bool
    fixtures: Fixtures = "fixed"
    styles: int | None = None
    habits: bool = True


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
    expert = _expert(job.bundle, job.split, job.fixtures, job.clean, job.styles, job.habits)
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


def count_successes(results: Sequence[TrialResult]) -> int:
    """Returns the number of trials that succeeded."""
    return sum(result.success for result in results)


def mean_success_length(results: Sequence[TrialResult]) -> float:
    """Returns the mean length of the successful trials, control steps."""
    return float(np.mean([result.control_steps for result in results if result.success]))


def _claim(job: Job, folder: Path) -> None:
    """Records the folder's job; raises where it is another one's."""
    settings = {"bundle": job.bundle.name, "split": job.split, "seed": job.seed}
    settings |= {"mode": job.physics, "clean": job.clean, **said_of(job)}
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
def _expert(
    bundle: Path, split: str, fixtures: Fixtures, clean: bool, styles: int | None, habits: bool
) -> ScriptedExpert:
    """Returns the expert of the task that this process works on; tasks come one after the other."""
    scene = replace(with_split(load_scene_bundle(bundle), split), training_fixtures=fixtures)
    return ScriptedExpert(scene, clean=clean, styles=styles, habits=habits)


def said_of(settings: Any) -> dict[str, object]:
    """Returns what records say of fixtures, styles and habits: nothing of the defaults, which came first."""
    return {name: value for name, first in UNSAID.items() if (value := getattr(settings, name, first)) != first}
