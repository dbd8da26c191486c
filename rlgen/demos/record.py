"""Many attempts of the demonstrator at one task, over processes; what was done stays done."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.files import read_json, write_json
from rlgen.core.process import worker_pool
from rlgen.core.types import Episode
from rlgen.data.episode import load_episode, save_episode
from rlgen.data.formats.hdf5.writer import write_demos
from rlgen.data.shards import only_writer
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.libero.envs.environment import Mode
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.rollouts import Trial, run_episodes
from rlgen.libero.scenes.assets import AssetSource
from rlgen.libero.scenes.bundles import build_bundles
from rlgen.libero.scenes.demo_info import demo_file_info
from rlgen.libero.scenes.scene import Scene, load_bundle
from rlgen.libero.tasks.suites import Task

SOURCE = "scripted"


@dataclass(frozen=True)
class Job:
    """What all attempts at a task have in common.

    Attributes:
      bundle: folder of the scene.
      split: `train` (sampled placements) or `heldout` (stored states), gone through in order.
      seed: of the whole; an attempt's own seed comes from it and its number.
      mode: physics.
      clean: straight and steady instead of human-like.
    """

    bundle: Path
    split: str
    seed: int
    mode: Mode
    clean: bool


@dataclass(frozen=True)
class Attempt:
    """How one attempt ended.

    Attributes:
      number: from zero.
      success: whether the goal was reached.
      steps: control steps.
      seconds: of processor time; what else runs on the machine does not count.
    """

    number: int
    success: bool
    steps: int
    seconds: float


def make_attempts(
    job: Job,
    folder: Path,
    *,
    enough: Callable[[Sequence[Attempt]], bool],
    limit: int,
    pool: ProcessPoolExecutor,
    workers: int,
) -> Iterator[Attempt]:
    """Attempts in order, until there are enough.

    Each leaves a record in `folder`, and its episode where it succeeded; those that are there are not made again.
    What an attempt does depends on the job and its number alone, not on how many processes there are.

    Args:
      job: the task and how it is performed.
      folder: for episodes and records; another job needs another one.
      enough: whether these attempts will do.
      limit: attempts at most.
      pool: `rlgen.core.process.worker_pool(workers)`.
      workers: attempts at a time.
    """
    _claim(job, folder)
    done: list[Attempt] = []
    running: dict[int, Future[Attempt]] = {}
    try:
        while len(done) < limit and not enough(done):
            for number in range(len(done), min(len(done) + 2 * workers, limit)):
                if number not in running:
                    running[number] = pool.submit(attempt, job, folder, number)
            done.append(running.pop(len(done)).result())
            yield done[-1]
    finally:
        # What has begun ends before the folder is anybody else's.
        wait([future for future in running.values() if not future.cancel()])


def attempt(job: Job, folder: Path, number: int) -> Attempt:
    """Makes one attempt, or reads how it ended."""
    record = folder / f"{number:05d}.json"
    if record.is_file():
        return Attempt(**read_json(record))
    start = time.process_time()
    demonstrator = _demonstrator(job.bundle, job.clean)
    scene = demonstrator.scene
    trial = Trial(number % len(scene.initial_states(job.split)), _seed(job.seed, number))
    options = {"split": job.split, "source": SOURCE, "width": 1, "threads": 1, "mode": job.mode}
    [[episode]] = run_episodes(scene, demonstrator, [trial], **options)
    if episode.success:
        save_episode(folder / f"{number:05d}.npz", episode)
    ended = Attempt(number, episode.success, len(episode), time.process_time() - start)
    write_json(record, asdict(ended))
    return ended


def attempted_episode(folder: Path, number: int) -> Episode:
    """The episode of an attempt that succeeded."""
    return load_episode(folder / f"{number:05d}.npz")


def _claim(job: Job, folder: Path) -> None:
    """A folder belongs to one job."""
    mine, record = {**asdict(job), "bundle": job.bundle.name}, folder / "job.json"
    if record.is_file() and read_json(record) != mine:
        raise UserError(
            f"{folder} holds attempts made otherwise: {read_json(record)}; remove it or choose another --out"
        )
    write_json(record, mine)


def _seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0] >> 1)


@lru_cache(maxsize=1)
def _demonstrator(bundle: Path, clean: bool) -> ScriptedExpert:
    """A process attempts one task after the other, each of them many times."""
    return ScriptedExpert(load_bundle(bundle), clean=clean)


@dataclass(frozen=True)
class Recording:
    """What came of a task.

    Attributes:
      file: the demonstrations; None where there are none.
      demonstrations: how many there are.
      attempts: how many were made for them.
    """

    file: Path | None
    demonstrations: int
    attempts: int


def demonstration_file(out: Path, scene: Scene) -> Path:
    """Where a task's demonstrations go, as the public sets name them."""
    return out / scene.task.suite / f"{scene.task.name}_demo.hdf5"


def record_demonstrations(
    job: Job, out: Path, count: int, *, limit: int, pool: ProcessPoolExecutor, workers: int
) -> Iterator[Attempt | Recording]:
    """Attempts until `count` have succeeded, told one by one, and last what was recorded.

    The file appears whole once all attempts are made; before that, they lie in a folder beside it and an
    interrupted recording goes on with the next attempt. Where fewer than `count` succeed within the limit, the file
    holds those.

    Args:
      job: the task and how it is performed.
      out: folder for the files of all tasks.
      count: demonstrations wanted.
      limit: attempts at most.
      pool, workers: as for `make_attempts`.
    """
    scene = load_bundle(job.bundle)
    file = demonstration_file(out, scene)
    folder = file.with_suffix(".attempts")
    done: list[Attempt] = []
    attempts = make_attempts(
        job, folder, enough=lambda made: successes(made) >= count, limit=limit, pool=pool, workers=workers
    )
    for ended in attempts:
        done.append(ended)
        yield ended
    kept = [ended.number for ended in done if ended.success]
    if kept:
        episodes = [attempted_episode(folder, number) for number in kept]
        observer = Observer(scene)
        write_demos(file, episodes, [observer(e.states).robot for e in episodes], demo_file_info(scene))
        write_json(file.with_suffix(".json"), _summary(job, scene, done))
    shutil.rmtree(folder)
    yield Recording(file if kept else None, len(kept), len(done))


def successes(attempts: Sequence[Attempt]) -> int:
    """How many succeeded."""
    return sum(ended.success for ended in attempts)


def _summary(job: Job, scene: Scene, done: Sequence[Attempt]) -> dict[str, object]:
    lengths = [ended.steps for ended in done if ended.success]
    return {
        "task": scene.task.id,
        "prompt": scene.task.prompt,
        "assets": scene.assets,
        "split": job.split,
        "seed": job.seed,
        "mode": job.mode,
        "style": "clean" if job.clean else "human-like",
        "demonstrations": len(lengths),
        "attempts": len(done),
        "mean_length": float(np.mean(lengths)),
    }


@dataclass(frozen=True)
class Recorder:
    """What to record, and how.

    Attributes:
      out: folder for the files.
      count: demonstrations of each task.
      limit: attempts at each task at most.
      workers: processes.
      split, seed, mode, clean: as in `Job`.
    """

    out: Path
    count: int
    limit: int
    workers: int
    split: str
    seed: int
    mode: Mode
    clean: bool

    def record(
        self,
        tasks: Sequence[Task],
        assets: AssetSource,
        cache: Path,
        *,
        overwrite: bool,
        tell: Callable[[str], None],
    ) -> list[str]:
        """Records every task that is not there yet, and names those that came out short.

        Raises:
          UserError: a file that is there was recorded otherwise, or somebody else is recording there.
        """
        short = []
        bundles = build_bundles(tasks, assets, cache, workers=self.workers)
        with only_writer(self.out), worker_pool(self.workers) as pool:
            try:
                for task, bundle in zip(tasks, bundles, strict=True):
                    if not overwrite and self._is_there(task):
                        tell(f"{task.id}: done before")
                        continue
                    job = Job(bundle, self.split, self.seed, self.mode, self.clean)
                    recording = self._record_one(task, job, pool, tell)
                    short += [task.id] if recording.demonstrations < self.count else []
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return short

    def _record_one(self, task: Task, job: Job, pool: ProcessPoolExecutor, tell: Callable[[str], None]) -> Recording:
        events = record_demonstrations(job, self.out, self.count, limit=self.limit, pool=pool, workers=self.workers)
        good = 0
        for event in events:
            if isinstance(event, Recording):
                tell(f"{task.id}: {event.demonstrations} demonstrations of {event.attempts} attempts, {event.file}")
                return event
            assert isinstance(event, Attempt)
            good += event.success
            if (event.number + 1) % 10 == 0:
                tell(f"{task.id}: {good} of {event.number + 1} attempts succeeded")
        raise AssertionError("a recording ends with what was recorded")

    def _is_there(self, task: Task) -> bool:
        """Whether the task was recorded like this before."""
        record = self.out / task.suite / f"{task.name}_demo.json"
        if not record.is_file():
            return False
        told = read_json(record)
        asked = {"split": self.split, "seed": self.seed, "mode": self.mode}
        asked |= {"style": "clean" if self.clean else "human-like"}
        for name, value in asked.items():
            if told[name] != value:
                raise UserError(
                    f"{record.with_suffix('.hdf5')} was recorded with {name} {told[name]}, not {value}; "
                    "pass --overwrite or choose another --out"
                )
        return bool(told["demonstrations"] >= self.count)
