"""Rollouts of whole episodes: `run_episodes` runs an `Actor` in a vector environment from given initial states.

trials = make_trials(50, len(scene.stored_states), seed=0)
for episodes in run_episodes(scene, actor, trials, split="heldout", source="ppo"):
    successes += sum(episode.success for episode in episodes)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int

from rlgen.core.types import Episode, FixturePoses, Observation
from rlgen.libero.envs.vector_env import VectorEnv
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
            paths[row].states += list(result.states[row, : result.control_steps[row]])
            paths[row].actions += list(chunks[row, : result.control_steps[row]])
            paths[row].success |= bool(result.terminated[row])
        active &= ~(result.terminated | result.truncated)
        observation = result.observation
        if on_chunk is not None:
            on_chunk(int(active.sum()))
    return paths


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
