"""Trials of an actor that are measured and not kept: the numbers of a `data.metrics.score.Score`."""

from collections.abc import Callable, Container, Sequence

import numpy as np
from jaxtyping import Float

from rlgen.core.types import Episode
from rlgen.data.metrics.quality import Trace, trace_quality
from rlgen.data.metrics.score import QUALITIES, Score, make_score
from rlgen.evaluation.loop import WIDTH, run_trials
from rlgen.libero.envs.observations import Observer
from rlgen.libero.envs.rollouts import Actor
from rlgen.libero.envs.worlds import World
from rlgen.libero.scenes.fixtures import Fixtures
from rlgen.libero.scenes.scene import Scene


class ScoreSink:
    """A sink that measures episodes and keeps none of them.

    Args:
      scene: of the episodes.
      count: N, the number of trials.
      finished: indices of trials that are left out, which stay without success.
    """

    full = False

    def __init__(self, scene: Scene, count: int, finished: Container[int] = ()) -> None:
        self.finished = finished
        self._observer = Observer(scene)
        self._rows = np.zeros((count, 1 + len(QUALITIES)))

    def add(self, trials: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Measures a wave."""
        for trial, episode in zip(trials, episodes, strict=True):
            if episode.success:
                self._rows[trial] = 1, *_episode_row(self._observer, episode)

    @property
    def rows(self) -> Float[np.ndarray, "N 4"]:
        """Of each trial success and the numbers of `QUALITIES`; zeros where it failed or was left out."""
        return self._rows


def score_trials(
    scene: Scene,
    actor: Actor,
    count: int,
    *,
    seed: int,
    split: str,
    source: str,
    offset: int = 0,
    threads: int = 2,
    physics: World = "exact",
    fixtures: Fixtures = "fixed",
    share: tuple[int, int] = (0, 1),
    on_chunk: Callable[[int], None] | None = None,
) -> Float[np.ndarray, "N 4"]:
    """Runs `count` trials of an actor and measures them; the other arguments are those of `run_trials`.

    Args:
      scene: the task's scene.
      actor: turns observations into action chunks.
      count: number of trials.
      seed: root of the trials' seeds.
      split: initial states to start from, `heldout` or the scene's `training_split`.
      source: who acts.
      offset: initial states that are passed over.
      threads: threads that step the environments.
      physics: `exact` or `fast`, or `warp` for MuJoCo Warp's on a GPU.
      fixtures: `fixed`, or `redraw`, which draws where they stand from the seed of each trial.
      share: which part of the trials to run, of how many.
      on_chunk: called after every action chunk with the number of unfinished episodes in the wave.

    Returns:
      As of `ScoreSink.rows`; those of all shares add up to the whole, of which `make_score` makes a score.
    """
    part, parts = share
    sink = ScoreSink(scene, count, {trial for trial in range(count) if trial % parts != part})
    run_trials(
        scene,
        actor,
        count,
        sink,
        seed=seed,
        split=split,
        source=source,
        offset=offset,
        width=min(WIDTH, count),
        threads=threads,
        physics=physics,
        fixtures=fixtures,
        on_chunk=on_chunk,
    )
    return sink.rows


def score_episodes(scene: Scene, episodes: Sequence[Episode]) -> Score:
    """Returns the score of recorded episodes."""
    sink = ScoreSink(scene, len(episodes))
    sink.add(range(len(episodes)), episodes)
    return make_score(sink.rows)


def _episode_row(observer: Observer, episode: Episode) -> tuple[float, ...]:
    path = observer(episode.states).robot.position
    quality = trace_quality(Trace(episode.actions, path, episode.task))
    return tuple(float(getattr(quality, name)) for name in QUALITIES)
