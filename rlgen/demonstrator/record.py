"""Demonstrations of a task as one file in LIBERO's HDF5 layout."""

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlgen.data.hdf5 import write_demos
from rlgen.demonstrator.attempts import Attempt, Job, attempted_episode, make_attempts
from rlgen.files import write_json
from rlgen.libero.demo_info import demo_file_info
from rlgen.libero.observe import Observer
from rlgen.libero.scene import Scene, load_bundle


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
