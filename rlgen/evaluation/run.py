"""The evaluation of a policy on tasks: environments and questions in batches, resumed episode by episode."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rlgen.evaluation.actor import Drawer, EvaluationActor
from rlgen.evaluation.asking import Asked
from rlgen.evaluation.confusion import reached_instead
from rlgen.evaluation.protocol import Protocol
from rlgen.evaluation.records import Records, Trial
from rlgen.evaluation.report import write_report
from rlgen.files import write_bytes
from rlgen.libero.camera import to_upright
from rlgen.libero.draw import draw_states
from rlgen.libero.scene import Scene
from rlgen.libero.tasks import Task
from rlgen.report.intervals import SuccessRate
from rlgen.report.video import clip_name, episode_gif
from rlgen.rl.rollout import make_trials, run_episodes
from rlgen.types import Episode

Tell = Callable[[str], None]
VIDEO_SIZE = 128


def evaluate(
    asked: Asked,
    tasks: Sequence[Task],
    load: Callable[[Task], Scene],
    protocol: Protocol,
    out: Path,
    *,
    width: int = 25,
    threads: int = 2,
    videos: int = 3,
    tell: Tell = print,
) -> dict:
    """Runs what is missing of an evaluation and writes its report.

    Args:
      asked: the policy.
      tasks: which.
      load: a task's scene.
      protocol: how success is measured.
      out: folder; with the same settings it goes on where it was.
      width: environments of a task at once, and so observations asked for together.
      threads: that step environments and draw pictures.
      videos: failures of each task to keep as moving pictures.
      tell: hears how far it is.

    Returns:
      The report.
    """
    names = [task.id for task in tasks]
    records = Records(out, {"policy": asked.name, "tasks": names, "protocol": protocol.to_json()})
    for task in tasks:
        if len(records.done(task.id)) < protocol.trials:
            scene = load(task)
            others = [load(other) for other in tasks if other.suite == task.suite and other is not task]
            _evaluate_task(asked, scene, others, protocol, records, width, threads, videos, tell)
        mine = [trial.success for trial in records.trials if trial.task == task.id]
        tell(f"{task.id}: {SuccessRate(sum(mine), len(mine))}")
    return write_report(out, asked.name, protocol, records.trials)


def _evaluate_task(
    asked: Asked,
    scene: Scene,
    others: Sequence[Scene],
    protocol: Protocol,
    records: Records,
    width: int,
    threads: int,
    videos: int,
    tell: Tell,
) -> None:
    task = scene.task.id
    seed = protocol.seed * 1000 + scene.task.index
    every = make_trials(protocol.trials, len(scene.stored), seed=seed)
    missing = sorted(set(range(protocol.trials)) - records.done(task))
    drawer = Drawer(scene, protocol.view, protocol.picture_size, threads)
    try:
        actor = EvaluationActor(asked, scene.task.prompt, drawer, protocol.replan)
        options = {"split": "heldout", "source": "policy", "threads": threads, "mode": protocol.physics}
        waves = run_episodes(
            scene, actor, [every[number] for number in missing], width=min(width, len(missing)), **options
        )
        for episodes in waves:
            numbers, missing = missing[: len(episodes)], missing[len(episodes) :]
            failed = sum(not trial.success for trial in records.trials if trial.task == task)
            for number, episode in zip(numbers, episodes, strict=True):
                if not episode.success and failed < videos:
                    _keep_video(records.folder / "videos", scene, number, episode, threads)
                    failed += 1
            records.append([_trial(scene, others, n, e) for n, e in zip(numbers, episodes, strict=True)])
            done = records.done(task)
            tell(f"{task}: {len(done)} of {protocol.trials} episodes")
    finally:
        drawer.close()


def _trial(scene: Scene, others: Sequence[Scene], number: int, episode: Episode) -> Trial:
    reached = () if episode.success else reached_instead(scene, others, episode.states[0], episode.states[-1])
    return Trial(scene.task.id, number, episode.initial_index, bool(episode.success), len(episode), reached)


def _keep_video(folder: Path, scene: Scene, number: int, episode: Episode, threads: int) -> None:
    pictures = draw_states(scene.visual_model, episode.states[::2], size=VIDEO_SIZE, workers=threads)
    gif = episode_gif(to_upright(pictures[:, 0]), caption=scene.task.prompt, success=False, every=1, control_hz=10.0)
    write_bytes(folder / f"{clip_name('policy', scene.task.id, number, False)}.gif", gif)
