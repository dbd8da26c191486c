"""Many attempts of the demonstrator at one task, over processes; what was done stays done."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from rlgen.data.episodes import load_episode, save_episode
from rlgen.demonstrator.actor import Demonstrator
from rlgen.errors import UserError
from rlgen.files import read_json, write_json
from rlgen.libero.environment import Mode
from rlgen.libero.scene import load_bundle
from rlgen.rl.rollout import Trial, run_episodes
from rlgen.types import Episode

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
      pool: `rlgen.process.worker_pool(workers)`.
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
def _demonstrator(bundle: Path, clean: bool) -> Demonstrator:
    """A process attempts one task after the other, each of them many times."""
    return Demonstrator(load_bundle(bundle), clean=clean)
