"""Recording many tasks: bundles first, then task after task, each over all processes."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rlgen.data.shards import only_writer
from rlgen.demonstrator.attempts import Attempt, Job
from rlgen.demonstrator.record import Recording, record_demonstrations
from rlgen.errors import UserError
from rlgen.files import read_json
from rlgen.libero.assets import AssetSource
from rlgen.libero.bundles import build_bundles
from rlgen.libero.environment import Mode
from rlgen.libero.tasks import Task
from rlgen.process import worker_pool


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
