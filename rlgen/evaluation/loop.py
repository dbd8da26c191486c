"""Environments of one task as a policy's clients: pictures drawn, only those asked for that still go on."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from rlgen.core.errors import UserError
from rlgen.core.files import write_bytes
from rlgen.core.stats import SuccessRate
from rlgen.core.types import Episode, Observation
from rlgen.data.images import flip_vertical
from rlgen.evaluation.backends import PolicyBackend
from rlgen.evaluation.confusion import reached_instead
from rlgen.evaluation.protocol import Protocol
from rlgen.evaluation.records import Records, Trial, write_report
from rlgen.libero.envs.rollouts import make_trials, run_episodes
from rlgen.libero.rendering.renderer import Renderer, RendererName, make_renderer, render_states
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.tasks.suites import Task
from rlgen.report.video import clip_name, episode_gif
from rlgen.vla.serving.actor import legal_actions, robot_sample


class Drawer:
    """Pictures of a scene's states by several threads, each with a view that it made itself."""

    def __init__(self, scene: Scene, view: RendererName, size: int, threads: int):
        self._nq = scene.model.nq
        self._threads = [ThreadPoolExecutor(1) for _ in range(threads)]
        made = [thread.submit(make_renderer, view, scene.visual_model, size=size) for thread in self._threads]
        self._views: list[Renderer] = [view.result() for view in made]

    def __call__(self, physics: Float[np.ndarray, "N D"]) -> UInt8[np.ndarray, "N cameras h w 3"]:
        count, out = len(self._views), [None] * len(physics)

        def share(number: int) -> list[np.ndarray]:
            return [self._views[number].draw(state[1 : 1 + self._nq]) for state in physics[number::count]]

        shares = [thread.submit(share, number) for number, thread in enumerate(self._threads)]
        for number, images in enumerate(shares):
            out[number::count] = images.result()
        return np.stack(out)

    def close(self) -> None:
        """Ends the threads."""
        for thread in self._threads:
            thread.shutdown()


class EvaluationActor:
    """An actor in a pool of one task's environments.

    Args:
      asked: the policy.
      prompt: the instruction.
      draw: pictures of states, upside down as the benchmark draws them.
      replan: actions to execute before asking again.
    """

    def __init__(self, asked: PolicyBackend, prompt: str, draw: Drawer, replan: int):
        self._asked, self._prompt, self._draw, self._replan = asked, prompt, draw, replan
        self._seeds: list[int] = []
        self._steps: np.ndarray | None = None
        self._looks = 0

    @property
    def chunk(self) -> int:
        """Actions between two looks."""
        return self._replan

    def begin(self, seeds: Int[np.ndarray, " N"]) -> None:
        """New episodes in all rows."""
        self._seeds, self._steps, self._looks = [int(seed) for seed in seeds], None, 0

    def __call__(self, observation: Observation) -> Float[np.ndarray, "N H 7"]:
        """Actions of the rows that have moved on since the last look; zeros for those that are over."""
        rows = np.arange(len(observation.step))
        if self._steps is not None:
            rows = np.flatnonzero(observation.step != self._steps)
        self._steps = np.array(observation.step)
        out = np.zeros((len(observation.step), self._replan, 7), np.float32)
        if len(rows):
            samples = self._samples(observation, rows)
            actions = self._asked(samples, [self._seed(row) for row in rows])
            if actions.shape[1] < self._replan:
                raise UserError(f"{self._asked.name} answers {actions.shape[1]} actions, --replan is {self._replan}")
            out[rows] = legal_actions(actions[:, : self._replan])
        self._looks += 1
        return out

    def _samples(self, observation: Observation, rows: Int[np.ndarray, " M"]) -> Sequence[dict]:
        images, states = self._draw(observation.physics[rows]), observation.robot.vla_state[rows]
        return [robot_sample(state, each, self._prompt) for state, each in zip(states, images, strict=True)]

    def _seed(self, row: int) -> int:
        """Of an episode's noise at this look, whatever else is asked for."""
        return int(np.random.SeedSequence((self._seeds[row], self._looks)).generate_state(1)[0])


Tell = Callable[[str], None]
VIDEO_SIZE = 128


def evaluate(
    asked: PolicyBackend,
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
    asked: PolicyBackend,
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
    drawer = Drawer(scene, protocol.view, protocol.image_size, threads)
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
    images = render_states(scene.visual_model, episode.states[::2], size=VIDEO_SIZE, workers=threads)
    gif = episode_gif(flip_vertical(images[:, 0]), caption=scene.task.prompt, success=False, every=1, control_hz=10.0)
    write_bytes(folder / f"{clip_name('policy', scene.task.id, number, False)}.gif", gif)
