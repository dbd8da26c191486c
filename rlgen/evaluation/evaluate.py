"""Success of a policy on tasks by the public protocol: what `rlgen eval` runs, without a run directory."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rlgen.core.files import write_bytes
from rlgen.core.stats import SuccessRate
from rlgen.core.types import Episode
from rlgen.data.images import flip_vertical
from rlgen.evaluation.backends import BackendActor, PolicyBackend
from rlgen.evaluation.confusion import reached_instead
from rlgen.evaluation.leaderboard import Circumstances, write_leaderboard
from rlgen.evaluation.protocol import Protocol
from rlgen.evaluation.records import Records, TrialRecord, write_report
from rlgen.libero.envs.rollouts import make_trials, stream_episodes
from rlgen.libero.envs.wide_resets import with_split
from rlgen.libero.rendering.pool import RenderPool
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.tasks.suites import Task
from rlgen.report.video import clip_name, episode_gif

VIDEO_SIZE = 128  # pixels
VIDEO_EVERY = 2  # one frame of so many control steps
CONTROL_HZ = 20.0


@dataclass(frozen=True)
class Parallelism:
    """Environments and threads that work side by side.

    Attributes:
      environments: of a task that play at once.
      groups: in which they take turns, so that the policy acts for one while others are stepped and rendered; a group's
        observations are one request.
      threads: threads that step environments, and as many that render images.
    """

    environments: int = 24
    groups: int = 3
    threads: int = 2


def evaluate(
    backend: PolicyBackend,
    tasks: Sequence[Task],
    load: Callable[[Task], Scene],
    protocol: Protocol,
    out: Path,
    *,
    parallelism: Parallelism | None = None,
    videos: int = 3,
    leaderboard: Circumstances | None = None,
    log: Callable[[str], None] = print,
) -> dict:
    """Runs the missing trials of an evaluation and writes its report.

    Args:
      backend: the policy.
      tasks: tasks to evaluate.
      load: returns a task's scene.
      protocol: how success is measured.
      out: folder of the results; with the same settings the evaluation resumes there.
      parallelism: environments and threads; results do not depend on them.
      videos: failures of each task to keep as GIFs.
      leaderboard: if given, results are also written in the layouts of `evaluation.leaderboard`.
      log: called with a line of progress after every wave and every task.

    Returns:
      The report, as stored in `report.json`.

    Raises:
      UserError: `out` holds another evaluation, or the backend's answers do not fit the protocol.
    """
    parallelism = parallelism or Parallelism()
    names = [task.id for task in tasks]
    records = Records(out, {"policy": backend.name, "tasks": names, "protocol": protocol.to_json()})
    for task in tasks:
        if len(records.done(task.id)) < protocol.trials:
            scene = with_split(load(task), protocol.split)
            others = [load(other) for other in tasks if other.suite == task.suite and other is not task]
            sink = _TaskSink(records, scene, others, videos, parallelism.threads)
            _run_task(backend, scene, protocol, sink, parallelism, log)
        results = [trial.success for trial in records.trials if trial.task == task.id]
        log(f"{task.id}: {SuccessRate(sum(results), len(results))}")
    if leaderboard is not None:
        for path in write_leaderboard(out, backend.name, protocol, tasks, records.trials, leaderboard):
            log(f"{path}: for the leaderboard of allenai/vla-evaluation-harness")
    return write_report(out, backend.name, protocol, records.trials)


def _run_task(
    backend: PolicyBackend,
    scene: Scene,
    protocol: Protocol,
    sink: "_TaskSink",
    parallelism: Parallelism,
    log: Callable[[str], None],
) -> None:
    trials = make_trials(
        protocol.trials,
        len(scene.initial_states(protocol.split)),
        seed=protocol.seed * 1000 + scene.task.index,
    )
    missing = [trial for trial in range(protocol.trials) if trial not in sink.finished]
    with (
        RenderPool(scene, protocol.renderer, image_size=protocol.image_size, workers=parallelism.threads) as pool,
        closing(
            stream_episodes(
                scene,
                BackendActor(backend, scene.task.prompt, pool.render, protocol.replan),
                [trials[index] for index in missing],
                split=protocol.split,
                source="policy",
                width=parallelism.environments,
                groups=1 if protocol.physics == "warp" else parallelism.groups,
                threads=parallelism.threads,
                physics=protocol.physics,
                fixtures=protocol.fixtures,
                abort=backend.abort,
            )
        ) as episodes,
    ):
        for done, (trial, episode) in enumerate(zip(missing, episodes, strict=True), 1):
            sink.add([trial], [episode])
            if done % parallelism.environments == 0 or done == len(missing):
                log(f"{scene.task.id}: {len(sink.finished)} of {protocol.trials} episodes")


@dataclass(frozen=True)
class _TaskSink:
    """The records of one task, with videos of its first failures."""

    records: Records
    scene: Scene
    others: Sequence[Scene]
    videos: int
    threads: int

    full = False

    @property
    def finished(self) -> set[int]:
        return self.records.done(self.scene.task.id)

    def add(self, trials: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Stores a wave; its videos come first, so that a trial with a record has its video."""
        task = self.scene.task.id
        failures = sum(not trial.success for trial in self.records.trials if trial.task == task)
        for trial, episode in zip(trials, episodes, strict=True):
            if not episode.success and failures < self.videos:
                self._write_video(trial, episode)
                failures += 1
        self.records.append([self._record(*pair) for pair in zip(trials, episodes, strict=True)])

    def _record(self, trial: int, episode: Episode) -> TrialRecord:
        success, (first, last) = bool(episode.success), episode.states[[0, -1]]
        scene = self.scene.placed(episode.fixtures)
        reached = () if success else reached_instead(scene, self.others, first, last)
        fixtures = None if episode.fixtures is None else episode.fixtures.tolist()
        return TrialRecord(scene.task.id, trial, episode.initial_index, success, len(episode), reached, fixtures)

    def _write_video(self, trial: int, episode: Episode) -> None:
        with RenderPool(self.scene, image_size=VIDEO_SIZE, workers=self.threads) as pool:
            images = pool.render(episode.states[::VIDEO_EVERY], fixtures=episode.fixtures)
        gif = episode_gif(
            flip_vertical(images[:, 0]),
            caption=self.scene.task.prompt,
            success=False,
            every=1,
            control_hz=CONTROL_HZ / VIDEO_EVERY,
        )
        write_bytes(self.records.folder / "videos" / clip_name("policy", self.scene.task.id, trial, False), gif)
