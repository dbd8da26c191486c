"""Rollouts of whole episodes from given initial states.

`run_episodes` runs an `Actor` in a vector environment, wave by wave; `stream_episodes` is for a policy that is slow, or
computes elsewhere: it asks for some environments while others are stepped.

trials = make_trials(50, len(scene.stored_states), seed=0)
for episodes in run_episodes(scene, actor, trials, split="heldout", source="ppo"):
    successes += sum(episode.success for episode in episodes)
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from queue import SimpleQueue
from threading import Event
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int

from rlgen.core.types import Episode, FixturePoses, Observation
from rlgen.libero.envs.vector_env import ChunkResult, VectorEnv
from rlgen.libero.envs.worlds import World, make_vector_env
from rlgen.libero.scenes.fixtures import Fixtures
from rlgen.libero.scenes.scene import Scene


class Actor(Protocol):
    """Anything that turns observations of N environments into action chunks."""

    def reset(self, seeds: Int[np.ndarray, " N"]) -> None:
        """Prepares for new episodes in all N rows; random numbers of a row must depend on its seed alone."""

    def __call__(self, observation: Observation) -> Float[np.ndarray, "N H 7"]:
        """Returns the next action chunk of every row."""


@dataclass(frozen=True)
class Trial:
    """An episode to run.

    Attributes:
      initial_index: index of the initial state within its split.
      seed: the actor's.
    """

    initial_index: int
    seed: int


def make_trials(count: int, num_states: int, *, seed: int, offset: int = 0) -> list[Trial]:
    """Makes trials that go through the initial states in order, each with its own seed.

    Args:
      count: number of trials.
      num_states: number of initial states; after the last one the first follows.
      seed: root of the trials' seeds.
      offset: number of trials to skip: `make_trials(2, n, seed=s, offset=3)` is `make_trials(5, n, seed=s)[3:]`.
    """
    indices = range(offset, offset + count)
    seeds = [int(np.random.SeedSequence((seed, index)).generate_state(1)[0] >> 1) for index in indices]
    return [Trial(index % num_states, trial_seed) for index, trial_seed in zip(indices, seeds, strict=True)]


def run_episodes(
    scene: Scene,
    actor: Actor,
    trials: Sequence[Trial],
    *,
    split: str,
    source: str,
    width: int = 25,
    threads: int = 2,
    physics: World = "exact",
    fixtures: Fixtures = "fixed",
    horizon: int | None = None,
    on_chunk: Callable[[int], None] | None = None,
) -> Iterator[list[Episode]]:
    """Runs each trial once, in waves of `width` environments, and yields the episodes of each wave in order.

    An episode depends on its trial alone, as far as the actor's arithmetic does not depend on the size of the batch:
    the last wave is padded with repeated trials to `width`.

    Args:
      scene: the task's scene.
      actor: the policy.
      trials: the episodes to run.
      split: which initial states `Trial.initial_index` refers to, `heldout` or the scene's `training_split`.
      source: who acts, as stored in the episodes.
      width: environments that are stepped together.
      threads: threads that step them.
      physics: `exact` or `fast`, or `warp` for MuJoCo Warp's on a GPU.
      fixtures: `fixed`, or `redraw`, which draws where they stand from the seed of each trial.
      horizon: control steps of an episode; the task's own by default.
      on_chunk: called after every action chunk with the number of unfinished episodes of the wave.
    """
    env = make_vector_env([scene] * width, physics, threads=threads, horizon=horizon)
    states = scene.initial_states(split)
    try:
        for start in range(0, len(trials), width):
            wave = list(trials[start : start + width])
            padded = wave + [wave[-1]] * (width - len(wave))
            initial_states = states[[trial.initial_index for trial in padded]]
            poses = [scene.draw_fixtures(fixtures, trial.seed) for trial in padded]
            paths = _run_wave(env, actor, initial_states, poses, [trial.seed for trial in padded], on_chunk)
            yield [
                _episode(scene, trial, split, source, initial, stand, path)
                for trial, initial, stand, path in zip(wave, initial_states, poses, paths, strict=False)
            ]
    finally:
        env.close()


@dataclass
class _Path:
    """An episode as it grows: states before each action and after the last, actions, success."""

    states: list[np.ndarray]
    actions: list[np.ndarray]
    success: bool = False

    def add(self, result: ChunkResult, chunks: Float[np.ndarray, "N H 7"], row: int) -> None:
        """Adds what an environment has done of a chunk."""
        self.states += list(result.states[row, : result.control_steps[row]])
        self.actions += list(chunks[row, : result.control_steps[row]])
        self.success |= bool(result.terminated[row])


def _run_wave(
    env: VectorEnv,
    actor: Actor,
    initial_states: Float[np.ndarray, "N D"],
    fixtures: Sequence[FixturePoses | None],
    seeds: Sequence[int],
    on_chunk: Callable[[int], None] | None,
) -> list[_Path]:
    observation = env.reset(initial_states, fixtures)
    actor.reset(np.array(seeds))
    paths = [_Path([state], []) for state in observation.physics]
    active = np.ones(env.num_envs, bool)
    while active.any():
        # Executed in the precision that is stored: a replay of the float32 actions takes the same path.
        chunks = np.asarray(actor(observation), np.float32)
        result = env.step(chunks, active=active)
        for row in np.flatnonzero(active):
            paths[row].add(result, chunks, row)
        active &= ~(result.terminated | result.truncated)
        observation = result.observation
        if on_chunk is not None:
            on_chunk(int(active.sum()))
    return paths


class Ask(Protocol):
    """A function that turns observations of environments into action chunks. Several threads may call it at once."""

    def __call__(
        self, observation: Observation, rows: Int[np.ndarray, " M"], seeds: Sequence[int], chunks: Sequence[int]
    ) -> Float[np.ndarray, "M H 7"]:
        """Returns the next chunks of some environments, each of which must depend on its own row alone.

        Args:
          observation: of N environments.
          rows: indices of those that are asked for.
          seeds: of their trials.
          chunks: how many chunks each episode has had before.
        """


def stream_episodes(
    scene: Scene,
    ask: Ask,
    trials: Sequence[Trial],
    *,
    split: str,
    source: str,
    width: int = 24,
    groups: int = 3,
    threads: int = 2,
    physics: World = "exact",
    fixtures: Fixtures = "fixed",
    horizon: int | None = None,
    abort: Callable[[], None] | None = None,
) -> Iterator[Episode]:
    """Runs each trial once, and yields the episodes in order.

    Environments work in groups, each with a thread that waits for its actions while other groups are stepped and
    rendered. An environment whose episode is over begins the next trial, so that all of them have work until trials run
    out. An episode depends on its trial alone.

    Args:
      scene: the task's scene.
      ask: the policy.
      trials: the episodes to run.
      split: as of `run_episodes`, and likewise source, threads, physics, fixtures and horizon.
      source: who acts.
      width: environments of all groups; what does not divide is left out.
      groups: their number, at most `width`.
      threads: threads that step environments.
      physics: of the environments.
      fixtures: where they stand.
      horizon: control steps of an episode.
      abort: ends calls of `ask` that wait; called where one has failed, or episodes are not wanted any more.
    """
    groups = max(1, min(groups, width, len(trials)))
    size = min(width // groups, -(-len(trials) // groups))
    env = make_vector_env([scene] * (groups * size), physics, threads=threads, horizon=horizon)
    shared = _Stream(scene, ask, trials, split, source, fixtures)
    workers, waiting, wanted = ThreadPoolExecutor(groups), dict[int, Episode](), 0
    try:
        for group in env.split(groups):
            workers.submit(shared.run, group)
        while wanted < len(trials):
            found = shared.results.get()
            if isinstance(found, BaseException):
                raise found
            waiting[found[0]] = found[1]
            while wanted in waiting:
                yield waiting.pop(wanted)
                wanted += 1
    finally:
        shared.stopped.set()
        if abort is not None and wanted < len(trials):
            abort()
        workers.shutdown()
        env.close()


@dataclass(frozen=True)
class _Running:
    """An episode that an environment plays: index of its trial, where it began, and its path so far."""

    index: int
    trial: Trial
    initial_state: Float[np.ndarray, " D"]
    fixtures: FixturePoses | None
    path: _Path
    chunks: Iterator[int] = field(default_factory=count)


@dataclass(frozen=True)
class _Stream:
    """Trials that groups of environments share; fields as of `stream_episodes`, `results` has episodes or an error."""

    scene: Scene
    ask: Ask
    trials: Sequence[Trial]
    split: str
    source: str
    fixtures: Fixtures
    results: "SimpleQueue[tuple[int, Episode] | BaseException]" = field(default_factory=SimpleQueue)
    stopped: Event = field(default_factory=Event)
    started: Iterator[int] = field(default_factory=count)

    def run(self, env: VectorEnv) -> None:
        """Plays trials in the environments of a group until none is left."""
        try:
            running: dict[int, _Running] = {}
            observation: Observation | None = None
            while not self.stopped.is_set():
                observation = self._begin(env, running) or observation
                if observation is None or not running:
                    return
                observation = self._play(env, running, observation)
        except BaseException as error:
            self.results.put(error)

    def _begin(self, env: VectorEnv, running: dict[int, _Running]) -> Observation | None:
        """Begins trials in environments that play none; returns the observation if there were any."""
        free = [row for row in range(env.num_envs) if row not in running]
        # The next number of a counter is taken by one thread alone.
        started = {row: index for row in free if (index := next(self.started)) < len(self.trials)}
        if not started:
            return None
        trials = [self.trials[index] for index in started.values()]
        states = self.scene.initial_states(self.split)[[trial.initial_index for trial in trials]]
        poses = [self.scene.draw_fixtures(self.fixtures, trial.seed) for trial in trials]
        observation = env.reset_rows(np.array(list(started)), states, poses)
        for (row, index), trial, state, stand in zip(started.items(), trials, states, poses, strict=True):
            running[row] = _Running(index, trial, state, stand, _Path([observation.physics[row]], []))
        return observation

    def _play(self, env: VectorEnv, running: dict[int, _Running], observation: Observation) -> Observation:
        """Asks for a chunk of each episode and executes them; episodes that end are passed on."""
        rows = np.array(sorted(running))
        episodes = [running[row] for row in rows]
        # Executed in the precision that is stored, as in `run_episodes`.
        answers = self.ask(observation, rows, [e.trial.seed for e in episodes], [next(e.chunks) for e in episodes])
        chunks = np.zeros((env.num_envs, *answers.shape[1:]), np.float32)
        chunks[rows] = answers
        result = env.step(chunks, active=np.isin(np.arange(env.num_envs), rows))
        for row, each in zip(rows.tolist(), episodes, strict=True):
            each.path.add(result, chunks, row)
            if result.terminated[row] or result.truncated[row]:
                initial = (each.trial, self.split, self.source, each.initial_state, each.fixtures)
                self.results.put((each.index, _episode(self.scene, *initial, each.path)))
                del running[row]
        return result.observation


def _episode(
    scene: Scene,
    trial: Trial,
    split: str,
    source: str,
    initial_state: Float[np.ndarray, " D"],
    fixtures: FixturePoses | None,
    path: _Path,
) -> Episode:
    return Episode(
        task=scene.task.id,
        prompt=scene.task.prompt,
        source=source,
        initial_index=trial.initial_index,
        split=split,
        seed=trial.seed,
        initial_state=initial_state,
        states=np.stack(path.states),
        actions=np.stack(path.actions),
        rewards=np.r_[np.zeros(len(path.actions) - 1), path.success].astype(np.float32),
        success=path.success,
        fixtures=fixtures,
    )
