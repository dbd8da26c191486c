"""The evaluation loop: trials of an actor in a scene, run wave by wave into a sink that stores or counts them.

Every stage that needs episodes of an actor goes through `run_trials`: the stages `collect` and `evaluate` of a run, and
the success rates measured during training. They differ in the sink: an `EpisodeFolder` keeps whole episodes, a
`ScoreSink` keeps numbers. A VLA is slow enough that environments take turns in `evaluate.evaluate` instead.
A sink that stores episodes says which trials it has, so that an interrupted evaluation resumes with the missing ones.
"""

from collections.abc import Callable, Container, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

from rlgen.core.files import read_json, write_json
from rlgen.core.types import Episode
from rlgen.data.episode import load_episode, save_episode
from rlgen.libero.envs.rollouts import Actor, make_trials, run_episodes
from rlgen.libero.envs.worlds import World
from rlgen.libero.scenes.fixtures import Fixtures
from rlgen.libero.scenes.scene import Scene

# Environments that are stepped together.
WIDTH = 25


class EpisodeSink(Protocol):
    """Destination of finished episodes."""

    @property
    def finished(self) -> Container[int]:
        """Indices of the trials that need not be run."""

    @property
    def full(self) -> bool:
        """True once no further trial is needed."""

    def add(self, trials: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Takes a finished wave: the indices of its trials, and their episodes in the same order."""


def run_trials(
    scene: Scene,
    actor: Actor,
    count: int,
    sink: EpisodeSink,
    *,
    seed: int,
    split: str,
    source: str,
    offset: int = 0,
    width: int = WIDTH,
    threads: int = 2,
    physics: World = "exact",
    fixtures: Fixtures = "fixed",
    horizon: int | None = None,
    on_chunk: Callable[[int], None] | None = None,
    on_wave: Callable[[], None] | None = None,
) -> None:
    """Runs the trials that a sink lacks until all are finished or the sink is full.

    Trial `i` starts from initial state `offset + i` of the split, beginning again after the last state, and has a seed
    of its own. Its episode depends on nothing else, as far as the actor's arithmetic does not depend on the size of the
    batch: a short last wave is padded with repeated trials to `width`.

    Args:
      scene: the task's scene.
      actor: turns observations into action chunks.
      count: number of trials, those included that the sink already has.
      sink: takes each finished wave before the next one starts.
      seed: root of the trials' seeds.
      split: initial states to start from, `heldout` or the scene's `training_split`.
      source: who acts, as stored in the episodes.
      offset: initial states that are passed over.
      width: environments that are stepped together.
      threads: threads that step them.
      physics: `exact` or `fast`, or `warp` for MuJoCo Warp's on a GPU.
      fixtures: `fixed`, or `redraw`, which draws where they stand from the seed of each trial.
      horizon: control steps of an episode; the task's own by default.
      on_chunk: called after every action chunk with the number of unfinished episodes in the wave.
      on_wave: called after the sink has taken a wave.
    """
    finished = sink.finished
    missing = [trial for trial in range(count) if trial not in finished]
    if sink.full or not missing:
        return
    trials = make_trials(count, len(scene.initial_states(split)), seed=seed, offset=offset)
    waves = run_episodes(
        scene,
        actor,
        [trials[index] for index in missing],
        split=split,
        source=source,
        width=width,
        threads=threads,
        physics=physics,
        fixtures=fixtures,
        horizon=horizon,
        on_chunk=on_chunk,
    )
    with closing(waves):
        for episodes in waves:
            sink.add(missing[: len(episodes)], episodes)
            missing = missing[len(episodes) :]
            if on_wave is not None:
                on_wave()
            if sink.full:
                return


class EpisodeFolder:
    """A sink that stores whole episodes: `00003.npz` for trial 3, and `wave-00000.json` for the wave from trial 0 on.

    A wave's record is written after its episodes. Waves come in order, so that the trials that are finished are
    those before `tried`.

    Attributes:
      folder: of the files.
      wanted: number of successes after which the folder is full; then failures are not stored. None stores every
        episode.
      tried: trials that were run.
      names: file names of the episodes, in order, at most `wanted`.
    """

    def __init__(self, folder: Path, wanted: int | None = None):
        self.folder, self.wanted = folder, wanted
        self.tried, self.names = 0, list[str]()
        while not self.full and (record := self._record(self.tried)).is_file():
            wave = read_json(record)
            self._count(wave["tried"], wave["episodes"])

    @property
    def finished(self) -> range:
        """Indices of the trials that were run."""
        return range(self.tried)

    @property
    def full(self) -> bool:
        """True once `wanted` episodes have succeeded."""
        return self.wanted is not None and len(self.names) >= self.wanted

    def add(self, trials: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Stores a wave; on disk when this returns."""
        names = []
        for trial, episode in zip(trials, episodes, strict=True):
            if self.wanted is None or episode.success:
                names.append(f"{trial:05d}.npz")
                save_episode(self.folder / names[-1], episode)
        successes = sum(episode.success for episode in episodes)
        write_json(self._record(trials[0]), {"tried": len(trials), "episodes": names, "successes": successes})
        self._count(len(trials), names)

    def load(self) -> list[Episode]:
        """Reads the episodes, in order."""
        return [load_episode(self.folder / name) for name in self.names]

    def _record(self, first: int) -> Path:
        return self.folder / f"wave-{first:05d}.json"

    def _count(self, tried: int, names: list[str]) -> None:
        self.tried += tried
        self.names = (self.names + names)[: self.wanted]
